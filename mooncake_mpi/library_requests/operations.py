"""An operation of the engine, and the MPI library's generalized request that shows it.

Called in the program's threads, in the completer's, and by the library in whichever thread looks at
its request; whoever completes an operation holds its lock.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any
from weakref import ref

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.errhandlers import report
from mooncake_mpi.errors import Error, make_error
from mooncake_mpi.interruptions import is_interruption
from mooncake_mpi.library_requests import late_reports, objects_of_mpi4py
from mooncake_mpi.library_requests.completer import COMPLETER
from mooncake_mpi.library_requests.generalized_requests import GeneralizedRequest, extended
from mooncake_mpi.requests.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi.library_requests.handles import LibraryRequest


_HANDLE_BYTES = MPI._sizeof(MPI.Request)
_STATUS_BYTES = MPI._sizeof(MPI.Status)
_SLICE_MS = 50
_PAUSE_S = 20e-6


class Outcome:
    """The object that an operation gave, for as long as somebody can ask for it."""

    __slots__ = ("__weakref__", "object")

    def __init__(self) -> None:
        self.object: Any = None


# MPICH before 4.1 bears no call of MPI within the functions of a generalized request.
_MAY_CALL_BACK = MPI.get_vendor()[0] != "MPICH" or MPI.get_vendor()[1] >= (4, 1)


class Operation:
    """An operation of the engine and the library's generalized request for it.

    ``lock`` is held by whoever completes it in the engine: a method of ours, which waits with it,
    or the completer, which passes over what is locked. The library has the operation until somebody
    ends the request in it, which nobody does to one that was dropped. So the object is kept by the
    handles, and where mpi4py looks for it.
    """

    __slots__ = ("_asked", "_grequest", "_handle", "_kept", "_lock", "_outcome", "_place",
                 "_request", "_status", "_told", "after", "awaited", "ended", "error", "freed",
                 "released")  # fmt: skip

    def __init__(self, request: Request) -> None:
        self._request: Any = request
        self._status = MPI.Status()
        self._outcome: Outcome | ref[Outcome] = Outcome()
        self._lock = Lock()
        self._grequest: Any = None
        self._handle: Callable[[], Any] = _nothing
        self._told = False
        self._kept = False  # where mpi4py looks for the object
        self._place: objects_of_mpi4py.Place | None = None
        self.error: BaseException | None = None
        self._asked = False  # for the status, by the library
        self.ended = False  # in the engine
        self.freed = False  # in the library
        self.released = False  # by the program, which waits for it no more
        self.awaited = False  # by a method of ours, which raises the error itself
        self.after: Callable[[], None] | None = None

    def hand_to(self, handle: LibraryRequest) -> None:
        """Start the library's request, which ``handle`` shows from now on."""
        outcome = self._outcome
        if isinstance(outcome, Outcome):
            handle._outcome, self._outcome = outcome, ref(outcome)
        handle._operation = self
        self._handle = ref(handle)
        self._grequest = GeneralizedRequest(self)
        show(handle, ctypes.addressof(self._grequest.handle))
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
        _refuse_in_a_child()
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
        _refuse_in_a_child()
        return self.ended or bool(_native.call_locked(self._lock, self._try_to_end))

    def _try_to_end(self) -> bool:
        if not self.ended and not self._request._poll():
            return False
        self._end()
        self._tell()
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
        """For a library that asks; called again where a signal's handler has raised."""
        while not self._told and not self.end_in_library():
            request = self._request
            if type(request) is Request:
                with suppress(Error):  # a timeout, which the library's waits do not have
                    _native.wait_for_requests((request,), all=True, timeout_ms=_SLICE_MS)
            else:
                sleep(_PAUSE_S)

    def _end_now(self, *, tell: bool) -> bool:
        if self.ended and not tell:
            return True
        finish = self._finish_and_tell if tell else self._finish
        return bool(_native.call_locked(self._lock, finish)) or self.ended

    def _finish(self) -> bool:
        if not self.ended and not self._request._poll():
            return False
        try:
            self._end()
        except Exception as error:  # told to whoever waits in the library
            if is_interruption(error):
                raise
            self._request.Cancel()
            self._request.Free()
            self._set(MPI.Status(), error)
        return True

    def _finish_and_tell(self) -> bool:
        if not self._finish():
            return False
        self._tell()
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
        except BaseException as error:
            if self._request._state == "active":
                raise
            if is_interruption(error):  # a moment after its end
                self._set(status, None, self._request._take_result())
                raise
            if not isinstance(error, Exception):
                raise
            self._set(status, error)
        else:
            self._set(status, None, self._request._take_result())

    def _set(self, status: MPI.Status, error: Exception | None, result: Any = None) -> None:
        if error is not None:
            code = error.Get_error_class() if isinstance(error, MPI.Exception) else MPI.ERR_OTHER
            status.Set_error(code)
        self._status, self.error = status, error
        outcome = self._outcome if isinstance(self._outcome, Outcome) else self._outcome()
        if outcome is not None:
            outcome.object = result
        if result is not None and self._place is not None:
            self._place.fill(result)
            self._kept = True
        self._place = None
        self._request = None  # and with it the buffer
        self.ended = True
        if self.after is not None:
            self.after()

    def _tell(self) -> None:
        """Tell the library, once, and leave an object where mpi4py looks for it."""
        if self._told or self._grequest is None:
            return
        handle = self._handle()
        outcome = None if handle is None else handle._outcome
        if outcome is not None and outcome.object is not None and not self._kept:
            objects_of_mpi4py.keep(handle, outcome.object)
        self._grequest.Complete()
        self._told = True

    # --- what the library calls ---

    def query_into(self, address: int) -> int:
        """Fill the library's status at ``address``; gives an error code."""
        if self.awaited:
            return MPI.SUCCESS
        COMPLETER.often = self._asked = True
        ctypes.memmove(address, MPI._addressof(self._status), _STATUS_BYTES)
        return self._status.Get_error()

    def end_by_library(self) -> None:
        """The request is ended: by a call of ours, or of the library's, which raises the error."""
        self.freed = True
        if self._asked and not self.released and isinstance(self.error, Error):
            (report if _MAY_CALL_BACK else late_reports.report_later)(self.error)

    def cancel(self, completed: bool) -> None:
        """Cancel what has not matched."""
        request = self._request
        if not completed and request is not None:
            request.Cancel()


def _refuse_in_a_child() -> None:
    """The operation is the parent's, and so is the library's request.

    Raises:
        Error: ``ERR_COMM``, this process was forked.
    """
    if _native.left_behind():
        raise make_error("ERR_COMM", _native.LEFT_BEHIND)


def _nothing() -> None:
    """Where no handle was given yet."""


def show(request: MPI.Request, address: int) -> None:
    """Let ``request`` show the library's request whose handle lies at ``address``."""
    ctypes.memmove(MPI._addressof(request), address, _HANDLE_BYTES)
