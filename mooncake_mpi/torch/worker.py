"""A group's collective operations, one after another in the order of their calls.

A lock of its own guards the queue; operations run outside it, in the caller's thread where nothing
is before them and the caller waits, else in one thread of the group.
"""

from __future__ import annotations

import sys
from collections import deque
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING

from mooncake_mpi.torch.leaving import THREADS

if TYPE_CHECKING:
    from collections.abc import Callable


class Worker:
    """The queue and the thread, which is started when it is needed first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = Condition(Lock())
        self._queue: deque[Callable[[], None]] = deque()
        self._busy = False
        self._closed = False
        self._thread: Thread | None = None

    def run(self, prepare: Callable[[], Callable[[], None]], *, wait: bool) -> None:
        """Run what ``prepare`` gives: here if the caller waits, and it is next.

        ``prepare`` is called in the order in which the operations run.
        """
        with self._changed:
            operation = prepare()
            if self._closed:
                raise RuntimeError("closed")
            if not wait or self._busy or self._queue:
                self._queue.append(operation)
                if self._thread is None:
                    self._thread = Thread(target=self._serve, name=self._name, daemon=True)
                    self._thread.start()
                    THREADS.add(self)
                self._changed.notify_all()
                return
            self._busy = True
        try:
            operation()
        finally:
            self._leave()

    def close(self) -> None:
        """Run what is in the queue, and no more."""
        self.leave(None)

    def leave(self, seconds: float | None) -> None:
        """As :meth:`close`, but wait for so long at most."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _leave(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._busy and (self._queue or self._closed))
                if not self._queue:
                    return
                operation = self._queue.popleft()
                self._busy = True
            try:
                operation()
            except Exception:  # noqa: BLE001 - of a future's callback: the others must run
                sys.excepthook(*sys.exc_info())
            finally:
                del operation  # and its tensors, while nothing else is to do
                self._leave()
