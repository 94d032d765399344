"""Threads that end messages whose futures were asked for.

Messages are given to them in any thread; a lock of its own guards the list. The engine's word of an
operation's end comes to the interpreter's main thread, which may be asleep in torch's own wait for
a future.
"""

from __future__ import annotations

from threading import Condition, Lock
from typing import TYPE_CHECKING

from mooncake_mpi import _native
from mooncake_mpi.torch.crew import Crew
from mooncake_mpi.torch.leaving import THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mooncake_mpi.requests.request import Request

#: How long it takes at most until what was added is looked at.
_SLICE_MS = 2


class Watcher:
    """The list, and the threads, which sleep while nothing is pending."""

    def __init__(self) -> None:
        self._changed = Condition(Lock())
        self._pending: list[tuple[Request, Callable[[], None]]] = []
        self._crew = Crew("mooncake_mpi futures", self._watch)
        self._leaving = False

    def add(self, request: Request, end: Callable[[], None]) -> None:
        """Call ``end`` once the request is complete."""
        with self._changed:
            self._pending.append((request, end))
            self._crew.start()
            THREADS.add(self)
            self._changed.notify()

    def leave(self, seconds: float) -> None:
        """End the threads; what has not completed by now has nobody to tell."""
        with self._changed:
            self._leaving = True
            self._changed.notify()
        self._crew.join(seconds)

    def _watch(self) -> Sequence[Callable[[], None]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._leaving)
            if self._leaving:
                return None
            pending = list(self._pending)
        requests = tuple(request for request, _ in pending)
        _native.wait_for_requests(requests, all=False, timeout_ms=_SLICE_MS)
        ended = [one for one in pending if not one[0] or one[0]._poll()]
        with self._changed:
            self._pending = [one for one in self._pending if one not in ended]
        return [end for _, end in ended]


WATCHER = Watcher()
