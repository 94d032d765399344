"""What the ranks of a group must agree on about a collective operation, and how a tag carries it.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

OPERATIONS = (
    *("barrier", "broadcast", "all_reduce", "reduce", "all_gather", "reduce_scatter"),
    *("gather", "scatter", "all_to_all", "monitored_barrier"),
)
_KINDS = {name: kind for kind, name in enumerate(OPERATIONS)}
# A tag is a sequence number, a mark of ten bits, and the kind of operation in four.
_SEQUENCES = 1 << 13
_LARGEST_PRIME = 1021


class _Numbers(dict["torch.dtype", int]):
    """A number for each type of elements, the same in every process."""

    def __missing__(self, dtype: torch.dtype) -> int:
        number = self[dtype] = zlib.crc32(str(dtype).encode()) % _LARGEST_PRIME
        return number


_NUMBERS = _Numbers()


class Call(NamedTuple):
    """An operation as one rank has called it.

    Attributes:
        name: one of :data:`OPERATIONS`.
        sequence: its number in the group.
        tensors: those whose sizes and types all ranks must have.
        numbers: what else they must have: the root, the reduction.
        types: of the elements of tensors whose sizes may differ.
    """

    name: str
    sequence: int
    tensors: Sequence[torch.Tensor] = ()
    numbers: tuple[int, ...] = ()
    types: tuple[torch.dtype, ...] = ()

    @property
    def tag(self) -> int:
        """Of the operation's messages: ranks that call something else have another one."""
        mark = 0
        for tensor in self.tensors:
            mark = mark * 31 + tensor.numel() * 7 + _NUMBERS[tensor.dtype]
        for dtype in self.types:
            mark = mark * 31 + _NUMBERS[dtype]
        for number in self.numbers:
            mark = mark * 31 + number + 1
        mark %= _LARGEST_PRIME
        return self.sequence % _SEQUENCES << 14 | mark << 4 | _KINDS[self.name]

    def __str__(self) -> str:
        shapes = [f"{tensor.numel()} of {_short(tensor.dtype)}" for tensor in self.tensors[:4]]
        shapes += [_short(dtype) for dtype in self.types[:4]]
        if len(shapes) > 3:
            shapes[3:] = ["..."]
        return f"{self.name}({', '.join(shapes)}), operation {self.sequence}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def of_tag(tag: int, near: int) -> tuple[str, int]:
    """The name and the number of the operation that a message is of.

    Args:
        tag: the message's.
        near: the number of an operation that was called not long before or after.
    """
    kind = tag % 16
    name = OPERATIONS[kind] if kind < len(OPERATIONS) else "?"
    distance = (tag >> 14) - near
    return name, near + (distance + _SEQUENCES // 2) % _SEQUENCES - _SEQUENCES // 2
