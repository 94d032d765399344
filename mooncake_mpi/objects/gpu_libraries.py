"""What CuPy and torch have to do with objects: arrays of GPUs that are pickled, and made again.

Called in the program's threads, no lock of its own. Their reducers are in ``copyreg``'s table,
which every pickler asks, once the library was met. They do something of their own only while an
object is pickled to be sent; at any other time an array pickles itself, as it does without them.

Of torch's tensors the storages go, as its own pickling has it: so all that a tensor is besides its
elements is torch's matter, and tensors that share their memory do so at the receiver.
"""

from __future__ import annotations

import copyreg
import sys
from typing import TYPE_CHECKING, Any

from mooncake_mpi.objects import gpu_receives, gpu_sends
from mooncake_mpi.objects.gpu_blocks import Block

if TYPE_CHECKING:
    from collections.abc import Callable

# What is done when a library is met; false: nothing of it is a GPU's.
_FIRST: dict[str, Callable[[Any], bool]] = {}
# Those that may still be met; replaced as a whole, for other threads read it.
_unmet: tuple[str, ...] = ("cupy", "torch")
_met = False
_loaded = sys.modules
_looked_at = -1  # so many modules
# The kind of torch's devices.
_DEVICE = "cuda"


def met() -> bool:
    """Whether the program has loaded a library of arrays that may be a GPU's."""
    if len(_loaded) != _looked_at:  # every object that is sent asks
        _look()
    return _met


def _look() -> None:
    global _looked_at, _met, _unmet  # noqa: PLW0603 - of the process
    count, known, all_whole = len(_loaded), set(), True
    for name in _unmet:
        if name in _loaded:
            try:
                _met |= _FIRST[name](_loaded[name])
                known.add(name)
            except AttributeError:  # another thread is still importing it
                all_whole = False
    _unmet = tuple(name for name in _unmet if name not in known)
    _looked_at = count if all_whole else -1


def _meet_cupy(cupy: Any) -> bool:
    copyreg.pickle(cupy.ndarray, _reduce_cupy)
    return True


def _reduce_cupy(array: Any) -> Any:
    departing = gpu_sends.current()
    if departing is None or not departing.takes(array.data.ptr, array.nbytes):
        return array.__reduce__()
    cupy = sys.modules["cupy"]
    with array.device:
        by_columns = array.flags.f_contiguous and not array.flags.c_contiguous
        whole = array.T if by_columns else array
        whole = whole.copy() if departing.copies else cupy.ascontiguousarray(whole)
        stream = cupy.cuda.get_current_stream().ptr
        index = departing.add("cupy", Block(whole.data.ptr, whole.nbytes, stream, whole))
    order = "F" if by_columns else "C"
    return _cupy_array, (departing.key, index, array.shape, array.dtype, order)


def _cupy_array(key: Any, index: int, shape: tuple[int, ...], dtype: Any, order: str) -> Any:
    memory = gpu_receives.owner(key, index)
    return sys.modules["cupy"].ndarray(shape, dtype, memptr=memory, order=order)


def _allocate_cupy(nbytes: int) -> Block:
    import cupy

    memory = cupy.cuda.alloc(nbytes)
    return Block(memory.ptr, nbytes, cupy.cuda.get_current_stream().ptr, memory)


def _meet_torch(torch: Any) -> bool:
    if torch.version.cuda is None:
        return False
    copyreg.pickle(torch.storage.TypedStorage, _reduce_typed_storage)
    copyreg.pickle(torch.storage.UntypedStorage, _reduce_storage)
    return True


def _reduce_typed_storage(storage: Any) -> Any:
    place = _taken(storage._untyped_storage)
    if place is None:
        return storage.__reduce__()
    return _storage, (*place, storage.dtype)


def _reduce_storage(memory: Any) -> Any:
    place = _taken(memory)
    if place is None:
        return memory.__reduce__()
    # Torch's tensors expect one with a type here, too.
    return _storage, (*place, sys.modules["torch"].uint8)


def _taken(memory: Any) -> tuple[gpu_receives.Key, int] | None:
    """The object's key and the number of a storage in it, if that goes beside the stream."""
    departing = gpu_sends.current()
    if departing is None or memory.device.type != _DEVICE:
        return None
    index = departing.known(memory.data_ptr())
    if index is None:
        if not departing.takes(memory.data_ptr(), memory.nbytes()):
            return None
        whole = memory.clone() if departing.copies else memory
        index = departing.add("torch", _torch_block(whole), memory.data_ptr())
    return departing.key, index


def _storage(key: Any, index: int, dtype: Any) -> Any:
    memory = gpu_receives.owner(key, index)
    return sys.modules["torch"].storage.TypedStorage(
        wrap_storage=memory, dtype=dtype, _internal=True
    )


def _torch_block(memory: Any) -> Block:
    stream = sys.modules["torch"].cuda.current_stream(memory.device).cuda_stream
    return Block(memory.data_ptr(), memory.nbytes(), stream, memory)


def _allocate_torch(nbytes: int) -> Block:
    import torch

    return _torch_block(torch.UntypedStorage(nbytes, device=_DEVICE))


_FIRST.update(cupy=_meet_cupy, torch=_meet_torch)
gpu_receives.ALLOCATE.update(cupy=_allocate_cupy, torch=_allocate_torch)
