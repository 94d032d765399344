"""Reading ``__cuda_array_interface__`` (Numba's CUDA Array Interface, version 3)."""

from __future__ import annotations

import sys
from math import prod
from typing import Any
from warnings import warn

from mooncake_mpi.buffers.dlpack import is_contiguous

_ORDERS = {"<": "little", ">": "big", "|": sys.byteorder}
_FORMATS = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "l",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "L",
    "f2": "e",
    "f4": "f",
    "f8": "d",
    "f16": "g",
    "c4": "Ze",
    "c8": "Zf",
    "c16": "Zd",
    "c32": "Zg",
}


def export(obj: Any, writable: bool) -> tuple[int, int, str]:
    """The address, the length in bytes and the format of a CUDA array's memory.

    Raises:
        BufferError: masked, not contiguous, read-only, or in the other byte order.
        KeyError: a mandatory entry is missing.
        TypeError: an entry has the wrong type.
    """
    interface = _typed(obj.__cuda_array_interface__, dict, "the interface")
    address, read_only = _typed(interface["data"], tuple, "data")
    typestr = _typed(interface["typestr"], str, "typestr")
    shape = _typed(interface["shape"], tuple, "shape")
    strides = interface.get("strides")
    descr = interface.get("descr")
    itemsize = int(typestr[2:])
    if interface.get("mask") is not None:
        raise _error("masked arrays are not supported: pass the filled array")
    if min(shape, default=0) < 0:
        raise _error(f"the shape {shape} has a negative length")
    if strides is not None:
        _check_strides(shape, _typed(strides, tuple, "strides"), itemsize)
    if writable and read_only:
        raise _error("the receive buffer is read-only")
    if _ORDERS.get(typestr[0]) != sys.byteorder:
        raise _error(f"typestr {typestr!r} has a byte order that is not this machine's")
    if descr is not None and _typed(descr, list, "descr") != [("", typestr)]:
        warn("__cuda_array_interface__: ignoring 'descr' key", RuntimeWarning, stacklevel=2)
    return int(address or 0), prod(shape) * itemsize, _FORMATS.get(typestr[1:], "B")


def stream_of(obj: Any) -> int:
    """The stream in whose order the program uses an array, as a CUDA handle.

    An array that names none, or shows itself in another way, is taken to be used in the default
    stream (0): what other streams of the program do waits for that one, and it for them.
    """
    interface = getattr(obj, "__cuda_array_interface__", None)
    stream = interface.get("stream") if isinstance(interface, dict) else None
    return 0 if stream is None else int(stream)


def _check_strides(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> None:
    elements = tuple(stride // itemsize if itemsize else stride for stride in strides)
    uneven = any(
        length > 1 and itemsize and stride % itemsize
        for length, stride in zip(shape, strides, strict=True)
    )
    if uneven or not is_contiguous(shape, elements):
        raise _error(
            f"the buffer (shape {shape}, strides {strides}, itemsize {itemsize}) is not "
            "contiguous: pass a contiguous copy"
        )


def _typed(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise TypeError(
            f"message: __cuda_array_interface__: {name} must be a {kind.__name__}, "
            f"not {type(value).__name__}"
        )
    return value


def _error(reason: str) -> BufferError:
    return BufferError(f"message: __cuda_array_interface__: {reason}")
