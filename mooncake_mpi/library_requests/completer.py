"""A thread of its own that ends operations while the program waits for them in the MPI library.

Operations are given to it in any thread; a lock guards its start alone. The library's
``MPI_Waitall`` makes no progress of the engine's and calls none of its functions. So for a request
that the library knows too, this thread looks whether the operation is complete, and tells the
library. A program that waits through the request's own methods does without: the thread then looks
once in a millisecond, and sleeps while nothing is pending.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import Protocol

#: How often it looks, in seconds, where the program's own waits end what it starts.
_RARE_S = 1e-3
#: How often where they were waited for in the library, and for how long after the last change.
_OFTEN_S = 10e-6
_OFTEN_FOR_S = 10e-3
#: How long it stays awake while nothing is pending: most programs start the next operation soon.
_LINGER_S = 20e-3

_PR_SET_TIMERSLACK = 29


class Pending(Protocol):
    """What is to be ended."""

    def end_if_complete(self) -> bool:
        """End the operation, in the library too, if it is complete; whether it was."""


class Completer:
    """The thread, started at the first operation."""

    def __init__(self) -> None:
        self._pending: dict[int, Pending] = {}
        self._thread: Thread | None = None
        self._lock = Lock()
        self._awake = Event()
        self._stopping = False
        self._added = False  # since the thread looked last
        #: Whether the program waits in the library, by what it did last.
        self.often = False

    def add(self, operation: Pending) -> None:
        """Look after ``operation`` from now on."""
        self._pending[id(operation)] = operation
        self._added = True
        if not self._awake.is_set():
            self._start()
            self._awake.set()

    def stop(self) -> None:
        """End the thread: MPI or the interpreter is about to end."""
        thread, self._stopping = self._thread, True
        self._awake.set()
        if thread is not None:
            thread.join(1.0)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopping:
                self._thread = Thread(target=self._run, name="mooncake_mpi completer", daemon=True)
                self._thread.start()
                atexit.register(self.stop)

    def _run(self) -> None:
        # Its sleeps are shorter than what the kernel rounds them up to, 50 us.
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000)
        changed = monotonic()
        while not self._stopping:
            if self._look():
                changed = monotonic()
            quiet = monotonic() - changed
            if not self._pending and quiet > _LINGER_S:
                self._awake.clear()
                if not self._pending:  # what is added from here on sets it again
                    self._awake.wait()
                changed = monotonic()
                continue
            sleep(_OFTEN_S if self.often and quiet < _OFTEN_FOR_S else _RARE_S)

    def _look(self) -> bool:
        """End what is complete; whether anything was, or is new."""
        added, self._added = self._added, False
        ended = [key for key, operation in list(self._pending.items()) if _end(operation)]
        for key in ended:
            del self._pending[key]
        return added or bool(ended)


def _end(operation: Pending) -> bool:
    try:
        return operation.end_if_complete()
    except Exception:  # noqa: BLE001 - the others must not wait for ever
        sys.excepthook(*sys.exc_info())
        return True


COMPLETER = Completer()
