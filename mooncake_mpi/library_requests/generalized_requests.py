"""Starting generalized requests of the MPI library for operations of the engine.

Through the library itself: mpi4py's ``Grequest`` turns an error into a traceback on standard error.
MPICH has extended ones, ``MPIX_Grequest_start``, with a function that polls and one that waits. No
thread has to tell that library anything, and they are its only kind that may stand beside a null
request in a list: for others its ``MPI_Waitall`` ends the process with a failed assertion.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mooncake_mpi.library_requests import late_reports

if TYPE_CHECKING:
    from mooncake_mpi.library_requests.operations import Operation

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

_Handle = (
    ctypes.c_int if MPI._sizeof(MPI.Request) == ctypes.sizeof(ctypes.c_int) else ctypes.c_void_p
)

#: By the number that the library passes back.
_operations: dict[int | None, Operation] = {}


class GeneralizedRequest:
    """The library's request for an operation, as a handle that the operation completes."""

    def __init__(self, operation: Operation) -> None:
        self.handle = _Handle()
        _operations[id(operation)] = operation
        library = _library()
        start = library.MPIX_Grequest_start if extended() else library.MPI_Grequest_start
        functions = _FUNCTIONS if extended() else _FUNCTIONS[:3]
        state = ctypes.c_void_p(id(operation))
        code = start(*functions, state, ctypes.byref(self.handle))
        if code != MPI.SUCCESS:
            del _operations[id(operation)]
            raise MPI.Exception(code)

    def Complete(self) -> None:
        """Tell the library that the operation is complete."""
        code = _library().MPI_Grequest_complete(self.handle)
        if code != MPI.SUCCESS:
            raise MPI.Exception(code)


@cache
def extended() -> bool:
    """Whether the running library asks the engine, with handles that are numbers."""
    return _Handle is ctypes.c_int and hasattr(_library(), "MPIX_Grequest_start")


@cache
def _library() -> Any:
    return ctypes.CDLL(MPI.__file__)


def _query(state: int | None, status: int) -> int:
    # Open MPI's Waitall without statuses needs the code, and MPICH, which says ERR_OTHER of it.
    return _operations[state].query_into(status)


def _free(state: int | None) -> int:
    # The handle that the library was given is in its hands until the call returns.
    _operations.pop(state).end_by_library()
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


late_reports.callbacks.update(
    function.__code__ for function in (_query, _free, _cancel, _poll, _wait)
)
_FUNCTIONS = (_Query(_query), _Free(_free), _Cancel(_cancel), _Poll(_poll), _Wait(_wait))
