"""Pieces of a GPU's memory, as messages take them."""

from __future__ import annotations

from typing import Any

_LEGACY_STREAM = 1  # as the interface has it


class Block:
    """So many bytes, used by their library in the order of a stream.

    Attributes:
        address: of the first byte.
        nbytes: how many.
        owner: the library's object that keeps the memory.
    """

    __slots__ = ("_stream", "address", "nbytes", "owner")

    def __init__(self, address: int, nbytes: int, stream: int, owner: Any) -> None:
        self.address, self.nbytes, self.owner = address, nbytes, owner
        self._stream = stream or _LEGACY_STREAM

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": (self.nbytes,),
            "typestr": "|u1",
            "data": (self.address, False),
            "strides": None,
            "version": 3,
            "stream": self._stream,
        }
