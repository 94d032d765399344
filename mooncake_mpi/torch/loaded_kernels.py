"""Operations whose kernels are loaded, so that they may run behind what a stream waits for.

A kernel that is launched for the first time is loaded then, which keeps the program, and the
driver, until what is before it in the stream has ended: two ranks that wait for each other would so
for ever. The first operation of a kind therefore runs while its program waits. Called in the
program's threads; the operations of a set are atomic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

# Torch chooses a kernel by how memory is aligned, and of pieces that follows from their number.
_ALIGNMENT = 64
_PIECES = 128


class LoadedKernels:
    """The kinds of operations of one group that have run."""

    def __init__(self) -> None:
        self._kinds: set[tuple[object, ...]] = set()

    @staticmethod
    def kind(
        name: str, numbers: tuple[int, ...], tensors: Sequence[torch.Tensor]
    ) -> tuple[object, ...]:
        """What the kernels of an operation depend on.

        Args:
            name: of the operation.
            numbers: the root, the reduction.
            tensors: those that it reads and writes.
        """
        shapes = [
            (tensor.dtype, tensor.numel() % _PIECES, tensor.data_ptr() % _ALIGNMENT)
            for tensor in tensors
        ]
        return (name, numbers, *shapes)

    def have(self, kind: tuple[object, ...]) -> bool:
        """Whether those of this kind are loaded; they are from the next time on."""
        if kind in self._kinds:
            return True
        self._kinds.add(kind)
        return False
