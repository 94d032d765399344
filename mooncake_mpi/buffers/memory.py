"""Where memory lies, and how far it reaches."""

from __future__ import annotations

import ctypes
import os
import sys
from array import array
from contextlib import ExitStack
from typing import Any

from mpi4py import MPI

from mooncake_mpi import _native

_libc = ctypes.CDLL(None, use_errno=True)
_write = _libc.write
_write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_write.restype = ctypes.c_ssize_t


def is_host_readable(address: int, nbytes: int) -> bool:
    """Whether this process can read the first and the last of ``nbytes`` bytes at ``address``.

    The kernel answers: writing a byte to a pipe fails with ``EFAULT`` where a load would crash, as
    it does for device memory, whatever its vendor.
    """
    if nbytes == 0:
        return True
    with ExitStack() as files:
        reader, writer = os.pipe()
        files.callback(os.close, reader)
        files.callback(os.close, writer)
        return all(_write(writer, place, 1) == 1 for place in (address, address + nbytes - 1))


def owner_bounds(obj: Any) -> tuple[int, int] | None:
    """The addresses ``[first, end)`` of the allocation that ``obj`` is a view of, if that is known.

    A datatype may reach beyond a view, as in ``[matrix[0, 1:], 1, column]``, but not beyond the
    memory that the view is part of.
    """
    numpy = sys.modules.get("numpy")  # who has an array has imported it
    if numpy is not None and isinstance(obj, numpy.ndarray):
        while isinstance(obj.base, numpy.ndarray):
            obj = obj.base
        if obj.base is None:
            first = obj.__array_interface__["data"][0]
            return first, first + obj.nbytes
        return owner_bounds(obj.base)
    if isinstance(obj, memoryview):
        return owner_bounds(obj.obj)
    if isinstance(obj, (bytes, bytearray, array, _native.SharedBuffer)):
        view = MPI.buffer.frombuffer(obj, readonly=True)
        return view.address, view.address + view.nbytes
    return None
