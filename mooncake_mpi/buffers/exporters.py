"""The memory behind an object: buffer protocol, DLPack, CUDA array interface, torch tensor.

Called in the program's threads, no lock of its own. The ways are tried in mpi4py's order, with its
exceptions; what is refused says what to do instead.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from mpi4py import MPI

from mooncake_mpi.buffers import cuda_array_interface, dlpack, torch_tensors
from mooncake_mpi.buffers.memory import is_host_readable

if TYPE_CHECKING:
    from collections.abc import Callable

_WRITABLE = 0x0001
_FORMAT = 0x0004
_ANY_CONTIGUOUS = 0x0080 | 0x0010 | 0x0008

#: Exporters whose buffer mpi4py's own wrapper takes, in one call and without a Python frame.
#: NumPy's arrays are added when the first one is seen.
PLAIN_TYPES: set[type] = {bytes, bytearray, memoryview, array}

_TORCH_FORMATS = {
    "torch.bool": "?",
    "torch.int8": "b",
    "torch.int16": "h",
    "torch.int32": "i",
    "torch.int64": "l",
    "torch.uint8": "B",
    "torch.uint16": "H",
    "torch.uint32": "I",
    "torch.uint64": "L",
    "torch.float16": "e",
    "torch.float32": "f",
    "torch.float64": "d",
    "torch.complex32": "Ze",
    "torch.complex64": "Zf",
    "torch.complex128": "Zd",
}


class Memory(NamedTuple):
    """Contiguous memory of another object, of the host or of a GPU.

    Attributes:
        address: of the first byte.
        nbytes: length.
        format: one element's format (PEP 3118); ``"B"`` where it was not asked for.
        owner: keeps the memory alive, and an exporter from being resized.
        stream: of a GPU's memory, the one in whose order the program uses it (a CUDA handle);
            ``None`` for host memory.
    """

    address: int
    nbytes: int
    format: str
    owner: Any
    stream: int | None = None


class _PyBuffer(ctypes.Structure):
    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_check_buffer = ctypes.pythonapi.PyObject_CheckBuffer
_check_buffer.argtypes = (ctypes.py_object,)
_check_buffer.restype = ctypes.c_int
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_get_buffer.restype = ctypes.c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None


class _Export:
    """A buffer taken from its exporter until this object dies."""

    __slots__ = ("view",)

    def __init__(self, obj: Any, flags: int) -> None:
        view = _PyBuffer()
        _get_buffer(obj, view, flags)
        self.view = view

    def __del__(self, release: Callable[..., None] = _release_buffer) -> None:
        if hasattr(self, "view"):
            release(self.view)


def is_buffer(obj: Any) -> bool:
    """Whether ``obj`` has the buffer protocol."""
    return type(obj) in PLAIN_TYPES or bool(_check_buffer(obj))


def is_array(obj: Any) -> bool:
    """Whether ``obj`` offers its memory through DLPack or ``__cuda_array_interface__``."""
    return hasattr(obj, "__dlpack__") or hasattr(obj, "__cuda_array_interface__")


def export(obj: Any, writable: bool, with_format: bool) -> Memory:
    """The memory of ``obj``.

    Args:
        obj: a buffer, a DLPack producer (torch, JAX, ...) or a CUDA array.
        writable: whether a message will be received into it.
        with_format: whether the format of its elements is needed.

    Raises:
        BufferError: not contiguous, read-only, in a device's memory that CUDA does not know, or not
            exportable.
        TypeError: ``obj`` offers no memory.
    """
    if type(obj) in PLAIN_TYPES and not with_format:
        try:
            plain = MPI.buffer.frombuffer(obj, readonly=not writable)
        except (BufferError, ValueError):  # Fortran order, or a reason to be explained below
            pass
        else:
            return Memory(plain.address, plain.nbytes, "B", plain)
    flags = _ANY_CONTIGUOUS | _WRITABLE * writable | _FORMAT * with_format
    try:
        taken = _Export(obj, flags)
    except (BufferError, TypeError, ValueError) as reason:
        return _export_array(obj, writable, reason)
    view = taken.view
    text = view.format.decode() if view.format else "B"
    return Memory(view.buf or 0, view.len, text, taken)


def _export_array(obj: Any, writable: bool, reason: Exception) -> Memory:
    """The memory of an object whose buffer, if it has one, was refused for ``reason``."""
    if is_buffer(obj):
        _explain(obj, writable, reason)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(obj, torch.Tensor):
        return _export_tensor(obj, writable)
    if hasattr(obj, "__dlpack__") and hasattr(obj, "__dlpack_device__"):
        tensor = dlpack.export(obj)
        if writable and tensor.read_only:
            raise BufferError(f"message: {called(obj, writable)} is read-only")
        stream = None
        if tensor.device not in dlpack.HOST_DEVICES:
            stream = _stream_of(obj, writable, tensor.address, tensor.nbytes, tensor.device)
        return Memory(tensor.address, tensor.nbytes, tensor.format, tensor.capsule, stream)
    if hasattr(obj, "__cuda_array_interface__"):
        address, nbytes, text = cuda_array_interface.export(obj, writable)
        stream = _stream_of(obj, writable, address, nbytes, dlpack.CUDA)
        return Memory(address, nbytes, text, obj, stream)
    raise reason


def _stream_of(obj: Any, writable: bool, address: int, nbytes: int, device: int) -> int | None:
    """The stream of an array that is said to be a device's, ``None`` where the host reads it.

    Raises:
        BufferError: neither the host's nor a CUDA device's.
    """
    nothing = nbytes == 0 and device in dlpack.CUDA_DEVICES
    if not nothing and is_host_readable(address, nbytes):
        return None
    if device not in dlpack.CUDA_DEVICES:
        raise BufferError(
            f"message: {called(obj, writable)} is in the memory of a device that is not CUDA's "
            f"(DLPack's number {device}): copy it to the host first"
        )
    return cuda_array_interface.stream_of(obj)


def called(obj: Any, writable: bool) -> str:
    """How an error names the argument."""
    kind = type(obj)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"the {'receive' if writable else 'send'} buffer ({name})"


def _explain(obj: Any, writable: bool, reason: Exception) -> None:
    """Raise a ``BufferError`` that says what to do, if it can be told why a buffer was refused."""
    try:
        view = memoryview(obj)
    except (BufferError, TypeError, ValueError):
        return
    name = called(obj, writable)
    if writable and view.readonly:
        raise BufferError(f"message: {name} is read-only: pass a writable one") from reason
    if not view.contiguous:
        raise BufferError(
            f"message: {name} is not contiguous: pass numpy.ascontiguousarray(...) of it"
            f"{' and copy the result back' if writable else ''}, or a derived datatype"
        ) from reason


def _export_tensor(tensor: Any, writable: bool) -> Memory:
    """A torch tensor's memory, by pointer and length: cheaper than a DLPack capsule.

    Raises:
        BufferError: memory of a device that is not CUDA's, not strided, not contiguous, or a tensor
            that autograd or a lazy conjugation stands before.
    """
    name = called(tensor, writable)
    stream = None
    if tensor.device.type != "cpu":
        stream = torch_tensors.stream_of(tensor)
        if stream is None:
            raise BufferError(
                f"message: {name} is in device memory ({tensor.device}) that is not CUDA's: pass "
                "tensor.cpu()"
            )
    if tensor.requires_grad:
        raise BufferError(f"message: {name} requires grad: pass tensor.detach()")
    if str(tensor.layout) != "torch.strided":
        raise BufferError(f"message: {name} has layout {tensor.layout}: pass tensor.to_dense()")
    if tensor.is_conj() or tensor.is_neg():
        raise BufferError(
            f"message: {name} is a lazy view: pass tensor.resolve_conj().resolve_neg()"
        )
    torch_tensors.teach(type(tensor))
    shape = tuple(tensor.shape)
    if not tensor.is_contiguous() and not dlpack.is_contiguous(shape, tensor.stride()):
        raise BufferError(
            f"message: {name} is not contiguous: pass tensor.contiguous()"
            f"{' and copy the result back' if writable else ''}"
        )
    return Memory(
        tensor.data_ptr(),
        prod(shape) * tensor.element_size(),
        _TORCH_FORMATS.get(str(tensor.dtype), "B"),
        tensor,
        stream,
    )
