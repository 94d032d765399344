"""A process that cannot take part in a communicator says why, and every process raises it.

What it says travels in the place of what the others wait for: nobody is left waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mooncake_mpi import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Gives the entries of all processes, which are equally long, in rank order; collective.
Exchange: TypeAlias = "Callable[[bytes], bytearray]"

# What a process that cannot take part sends begins with this; a head begins with another word.
_REFUSED = b"\0refused\0\0\0\0\0\0\0\0"
_TEXT_BYTES = 256
_NO_REFUSAL = bytes(_TEXT_BYTES)
# The word of a head that has its part, where the process cannot take any.
_CANNOT: int = memoryview(_native.HEAD_OF_REFUSAL).cast("I")[1]


class Heads:
    """The heads of all processes, in rank order, as an :data:`Exchange` gave them."""

    __slots__ = ("_words", "raw")

    def __init__(self, raw: bytearray) -> None:
        self.raw = raw
        self._words = memoryview(raw).cast("I")

    @property
    def numbers(self) -> list[int]:
        """Of their contexts."""
        return self._words[2::8].tolist()

    @property
    def longest_address(self) -> int:
        """In bytes."""
        return max(self._words[3::8])

    def refuse(self) -> bool:
        """Whether a process cannot take part."""
        return _CANNOT in self._words[1::8]


def told(exchange: Exchange, failure: BaseException | None) -> str:
    """Which ranks cannot take part, and why; collective.

    Args:
        exchange: how the processes tell each other.
        failure: why this one cannot, if so.
    """
    return among(exchange(_NO_REFUSAL if failure is None else refusal(failure)))


def refusal(error: BaseException) -> bytes:
    """What a process sends in the place of its address, because of ``error``."""
    text = f"{type(error).__name__}: {error}".encode(errors="replace")
    return (_REFUSED + text[: _TEXT_BYTES - len(_REFUSED)]).ljust(_TEXT_BYTES, b"\0")


def refusals(entries: Mapping[int, bytes]) -> str:
    """Which ranks cannot take part, and why, of what they sent; empty if all can."""
    return "; ".join(
        f"rank {rank}: {entry[len(_REFUSED) :].rstrip(bytes(1)).decode(errors='replace')}"
        for rank, entry in entries.items()
        if entry.startswith(_REFUSED)
    )


def padded(head: bytes) -> bytes:
    """A head, as long as a refusal that may stand in its place."""
    return head.ljust(_TEXT_BYTES, b"\0")


def unpadded(entries: bytearray) -> Heads:
    """The heads in what an :data:`Exchange` gave of padded ones."""
    size = _native.HEAD_BYTES
    places = range(0, len(entries), _TEXT_BYTES)
    return Heads(bytearray().join(entries[at : at + size] for at in places))


def among(entries: bytearray) -> str:
    """As :func:`refusals`, of what an :data:`Exchange` gave."""
    size = _TEXT_BYTES
    places = range(0, len(entries), size)
    return refusals({at // size: bytes(entries[at : at + size]) for at in places})
