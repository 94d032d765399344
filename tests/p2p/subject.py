"""The MPI module under test: ours, or with MOONCAKE_MPI_TEST_AGAINST=mpi plain mpi4py.

The second form checks the expectations themselves: what a test demands of us, the MPI library must do too.
"""

from __future__ import annotations

import os
import time

AGAINST_MPI = os.environ.get("MOONCAKE_MPI_TEST_AGAINST") == "mpi"

from barrier import quiet_barrier  # noqa: E402
from mpi4py import MPI as library  # noqa: E402, N811

if AGAINST_MPI:
    from mpi4py import MPI
else:
    from mooncake_mpi import MPI

__all__ = [
    "AGAINST_MPI",
    "MPI",
    "library",
    "once_in_three",
    "quiet_barrier",
    "ring_of",
    "wait_until",
]


def ring_of(comm):
    """Right and left neighbour; with one rank both are the rank itself."""
    rank, size = comm.Get_rank(), comm.Get_size()
    return (rank + 1) % size, (rank - 1) % size


def wait_until(condition, timeout=30.0):
    """Poll until ``condition()`` is true; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(1e-4)


def once_in_three(attempt):
    """Fail when ``attempt()``, which all ranks make together, returns a complaint on some rank each time.

    For what is a matter of time: a machine that stands still for a moment spoils an attempt, not three.
    """
    complaints = []
    for _ in range(3):
        complaint = attempt()
        quiet_barrier()
        of_all = library.COMM_WORLD.allgather(complaint)
        if not any(of_all):
            return
        complaints.append(dict(enumerate(of_all)))
    raise AssertionError(f"by rank, each time: {complaints}")
