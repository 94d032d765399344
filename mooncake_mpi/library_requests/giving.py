"""Requests of the engine that the MPI library knows too, for communicators wrapped by hand.

Called in the program's threads, no lock of its own. A library that wraps the communicator it is
handed has mpi4py's own names beside it: it calls ``mpi4py.MPI.Request.Waitall``, which reads the
library's handle out of every request. So an operation that is not complete yet gets a generalized
request (MPI 4.1, section 13.2), which ends with it, and a send that is complete one of the
library's requests for a send to ``PROC_NULL``. The methods of these requests wait in the engine, as
ever.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.errors import make_error
from mooncake_mpi.library_requests.handles import LibraryPrequest, LibraryRequest
from mooncake_mpi.library_requests.operations import Operation
from mooncake_mpi.requests.request import Prequest, Request
from mooncake_mpi.requests.states import owner_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Giver: TypeAlias = Callable[[Any, bool], Any]


_NOTHING = b""


def giver() -> Giver | None:
    """What stands between the engine's requests and a program that wraps a communicator by hand.

    ``None`` where ``mpi4py.MPI`` is this package's: its functions take the engine's requests. And
    where threads may not call MPI at once: nobody could tell the library that an operation is
    complete while the program waits in it. The engine's requests raise a ``TypeError`` there.
    """
    if sys.modules.get("mpi4py.MPI") is not MPI or MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        return None
    return give


def give(request: Request, send: bool) -> MPI.Request:
    """A request that the MPI library knows for one of the engine, which it takes over.

    Args:
        request: just made.
        send: whether it is only a send, of whose status MPI says nothing.
    """
    # The class first: isinstance() asks a metaclass.
    if type(request) is not Request and isinstance(request, Prequest):
        return LibraryPrequest._of(request)
    operation = Operation(request)
    if request._poll():
        if send and _has_succeeded(request):
            return MPI.COMM_SELF.Isend(_NOTHING, MPI.PROC_NULL)
        operation.test()
    given = LibraryRequest()
    operation.hand_to(given)
    return given


def _has_succeeded(request: Request) -> bool:
    """Whether a send that is complete has not failed."""
    status = MPI.Status()
    return request.Get_status(status) and status.Get_error() == MPI.SUCCESS


def address_of(request: Request) -> int:
    """Where the library's handle for a request of the engine lies, to be read or filled by C code.

    An operation under way gets a handle of the library when somebody asks.

    Raises:
        Error: ``ERR_REQUEST``, it can have none: it is persistent, or of several parts.
    """
    owner: Any = owner_of(request)
    if not owner and getattr(type(owner), "_state", None) is _native.Request._state:
        owner._share(request._library())
    elif type(owner) is Request:
        _reveal(owner)
    owner = owner_of(owner)
    if not isinstance(owner, MPI.Request):
        raise make_error("ERR_REQUEST", "the MPI library has no handle for this operation")
    return MPI._addressof(owner)


def _reveal(request: Request) -> None:
    """Let the library know an active request of the engine, if threads may call it at once."""
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        return
    engine_s: Request = _native.Request.__new__(Request)
    engine_s._adopt(request)
    given = LibraryRequest()
    Operation(engine_s).hand_to(given)
    request._share(given)
