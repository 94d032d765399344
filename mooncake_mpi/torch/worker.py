"""A group's collective operations, one after another in the order of their calls.

A lock of its own guards the queue; operations run outside it, in the caller's thread where nothing
is before them and the caller waits, else in a thread of the group.
"""

from __future__ import annotations

from collections import deque
from threading import Condition, Lock
from typing import TYPE_CHECKING, TypeAlias

from mooncake_mpi.torch.crew import Crew
from mooncake_mpi.torch.leaving import THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: Runs, and gives what is to be called once the next may run.
    Operation: TypeAlias = Callable[[], "Callable[[], object] | None"]


class Worker:
    """The queue, and the threads, of which there are none before one is needed."""

    def __init__(self, name: str) -> None:
        self._changed = Condition(Lock())
        self._queue: deque[Operation] = deque()
        self._busy = False
        self._closed = False
        self._crew = Crew(name, self._serve)

    def run(self, prepare: Callable[[bool], Operation], *, wait: bool) -> None:
        """Run what ``prepare`` gives: here if the caller waits, and it is next.

        ``prepare`` is called in the order in which the operations run, and told whether this one
        runs here.
        """
        with self._changed:
            here = wait and not self._busy and not self._queue
            operation = prepare(here)
            if self._closed:
                raise RuntimeError("closed")
            if not here:
                self._queue.append(operation)
                self._crew.start()
                THREADS.add(self)
                self._changed.notify_all()
                return
            self._busy = True
        self._run(operation)

    def close(self) -> None:
        """Run what is in the queue, and no more."""
        self.leave(None)

    def leave(self, seconds: float | None) -> None:
        """As :meth:`close`, but wait for so long at most."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._crew.join(seconds)

    def _run(self, operation: Operation) -> Sequence[Callable[[], object]]:
        try:
            callback = operation()
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
        return () if callback is None else (callback,)

    def _serve(self) -> Sequence[Callable[[], object]] | None:
        with self._changed:
            self._changed.wait_for(lambda: not self._busy and (self._queue or self._closed))
            if not self._queue:
                return None
            operation = self._queue.popleft()
            self._busy = True
        return self._run(operation)
