"""Requests whose operation has several parts, each a message of its own.

Called in the program's threads and in the completer's, by the engine too when a part that nobody
waits for is done; such an operation has a lock, held by whoever takes its next steps.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mooncake_mpi import _native
from mooncake_mpi.errhandlers import reported
from mooncake_mpi.errors import Error
from mooncake_mpi.interruptions import is_interruption
from mooncake_mpi.requests.request import Request
from mooncake_mpi.requests.states import wait_for
from mooncake_mpi.requests.statuses import fill_empty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

    from mooncake_mpi.requests.states import AnyRequest

_WAIT_SLICE_MS = 50


class Driver(Protocol):
    """What a :class:`CompositeRequest` completes."""

    def _poll(self) -> bool:
        """Take the next steps; whether the operation is complete."""

    def _pending(self) -> Sequence[AnyRequest]:
        """The requests that the next step waits for."""

    def _complete(self, status: MPI.Status | None) -> Any:
        """Fill ``status`` and give the result; called once, after ``_poll`` was true."""

    def _look(self, status: MPI.Status) -> None:
        """Fill ``status`` as ``_complete`` would; after ``_poll`` was true, and nothing ends."""

    def _cancel(self) -> None:
        """Cancel what can still be cancelled."""

    def _leave(self) -> None:
        """Nobody will complete the operation: see to it that it completes by itself."""


class CompositeMethods:
    """Completion of a request that is made of several operations, told by its driver.

    ``_driver`` is ``None`` while there is nothing to complete.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _driver: Driver | None
        _result: Any

    @property
    def _state(self) -> str:
        return "null" if self._driver is None else "active"

    def __bool__(self) -> bool:
        return self._driver is not None

    def _poll(self) -> bool:
        return self._driver is None or self._driver._poll()

    def _pending(self) -> Sequence[AnyRequest]:
        return () if self._driver is None else self._driver._pending()

    @property
    def _context(self) -> int:
        """Whose error handler hears of errors."""
        communicator = getattr(self._driver, "_communicator", None)
        return 0 if communicator is None else communicator.number

    @reported
    def Wait(self, status: MPI.Status | None = None) -> Literal[True]:
        """Wait for the operation to complete."""
        return self._wait(status)

    @reported
    def Test(self, status: MPI.Status | None = None) -> bool:
        """Whether the operation is complete; ends the request if so."""
        return self._test(status)

    def _wait(self, status: MPI.Status | None = None) -> Literal[True]:
        """As :meth:`Wait`, for the package: no error handler is called."""
        while not self._poll():
            wait_for([self], _WAIT_SLICE_MS)  # type: ignore[list-item]
        self._end(status)
        return True

    def _test(self, status: MPI.Status | None = None) -> bool:
        """As :meth:`Test`, for the package."""
        if not self._poll():
            return False
        self._end(status)
        return True

    @reported
    def Get_status(self, status: MPI.Status | None = None) -> bool:
        """Whether the operation is complete; the request stays."""
        if not self._poll():
            return False
        if status is not None:
            self._look(status)
        return True

    def _look(self, status: MPI.Status) -> None:
        if self._driver is None:
            fill_empty(status)
        else:
            self._driver._look(status)

    @reported
    def Cancel(self) -> None:
        """Cancel the operation where it has not matched."""
        if self._driver is not None:
            self._driver._cancel()

    @reported
    def Free(self) -> None:
        """Let go of the request; its operation completes by itself."""
        driver, self._driver = self._driver, None  # type: ignore[misc]
        if driver is not None:
            driver._leave()

    def __del__(self) -> None:
        driver = getattr(self, "_driver", None)
        if driver is not None:
            enough = _leave(driver)
            while enough and _unleft:
                enough = _leave(_unleft.pop())

    def _end(self, status: MPI.Status | None) -> None:
        driver, self._driver = self._driver, None  # type: ignore[misc]
        if driver is None:
            if status is not None:
                fill_empty(status)
            return
        try:
            self._result = driver._complete(status)
        except BaseException as error:
            pending = isinstance(error, Error) and error.name == "ERR_PROC_FAILED_PENDING"
            if pending or is_interruption(error):
                self._driver = driver  # type: ignore[misc]
            raise


# Operations whose requests were dropped when memory had come to an end: another drop leaves them.
_unleft: list[Driver] = []


def _leave(driver: Driver) -> bool:
    """Let a driver complete by itself; false if there is no memory for it now."""
    try:
        driver._leave()
    except Error:
        pass  # the communicator was freed before
    except MemoryError:
        _unleft.append(driver)
        return False
    return True


class CompositeRequest(CompositeMethods, Request):
    """A request for an operation of several parts, such as an object with attachments."""

    __slots__ = ("_driver",)
    __module__ = "mpi4py.MPI"  # programs look for it there
    __qualname__ = "Request"

    def __new__(cls, _driver: Driver | None = None) -> CompositeRequest:
        """A request like any other to the interpreter; the driver is set by ``__init__``."""
        return _native.Request.__new__(cls)

    def __init__(self, driver: Driver | None = None) -> None:
        self._driver = driver


CompositeRequest.__name__ = "Request"


def complete_unwatched(driver: Driver) -> None:
    """Take a driver's next steps whenever they are due, without a request that anybody holds."""
    _Unwatched(driver).go_on()


class _Unwatched:
    """A driver whose next steps are taken when a part that it waits for is done."""

    __slots__ = ("_again", "_driver", "_known", "_lock")

    def __init__(self, driver: Driver) -> None:
        self._driver: Driver | None = driver
        # Parts that were seen complete, or will call: whatever completes unseen is looked at again.
        self._known: dict[int, _native.Request] = {}
        # A step makes progress, and with it other parts complete and call.
        self._lock = Lock()
        self._again = False

    def go_on(self) -> None:
        """Take the steps that are due; who is called meanwhile leaves them to the caller before."""
        self._again = True
        while self._again and self._lock.acquire(blocking=False):
            try:
                self._again = False
                self._take_steps()
            finally:
                self._lock.release()

    def _take_steps(self) -> None:
        driver = self._driver
        if driver is None:
            return
        try:
            while not driver._poll():
                if not self._has_news(driver._pending()):
                    return
            self._driver = None
            driver._complete(None)
        except Error:
            self._driver = None  # as of every operation whose request was freed

    def _has_news(self, parts: Sequence[AnyRequest]) -> bool:
        """Whether the driver is to be asked again at once; otherwise a part calls when it is."""
        news = False
        for part in parts:
            if isinstance(part, _native.Request) and id(part) not in self._known:
                self._known[id(part)] = part
                news |= part._poll() or not _native.call_when_done(part, self.go_on)
        return news


class SendAndReceive:
    """The driver of ``Isendrecv``: the status is the receive's."""

    __slots__ = ("_receive", "_send")

    def __init__(self, send: Request, receive: Request) -> None:
        self._send = send
        self._receive = receive

    def _poll(self) -> bool:
        return self._send._poll() and self._receive._poll()

    def _pending(self) -> Sequence[AnyRequest]:
        return (self._send, self._receive)

    def _complete(self, status: MPI.Status | None) -> None:
        try:
            self._send._wait()
        finally:
            self._receive._wait(status)

    def _look(self, status: MPI.Status) -> None:
        self._receive.Get_status(status)

    def _leave(self) -> None:
        """Nothing: each part completes by itself when its request is dropped."""

    def _cancel(self) -> None:
        self._receive.Cancel()
