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

from mooncake_mpi import _native
from mooncake_mpi.library_requests import late_reports

if TYPE_CHECKING:
    from mooncake_mpi.library_requests.operations import Operation

_Handle = (
    ctypes.c_int if MPI._sizeof(MPI.Request) == ctypes.sizeof(ctypes.c_int) else ctypes.c_void_p
)

#: By the number that the library passes back.
_operations: dict[int, Operation] = {}


class GeneralizedRequest:
    """The library's request for an operation, as a handle that the operation completes."""

    def __init__(self, operation: Operation) -> None:
        self.handle = _Handle()
        self._completed: list[int] = []  # what the library said of it
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
        """Tell the library that the operation is complete, once however often this is called."""
        complete = _library().MPI_Grequest_complete
        if not self._completed:  # no handler of a signal comes between the call and the note of it
            self._completed.extend(map(complete, (self.handle,)))
        if self._completed[0] != MPI.SUCCESS:
            raise MPI.Exception(self._completed[0])


@cache
def extended() -> bool:
    """Whether the running library asks the engine, with handles that are numbers."""
    return _Handle is ctypes.c_int and hasattr(_library(), "MPIX_Grequest_start")


@cache
def _library() -> Any:
    return ctypes.CDLL(MPI.__file__)


def _query(state: int, status: int) -> int:
    # Open MPI's Waitall without statuses needs the code, and MPICH, which says ERR_OTHER of it.
    return _operations[state].query_into(status)


def _free(state: int) -> int:
    # The handle that the library was given is in its hands until the call returns.
    operation = _operations.get(state)
    if operation is not None:  # it may be called again, where a signal interrupted it
        operation.end_by_library()
        _operations.pop(state, None)
    return MPI.SUCCESS


def _cancel(state: int, completed: int) -> int:
    _operations[state].cancel(bool(completed))
    return MPI.SUCCESS


def _poll(state: int) -> int:
    _operations[state].end_in_library()
    return MPI.SUCCESS


def _wait(state: int) -> int:
    _operations[state].wait_in_library()
    return MPI.SUCCESS


_CALLED = (_query, _free, _cancel, _poll, _wait)
late_reports.callbacks.update(function.__code__ for function in _CALLED)
_FUNCTIONS = [ctypes.c_void_p(address) for address in _native.library_callbacks(*_CALLED)]
