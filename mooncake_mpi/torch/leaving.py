"""The end of the program: no thread of this folder may be inside the engine then.

Registered when the folder is imported, and so called before MPI is finalised, or the engine ends
by itself; a lock of the set's own. The interpreter ends a thread that comes back from C++ too late,
and the process with it.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
from threading import Event
from time import monotonic
from typing import Protocol
from weakref import WeakSet

from mooncake_mpi import _native

#: Set when what is under way has had its time: waits in threads end.
LEAVING = Event()
#: How long a wait in a thread may last before it looks whether the program ends.
SLICE_MS = 100

_GRACE_S = 2.0
_END_S = 5.0


class Leaver(Protocol):
    """What has a thread."""

    def __hash__(self) -> int: ...

    def leave(self, seconds: float) -> None:
        """Take no more, and wait for the thread so long."""


THREADS: WeakSet[Leaver] = WeakSet()


@atexit.register
def _leave() -> None:
    leavers = list(THREADS)
    for seconds in (_GRACE_S, _END_S):
        deadline = monotonic() + seconds
        for leaver in leavers:
            leaver.leave(max(0.0, deadline - monotonic()))
        LEAVING.set()


def deliver_at_the_end_of_a_child() -> None:
    """Of a process that multiprocessing made: one that was forked has no end of the interpreter."""
    if multiprocessing.parent_process() is not None and not _child_ends:
        _child_ends.append(multiprocessing.util.Finalize(None, _end_of_child, exitpriority=0))


_child_ends: list[object] = []


def _end_of_child() -> None:
    _leave()
    _native.finalize()
