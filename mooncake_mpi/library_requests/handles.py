"""Requests of the engine that the MPI library knows too, for communicators wrapped by hand.

A library that wraps the communicator it is handed has mpi4py's own names beside it: it calls
``mpi4py.MPI.Request.Waitall``, which reads the library's handle out of every request. So an
operation that is not complete yet gets a generalized request (MPI 4.1, section 13.2), which ends
with it, and a send that is complete one of the library's requests for a send to ``PROC_NULL``. The
methods of these requests wait in the engine, as ever.
"""

from __future__ import annotations

import ctypes
import sys
from _thread import interrupt_main
from contextlib import suppress
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import ref

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.errhandlers import report
from mooncake_mpi.errors import Error, make_error
from mooncake_mpi.library_requests import objects_of_mpi4py
from mooncake_mpi.library_requests.completer import COMPLETER
from mooncake_mpi.library_requests.generalized_requests import GeneralizedRequest, extended
from mooncake_mpi.requests.request import Prequest, Request, null_request
from mooncake_mpi.requests.request_sets import owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Giver: TypeAlias = Callable[[Any, bool], Any]

_HANDLE_BYTES = MPI._sizeof(MPI.Request)
_STATUS_BYTES = MPI._sizeof(MPI.Status)
_NOTHING = b""
_SLICE_MS = 50
_PAUSE_S = 20e-6


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


class Operation:
    """An operation of the engine and the library's generalized request for it.

    ``lock`` is held by whoever completes it in the engine: a method of ours, which waits with it,
    or the completer, which passes over what is locked.
    """

    __slots__ = ("_grequest", "_handle", "_lock", "_place", "_request", "_status", "_told",
                 "after", "awaited", "ended", "error", "freed", "released", "result")  # fmt: skip

    def __init__(self, request: Request) -> None:
        self._request: Any = request
        self._status = MPI.Status()
        self.result: Any = None
        self._lock = Lock()
        self._grequest: Any = None
        self._handle: Callable[[], Any] = _nothing
        self._told = False
        self._place: objects_of_mpi4py.Place | None = None
        self.error: BaseException | None = None
        self.ended = False  # in the engine
        self.freed = False  # in the library
        self.released = False  # by the program, which waits for it no more
        self.awaited = False  # by a method of ours, which raises the error itself
        self.after: Callable[[], None] | None = None

    def hand_to(self, handle: LibraryRequest) -> None:
        """Start the library's request, which ``handle`` shows from now on."""
        handle._operation = self
        self._handle = ref(handle)
        self._grequest = GeneralizedRequest(self)
        _put(handle, ctypes.addressof(self._grequest.handle))
        if self._request is not None and self._request._finish is not None:
            self._place = objects_of_mpi4py.place_of(handle)
        if self.ended:
            self._tell()
        else:
            COMPLETER.add(self)

    def wait(self) -> None:
        """Wait for the end in the engine.

        Raises:
            BaseException: what interrupts a wait, ``ERR_PROC_FAILED_PENDING`` too: it goes on.
        """
        if self.ended:
            return
        COMPLETER.often = False
        with self._lock:
            self._end()
            self._tell()

    def test(self) -> bool:
        """Whether it has ended; looks once.

        Raises:
            Error: ``ERR_PROC_FAILED_PENDING``, see :meth:`wait`.
        """
        if self.ended:
            return True
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._request._poll():
                return False
            self._end()
            self._tell()
        finally:
            self._lock.release()
        return True

    def end_if_complete(self) -> bool:
        """For the completer: end it if it is complete; whether it was."""
        # Whoever waits in a library that asks may keep others out of it: it is told when it asks.
        return self._end_now(tell=not extended() or self.released)

    def end_in_library(self) -> bool:
        """For a library that asks: as :meth:`end_if_complete`, and tell it."""
        self._end_now(tell=True)
        return self._told

    def wait_in_library(self) -> None:
        """For a library that asks; an interruption is raised when the library's call has ended."""
        interrupted = False
        while not self._told:
            interrupted |= self._rest()
        if interrupted:
            interrupt_main()

    def _rest(self) -> bool:
        """A slice of a wait; whether it was interrupted."""
        try:
            if self.end_in_library():
                return False
            request = self._request
            if type(request) is Request:
                with suppress(Error):  # a timeout, which the library's waits do not have
                    _native.wait_for_requests((request,), all=True, timeout_ms=_SLICE_MS)
            else:
                sleep(_PAUSE_S)
        except KeyboardInterrupt:
            return True
        return False

    def _end_now(self, *, tell: bool) -> bool:
        if (self.ended and not tell) or not self._lock.acquire(blocking=False):
            return self.ended
        try:
            if not self.ended and not self._request._poll():
                return False
            try:
                self._end()
            except Exception as error:  # noqa: BLE001 - told to whoever waits in the library
                self._request.Cancel()
                self._request.Free()
                self._set(MPI.Status(), error)
            if tell:
                self._tell()
        finally:
            self._lock.release()
        return True

    def release(self) -> None:
        """Nobody waits for it any more: it completes by itself."""
        self.released = True
        if self.ended:
            self.end_in_library()

    def copy_status(self, status: MPI.Status) -> None:
        """Fill ``status``, as the library keeps it."""
        ctypes.memmove(MPI._addressof(status), MPI._addressof(self._status), _STATUS_BYTES)

    def _end(self) -> None:
        """Complete the request in the engine, waiting if it must."""
        if self.ended:
            return
        status = MPI.Status()
        try:
            self._request._wait(status)
            result = self._request._take_result()
        except Exception as error:
            if self._request._state == "active":
                raise
            self._set(status, error)
        else:
            self._set(status, None, result)

    def _set(self, status: MPI.Status, error: Exception | None, result: Any = None) -> None:
        if error is not None:
            code = error.Get_error_class() if isinstance(error, MPI.Exception) else MPI.ERR_OTHER
            status.Set_error(code)
        self._status, self.error, self.result = status, error, result
        self._request = None  # and with it the buffer
        self.ended = True
        if self.after is not None:
            self.after()

    def _tell(self) -> None:
        """Tell the library, once, and leave an object where mpi4py looks for it."""
        if self._told or self._grequest is None:
            return
        handle = self._handle()
        if self.result is not None:
            if self._place is not None:
                self._place.fill(self.result)
            elif handle is not None:
                objects_of_mpi4py.keep(handle, self.result)
        self._told = True
        self._grequest.Complete()

    # --- what the library calls ---

    def query_into(self, address: int) -> int:
        """Fill the library's status at ``address``; gives an error code."""
        if self.awaited:
            return MPI.SUCCESS
        COMPLETER.often = True
        ctypes.memmove(address, MPI._addressof(self._status), _STATUS_BYTES)
        return self._status.Get_error()

    def cancel(self, completed: bool) -> None:
        """Cancel what has not matched."""
        request = self._request
        if not completed and request is not None:
            request.Cancel()


