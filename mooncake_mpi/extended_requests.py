"""MPICH's extended generalized requests: the library asks when it waits for one or looks at it.

With ``MPIX_Grequest_start`` comes a function that polls, and one that waits. No thread has to tell
the library anything then, and it is the only kind that may stand beside a null request in a list:
for others ``MPI_Waitall`` of MPICH 4 and 5 ends the process with a failed assertion.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

if TYPE_CHECKING:
    from mooncake_mpi.library_requests import Operation

_Query = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_Free = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_Cancel = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Poll = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_Wait = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_double,
    ctypes.c_void_p,
)

#: By the number that the library passes back.
_operations: dict[int | None, Operation] = {}


class ExtendedRequest:
    """The library's request for an operation, as a handle that the operation completes."""

    def __init__(self, operation: Operation) -> None:
        self.handle = ctypes.c_int()
        _operations[id(operation)] = operation
        code = _library().MPIX_Grequest_start(
            *_FUNCTIONS, ctypes.c_void_p(id(operation)), ctypes.byref(self.handle)
        )
        if code != MPI.SUCCESS:
            del _operations[id(operation)]
            raise MPI.Exception(code)

    def Complete(self) -> None:
        """Tell the library that the operation is complete."""
        code = _library().MPI_Grequest_complete(self.handle)
        if code != MPI.SUCCESS:
            raise MPI.Exception(code)


def are_there() -> bool:
    """Whether the running library has them, with handles that are numbers."""
    return MPI._sizeof(MPI.Request) == ctypes.sizeof(ctypes.c_int) and hasattr(
        _library(), "MPIX_Grequest_start"
    )


_loaded: list[Any] = []


def _library() -> Any:
    if not _loaded:
        _loaded.append(ctypes.CDLL(MPI.__file__))
    return _loaded[0]


def _query(state: int | None, status: int) -> int:
    # MPICH says ERR_OTHER of whatever it is told here; without it, the error would be lost.
    return _operations[state].query_into(status)


def _free(state: int | None) -> int:
    _operations.pop(state).freed = True
    return MPI.SUCCESS


def _cancel(state: int | None, completed: int) -> int:
    _operations[state].cancel(bool(completed))
    return MPI.SUCCESS


def _poll(state: int | None, _status: int | None) -> int:
    _operations[state].end_in_library()
    return MPI.SUCCESS


def _wait(count: int, states: Any, _timeout: float, _status: int | None) -> int:
    for index in range(count):
        _operations[states[index]].wait_in_library()
    return MPI.SUCCESS


_FUNCTIONS = (_Query(_query), _Free(_free), _Cancel(_cancel), _Poll(_poll), _Wait(_wait))
