"""Reading a DLPack capsule without taking it over (DLPack 1.0, ``dlpack.h``).

Called in the program's threads, no lock of its own. The capsule stays the owner: while it is alive
the memory is, and dropping it calls its deleter.
"""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any, NamedTuple

CPU = 1
CUDA = 2
CUDA_HOST = 3
ROCM_HOST = 11
CUDA_MANAGED = 13

#: Device types whose memory every host instruction can reach.
HOST_DEVICES = frozenset({CPU, CUDA_HOST, ROCM_HOST})
#: Device types that the CUDA driver knows.
CUDA_DEVICES = frozenset({CUDA, CUDA_MANAGED})

_READ_ONLY_FLAG = 1
_ANY_STREAM = -1  # the producer need not order its work for us

_INT, _UINT, _FLOAT, _COMPLEX, _BOOL = 0, 1, 2, 5, 6
_FORMATS = {
    (_BOOL, 8): "?",
    (_INT, 8): "b",
    (_INT, 16): "h",
    (_INT, 32): "i",
    (_INT, 64): "l",
    (_UINT, 8): "B",
    (_UINT, 16): "H",
    (_UINT, 32): "I",
    (_UINT, 64): "L",
    (_FLOAT, 16): "e",
    (_FLOAT, 32): "f",
    (_FLOAT, 64): "d",
    (_FLOAT, 128): "g",
    (_COMPLEX, 32): "Ze",
    (_COMPLEX, 64): "Zf",
    (_COMPLEX, 128): "Zd",
    (_COMPLEX, 256): "Zg",
}
_PAIRS = {32: "Zf", 64: "Zd", 128: "Zg"}  # a vector of two floats is a complex number


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _ManagedTensor(ctypes.Structure):
    _fields_ = (
        ("tensor", _Tensor),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


class _VersionedTensor(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes = (ctypes.py_object, ctypes.c_char_p)
_is_valid.restype = ctypes.c_int
_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_get_pointer.restype = ctypes.c_void_p


class Tensor(NamedTuple):
    """What a capsule describes: contiguous memory of ``nbytes`` at ``address``."""

    address: int
    nbytes: int
    format: str
    read_only: bool
    device: int
    capsule: Any


def export(obj: Any) -> Tensor:
    """Ask ``obj`` for its tensor.

    Raises:
        BufferError: no valid capsule, a newer major version, or memory that is not contiguous.
    """
    device = int(obj.__dlpack_device__()[0])
    stream = {} if device == CPU else {"stream": _ANY_STREAM}
    try:
        capsule, major = obj.__dlpack__(max_version=(1, 0), copy=False, **stream), 1
    except TypeError:  # a producer from before DLPack 1.0 knows neither argument
        capsule, major = obj.__dlpack__(**stream), 0
    tensor, read_only = _open(capsule, major)
    shape, strides = _geometry(tensor)
    if not is_contiguous(shape, strides):
        raise BufferError("message: dlpack: the tensor is not contiguous: pass a contiguous copy")
    kind = tensor.dtype
    return Tensor(
        (tensor.data or 0) + tensor.byte_offset,
        prod(shape) * ((kind.bits * kind.lanes + 7) // 8),
        _format(kind.code, kind.bits, kind.lanes),
        read_only,
        device,
        capsule,
    )


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
    """Whether elements of this shape and strides (both in elements) fill one block of memory.

    Rows first or columns first, as MPI's contiguous buffers may be.
    """
    if strides is None:
        return True
    axes = list(zip(shape, strides, strict=True))
    return _is_dense(reversed(axes)) or _is_dense(axes)


def _is_dense(axes: Any) -> bool:
    expected = 1
    for length, stride in axes:
        if length > 1 and stride != expected:
            return False
        expected *= length
    return True


def _open(capsule: Any, major: int) -> tuple[_Tensor, bool]:
    name = b"dltensor_versioned" if major else b"dltensor"
    if not _is_valid(capsule, name):
        raise BufferError("message: dlpack: invalid capsule object")
    address = _get_pointer(capsule, name)
    if not major:
        return _ManagedTensor.from_address(address).tensor, False
    managed = _VersionedTensor.from_address(address)
    if managed.major != major:
        raise BufferError(f"message: dlpack: version {managed.major} is not supported")
    return managed.tensor, bool(managed.flags & _READ_ONLY_FLAG)


def _geometry(tensor: _Tensor) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    ndim = tensor.ndim
    if ndim < 0:
        raise BufferError("message: dlpack: the number of dimensions is negative")
    if ndim and not tensor.shape:
        raise BufferError("message: dlpack: the shape is missing")
    shape = tuple(tensor.shape[:ndim])
    strides = tuple(tensor.strides[:ndim]) if tensor.strides else None
    if min(shape, default=0) < 0 or min(strides or (), default=0) < 0:
        raise BufferError("message: dlpack: a dimension or stride is negative")
    return shape, strides


def _format(code: int, bits: int, lanes: int) -> str:
    if lanes != 1:
        return _PAIRS.get(bits, "B") if code == _FLOAT and lanes == 2 else "B"
    return _FORMATS.get((code, bits), "B")
