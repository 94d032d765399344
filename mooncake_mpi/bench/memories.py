"""The memory that messages lie in: NumPy arrays, ``MPI.Alloc_mem``, torch tensors, CuPy arrays.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]


class Memory:
    """Allocates ``size_bytes`` of bytes as a one-dimensional array; this one through NumPy."""

    on_gpu = False

    def new(self, size_bytes: int) -> Any:
        """An array with every page touched."""
        return np.ones(size_bytes, np.uint8)

    def free(self, array: Any) -> None:
        """Give back what ``new`` made."""

    def write(self, array: Any, content: Bytes) -> None:
        """Copy host bytes into the array."""
        array[:] = content

    def read(self, array: Any) -> Bytes:
        """The bytes of the array, in host memory."""
        return np.asarray(array)


class AllocMemory(Memory):
    """``Alloc_mem`` of an ``MPI`` module: each library gets what it made for its messages."""

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._blocks: dict[int, Any] = {}

    def new(self, size_bytes: int) -> Any:
        """An array over memory of ``Alloc_mem``."""
        if size_bytes == 0:
            return np.empty(0, np.uint8)
        block = self._mpi.Alloc_mem(size_bytes)
        array = np.frombuffer(block, np.uint8)
        array[:] = 1
        self._blocks[id(array)] = block
        return array

    def free(self, array: Any) -> None:
        """Hand the memory back with ``Free_mem``; the array must not be used any more."""
        block = self._blocks.pop(id(array), None)
        if block is not None:
            self._mpi.Free_mem(block)


class TorchMemory(Memory):
    """Tensors of torch on ``device``, for example ``"cpu"`` or ``"cuda:1"``."""

    def __init__(self, device: str) -> None:
        self._torch: Any = import_module("torch")
        self._device = device
        self.on_gpu = not device.startswith("cpu")

    def new(self, size_bytes: int) -> Any:
        """A tensor of uint8."""
        return self._torch.ones(size_bytes, dtype=self._torch.uint8, device=self._device)

    def write(self, array: Any, content: Bytes) -> None:
        """Copy, and wait until the device has the bytes."""
        array.copy_(self._torch.from_numpy(content.copy()))
        self._synchronize()

    def read(self, array: Any) -> Bytes:
        """A host copy of a device tensor; a view of one in host memory."""
        self._synchronize()
        return np.asarray(array.cpu().numpy())

    def _synchronize(self) -> None:
        if self.on_gpu:
            self._torch.cuda.synchronize()


class CupyMemory(Memory):
    """CuPy arrays on the current device."""

    on_gpu = True

    def __init__(self) -> None:
        self._cupy: Any = import_module("cupy")

    def new(self, size_bytes: int) -> Any:
        """An array of uint8."""
        array = self._cupy.empty(size_bytes, self._cupy.uint8)
        if size_bytes:
            array.data.memset(1, size_bytes)
        self._cupy.cuda.get_current_stream().synchronize()
        return array

    def write(self, array: Any, content: Bytes) -> None:
        """Copy, and wait until the device has the bytes."""
        array.set(content)
        self._cupy.cuda.get_current_stream().synchronize()

    def read(self, array: Any) -> Bytes:
        """A host copy."""
        return np.asarray(self._cupy.asnumpy(array))


@dataclass(frozen=True)
class Buffer:
    """``carrier`` is what a peer's calls take: the array, or another library's view of it."""

    memory: Memory
    array: Any
    carrier: Any
    size_bytes: int

    def write(self, content: Bytes) -> None:
        """Copy host bytes into the buffer."""
        self.memory.write(self.array, content)

    def read(self) -> Bytes:
        """The buffer's bytes, in host memory."""
        return self.memory.read(self.array)
