"""Threads that take turns at one work, so that the program's own callbacks cannot hold it up.

A future's callbacks are called where the future ends, and may themselves wait for an operation of
the same group: while one thread is in them, another one has its turn. Called in any thread; locks
of its own guard the turn and the list of threads.
"""

from __future__ import annotations

import sys
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: Does a part of the work, and gives what is to be called after the turn; ``None`` at the end.
    Step: TypeAlias = Callable[[], "Sequence[Callable[[], object]] | None"]


class Crew:
    """The threads: one once there is work, more once there are callbacks.

    Args:
        name: of the threads.
        step: what is done in a turn; it waits for something to do.
    """

    def __init__(self, name: str, step: Step) -> None:
        self._name = name
        self._step = step
        self._turn = Lock()
        self._lock = Lock()
        self._threads: list[Thread] = []
        self._away = 0

    def start(self) -> None:
        """Have a thread that is in no callback."""
        if len(self._threads) > self._away:
            return
        with self._lock:
            if len(self._threads) > self._away:
                return
            thread = Thread(target=self._run, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def join(self, seconds: float | None) -> None:
        """Wait until all have ended, for so long at most; from a callback for the others."""
        deadline = None if seconds is None else monotonic() + seconds
        for thread in list(self._threads):
            if thread is not current_thread():
                thread.join(None if deadline is None else max(0.0, deadline - monotonic()))

    def _run(self) -> None:
        while True:
            with self._turn:
                callbacks = self._step()
            if callbacks is None:
                return
            if callbacks:
                self._call(callbacks)
            del callbacks  # and their tensors, while nothing else is to do

    def _call(self, callbacks: Sequence[Callable[[], object]]) -> None:
        with self._lock:
            self._away += 1
        try:
            self.start()
            for callback in callbacks:
                _call(callback)
        finally:
            with self._lock:
                self._away -= 1


def _call(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception:  # noqa: BLE001 - the others must be called
        sys.excepthook(*sys.exc_info())
