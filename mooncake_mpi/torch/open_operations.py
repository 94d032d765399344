"""A group's collectives that streams wait for: what became of them, when the program is elsewhere.

Outcomes are taken by the group's next call, in the program's thread, or by a thread of the group's
own that looks now and then, and finds what would never end. A lock guards the list and the ports in
it.
"""

from __future__ import annotations

from collections import deque
from threading import Event, Lock, Thread
from time import sleep
from typing import TYPE_CHECKING, NamedTuple

from mooncake_mpi.torch.leaving import SLICE_MS, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi.torch.stream_port import StreamPort

#: So many looks without anything to look at, and the thread sleeps.
_IDLE_LOOKS = 50
#: Between two looks at the end.
_LEAVING_S = 0.002


class OpenOperation(NamedTuple):
    """One whose messages may be under way."""

    port: StreamPort
    fail: Callable[[Exception], object]


class OpenOperations:
    """The list, oldest first, and its thread, which is started when it is needed first.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._open: deque[OpenOperation] = deque()
        self._awake = Event()
        self._leaving = Event()
        self._thread: Thread | None = None

    def add(self, port: StreamPort, fail: Callable[[Exception], object]) -> None:
        """Look after an operation; ``fail`` is called if it does not end well."""
        with self._lock:
            self._open.append(OpenOperation(port, fail))
            if self._thread is None:
                self._thread = Thread(target=self._watch, name=self._name, daemon=True)
                self._thread.start()
                THREADS.add(self)
        if not self._awake.is_set():
            self._awake.set()

    def sweep(self) -> None:
        """Take the outcomes of those that have ended."""
        while self._open:
            with self._lock:
                if not self._open or not self._open[0].port.is_over():
                    return
                first = self._open.popleft()
                failure = _failure_of(first.port.end)
            if failure is not None:
                first.fail(failure)

    def close(self) -> None:
        """Wait until all have ended, each at its timeout if not before."""
        self.leave(None)

    def leave(self, seconds: float | None) -> None:
        """As :meth:`close`, for so long at most."""
        self._leaving.set()
        self._awake.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _watch(self) -> None:
        idle = 0
        while self._open or not self._leaving.is_set():
            idle = 0 if self._open else idle + 1
            if idle > _IDLE_LOOKS:
                self._awake.clear()
                if not self._open and not self._leaving.is_set():
                    self._awake.wait()
                idle = 0
            if self._leaving.wait(SLICE_MS / 1000):
                sleep(_LEAVING_S)
            self.sweep()
            self._look()

    def _look(self) -> None:
        """Those behind the oldest wait for it, too."""
        while self._open:
            with self._lock:
                if not self._open:
                    return
                failure = _failure_of(self._open[0].port.look)
                if failure is None:
                    return
                first = self._open.popleft()
            first.fail(failure)


def _failure_of(what: Callable[[], None]) -> Exception | None:
    try:
        what()
    except Exception as error:  # noqa: BLE001 - it is told
        return error
    return None
