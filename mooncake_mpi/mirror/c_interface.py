"""What C code gets of ``mpi4py.MPI``: petsc4py's ``tompi4py()``, pybind11's casters and their like.

Such code takes mpi4py's functions out of a table of the module. The table here is mpi4py's, but for
the function that makes an object for a communicator: it knows those that the engine carries.
"""

from __future__ import annotations

import ctypes
from typing import Any

from mpi4py import MPI

from mooncake_mpi.communicators.references import refer

_NAME = "PyMPIComm_New"
_SIGNATURE = b"PyObject *(MPI_Comm)"
_Handle = ctypes.c_int if MPI._sizeof(MPI.Comm) == ctypes.sizeof(ctypes.c_int) else ctypes.c_void_p
_New = ctypes.PYFUNCTYPE(ctypes.py_object, _Handle)
_keep: list[Any] = []


def table(of_mpi4py: dict[str, Any]) -> dict[str, Any]:
    """mpi4py's table of C functions, with ours in it.

    Args:
        of_mpi4py: its functions, by name, as capsules.
    """
    known = of_mpi4py.get(_NAME)
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    if known is None or get_name(known) != _SIGNATURE:
        return of_mpi4py
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    new = _New(get_pointer(known, _SIGNATURE))

    def make(handle: Any) -> Any:
        return refer(new(handle))

    ours = _New(make)
    _keep.append(ours)
    make_capsule = ctypes.pythonapi.PyCapsule_New
    make_capsule.restype = ctypes.py_object
    make_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return {
        **of_mpi4py,
        _NAME: make_capsule(ctypes.cast(ours, ctypes.c_void_p), _SIGNATURE, None),
    }