def _nothing() -> None:
    """Where no handle was given yet."""


def _put(request: MPI.Request, address: int) -> None:
    """Let ``request`` show the library's request whose handle lies at ``address``."""
    ctypes.memmove(MPI._addressof(request), address, _HANDLE_BYTES)


class LibraryRequest(MPI.Grequest):
    """A request of mpi4py whose operation is the engine's."""

    __slots__ = ("_operation",)
    __module__ = "mpi4py.MPI"
    __qualname__ = "Request"
    _operation: Operation | None

    def __new__(cls, request: Any = None) -> LibraryRequest:
        """A handle for the same operation, or a null one."""
        new: LibraryRequest = MPI.Grequest.__new__(cls, request)
        new._operation = getattr(request, "_operation", None)
        return new

    def __bool__(self) -> bool:
        operation = self._operation
        return (operation is None or not operation.freed) and super().__bool__()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MPI.Request):
            return NotImplemented
        if not isinstance(other, LibraryRequest) or self._operation is None:
            return super().__eq__(other)
        return self._operation is other._operation or (not self and not other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        if self:
            raise ValueError("cannot pickle a request that is not null")
        return (null_request, (type(self).__name__,))

    def Wait(self, status: MPI.Status | None = None) -> Literal[True]:
        """Wait for the operation to complete."""
        return self._complete(MPI.Request.Wait, status)  # type: ignore[no-any-return]

    def Test(self, status: MPI.Status | None = None) -> bool:
        """Whether the operation is complete; ends the request if so."""
        operation = self._active()
        if operation is not None and not operation.test():
            return False
        return self._complete(MPI.Request.Wait, status)  # type: ignore[no-any-return]

    def Get_status(self, status: MPI.Status | None = None) -> bool:
        """Whether the operation is complete; the request stays."""
        operation = self._active()
        if operation is None:
            return super().Get_status(status)
        if not operation.test():
            return False
        if status is not None:
            operation.copy_status(status)
        return True

    def wait(self, status: MPI.Status | None = None) -> Any:
        """Wait for the operation; gives the object of an ``irecv``, otherwise ``None``."""
        operation = self._active()
        self._complete(MPI.Request.Wait, status)
        return None if operation is None else operation.result

    def test(self, status: MPI.Status | None = None) -> tuple[bool, Any | None]:
        """Whether the operation is complete, and the object of an ``irecv``."""
        operation = self._active()
        if operation is not None and not operation.test():
            return (False, None)
        return (True, self.wait(status))

    def get_status(self, status: MPI.Status | None = None) -> bool:
        """As :meth:`Get_status`."""
        return self.Get_status(status)

    def Cancel(self) -> None:
        """Cancel a receive that has not matched; otherwise nothing happens."""
        self._active()
        super().Cancel()

    def cancel(self) -> None:
        """As :meth:`Cancel`."""
        self.Cancel()

    def Free(self) -> None:
        """Let go of the request; an operation under way completes by itself."""
        operation = self._active()
        if operation is not None:
            operation.release()
        super().Free()

    def free(self) -> None:
        """Free the request unless it is null."""
        if self:
            self.Free()

    def Complete(self) -> None:
        """Only for generalized requests of the program's own.

        Raises:
            Error: ``ERR_REQUEST``, always.
        """
        raise make_error("ERR_REQUEST", "invalid request: the engine completes it")

    def complete(self, obj: Any = None) -> None:
        """As :meth:`Complete`."""
        del obj
        self.Complete()

    def _active(self) -> Operation | None:
        """The operation; ``None`` if there is none, or it was completed through a copy."""
        operation = self._operation
        if operation is not None and operation.freed:
            _put(self, MPI._addressof(MPI.REQUEST_NULL))
            self._operation = operation = None
        return operation

    def _complete(self, method: Any, status: MPI.Status | None) -> Any:
        """Wait in the engine, then let ``method`` of the library end the request."""
        operation = self._active()
        if operation is None:
            return method(self, status)
        operation.wait()
        operation.awaited = True
        result = method(self)
        if status is not None:
            operation.copy_status(status)
        if isinstance(operation.error, Error):
            report(operation.error)
        if operation.error is not None:
            raise operation.error
        return result


class LibraryPrequest(LibraryRequest, MPI.Prequest):
    """A persistent request whose operation is the engine's; null for the library until started.

    The library starts its own persistent requests only: ``mpi4py.MPI.Prequest.Startall`` raises
    ``ERR_REQUEST`` for these, their own ``Start`` and ``Startall`` work.
    """

    __slots__ = ("_request",)
    __module__ = "mpi4py.MPI"
    __qualname__ = "Prequest"
    _request: Any

    def __new__(cls, request: Any = None) -> LibraryPrequest:
        """A handle for the same operation, or a null one."""
        new: LibraryPrequest = super().__new__(cls, request)  # type: ignore[assignment]
        new._request = getattr(request, "_request", None)
        return new

    @classmethod
    def _of(cls, request: Prequest) -> LibraryPrequest:
        new = cls()
        new._request = request
        return new

    def __bool__(self) -> bool:
        return bool(self._request)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MPI.Request):
            return NotImplemented
        mine, theirs = self._request, getattr(other, "_request", None)
        return mine is theirs if mine or theirs else not other

    __hash__ = None  # type: ignore[assignment]

    def Start(self) -> None:  # type: ignore[override]
        """Start the operation; ``ERR_REQUEST`` if it is under way already."""
        if self._request is None:
            raise make_error("ERR_REQUEST", "invalid request: it is null")
        self._request.Start()
        Operation(self._request).hand_to(self)

    @classmethod
    def Startall(cls, requests: Sequence[MPI.Prequest]) -> None:
        """Start every one of ``requests``."""
        for request in requests:
            request.Start()

    def Free(self) -> None:
        """Let go of the request; an operation under way completes by itself."""
        if not self:
            raise make_error("ERR_REQUEST", "invalid request: it is null")
        operation, request = self._active(), self._request
        self._request = None
        if operation is None or operation.ended:
            request.Free()
        else:
            operation.after = request.Free
        if operation is not None:
            operation.release()
            MPI.Request.Free(self)

    def Pready(self, partition: int) -> None:
        """Mark a partition of a started send as ready to be sent."""
        self._request.Pready(partition)

    def Pready_range(self, partition_low: int, partition_high: int) -> None:
        """Mark the partitions from ``partition_low`` to ``partition_high``, both included."""
        self._request.Pready_range(partition_low, partition_high)

    def Pready_list(self, partitions: Sequence[int]) -> None:
        """Mark several partitions."""
        self._request.Pready_list(partitions)

    def Parrived(self, partition: int) -> bool:
        """Whether a partition of a started receive is here."""
        return self._request.Parrived(partition)  # type: ignore[no-any-return]


LibraryRequest.__name__ = "Request"
LibraryPrequest.__name__ = "Prequest"
