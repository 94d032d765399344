"""Error handlers of communicators decide what an error of the engine does (MPI 4.1, section 9.3).

Called in the program's threads, no lock of its own.

An error that leaves a method of the program's goes to the handler of its communicator first, as one
of the MPI library's own calls would: ``ERRORS_ARE_FATAL`` ends the job, a handler of the program is
called, and where the handler returns (``ERRORS_RETURN`` does nothing else) the error is raised.
"""

from __future__ import annotations

import os
import sys
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mpi4py import MPI

from mooncake_mpi import _native, contexts
from mooncake_mpi.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable

_Method = TypeVar("_Method", bound="Callable[..., Any]")
_Class = TypeVar("_Class", bound=type)


def report(error: Error, source: object = None) -> None:
    """Call the error handler for ``error``, once, before it is raised.

    Args:
        error: says which communicator it belongs to (``context``), unless ``source`` does. An error
            of none, or of one that was freed, is ``COMM_SELF``'s.
        source: whose method it leaves.
    """
    if error.reported or _native.left_behind():
        return
    if not MPI.Is_initialized() or MPI.Is_finalized():
        return
    error.reported = True
    communicator = getattr(source, "_communicator", None)  # whose handle may be stale
    number = communicator.number if communicator is not None else error.context
    comm = contexts.in_library(number or getattr(source, "_context", 0))
    if comm is None:
        comm = MPI.COMM_SELF
    code = error.code_of_request or int(error)
    fatal = MPI.Comm.Get_errhandler(comm) in (MPI.ERRORS_ARE_FATAL, MPI.ERRORS_ABORT)
    if fatal:  # the library knows the class alone
        rank = MPI.COMM_WORLD.Get_rank()
        print(f"mooncake_mpi: rank {rank}: {error}", file=sys.stderr, flush=True)
    MPI.Comm.Call_errhandler(comm, code)
    if fatal:  # MPICH comes back from ERRORS_ABORT before the job has ended
        MPI.Comm.Abort(comm, code)
        os._exit(1)


def reported(method: _Method) -> _Method:
    """A method of the program's whose errors go to the error handler before they are raised."""

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Error as error:
            report(error, self)
            raise

    return cast("_Method", call)


def is_reported(method: Callable[..., Any]) -> bool:
    """Whether it says that it is as :func:`reported` by itself."""
    return getattr(method, "is_reported", False)


def of_communicator(method: _Method) -> _Method:
    """As :func:`reported`, of a class method whose first argument is the communicator."""

    @wraps(method)
    def call(cls: Any, comm: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(cls, comm, *args, **kwargs)
        except Error as error:
            report(error, comm)
            raise

    return cast("_Method", call)


def reporting(kind: _Class) -> _Class:
    """A class all of whose public methods are as :func:`reported`."""
    for name, value in list(vars(kind).items()):
        if isinstance(value, FunctionType) and not name.startswith("_") and not is_reported(value):
            setattr(kind, name, reported(value))
    return kind
