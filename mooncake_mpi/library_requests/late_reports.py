"""Errors that are reported when the MPI library's call is over.

MPICH before 4.1 bears no call of MPI within the functions of a generalized request. So an error
that one of its calls finds waits there until the interpreter goes on, in the main thread: its
handler is called when the library's call has returned, a moment after mpi4py has raised its
exception.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from mooncake_mpi.errhandlers import report

if TYPE_CHECKING:
    from types import CodeType

    from mooncake_mpi.errors import Error

_waiting: list[Error] = []
#: The functions that the library calls: it is not to be called in them.
callbacks: set[CodeType] = set()


def report_later(error: Error) -> None:
    """Report ``error`` once the library's call is over."""
    _waiting.append(error)
    _ask()


def _ask() -> None:
    """Let the interpreter call, as soon as it may, what reports."""
    ctypes.pythonapi.Py_AddPendingCall(_PENDING, None)


def _report_all(_: int | None) -> int:
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code in callbacks:
            _ask()
            return 0
    while _waiting:
        with suppress(BaseException):  # what a handler raises has nobody to go to
            report(_waiting.pop(0))
    return 0


_PENDING = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_report_all)
