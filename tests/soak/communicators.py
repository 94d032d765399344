"""Create and free communicators: memory, descriptors and mappings stay as they are.

    mpirun -n 3 python tests/soak/communicators.py --cycles 100000

A cycle duplicates a communicator, passes a message round a ring on the duplicate and frees it.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from pathlib import Path

import numpy as np

from mooncake_mpi import MPI

WARMUP_CYCLES = 300
ALLOWED_RESIDENT_BYTES = 2 << 20  # what the allocators of Python and the MPI library may round up
ALLOWED_BYTES_PER_CYCLE = 16
ALLOWED_MAPPINGS = 8


def measure():
    """Resident bytes, open descriptors and mappings of this process."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    descriptors = len(os.listdir("/proc/self/fd"))
    mappings = len(Path("/proc/self/maps").read_text().splitlines())
    return np.array([resident, descriptors, mappings])


def cycle(comm, number):
    """One communicator's life."""
    duplicate = comm.Dup()
    rank, size = duplicate.Get_rank(), duplicate.Get_size()
    token, into = np.array([number, rank]), np.empty(2, np.int64)
    right, left = (rank + 1) % size, (rank - 1) % size
    duplicate.Sendrecv(token, right, 5, into, left, 5)
    assert tuple(into) == (number, left), f"cycle {number}: {into} came from {left}"
    duplicate.Free()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=None, help="stop before all the cycles")
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    for number in range(WARMUP_CYCLES):
        cycle(comm, number)
    before = measure()
    start = time.monotonic()
    done = 0
    while done < options.cycles:
        batch = min(100, options.cycles - done)
        for number in range(done, done + batch):
            cycle(comm, number)
        done += batch
        late = options.seconds is not None and time.monotonic() - start > options.seconds
        if comm.bcast(late):
            break
    seconds = time.monotonic() - start
    growth = measure() - before
    allowed = [ALLOWED_RESIDENT_BYTES + ALLOWED_BYTES_PER_CYCLE * done, 0, ALLOWED_MAPPINGS]
    wrong = [
        f"rank {rank}: {what} grew by {grown}, {most} allowed"
        for rank, values in enumerate(comm.allgather(growth))
        for what, grown, most in zip(
            ("resident bytes", "descriptors", "mappings"), values, allowed, strict=True
        )
        if grown > most
    ]
    if comm.Get_rank() == 0:
        print(
            f"communicators: {done} cycles, {seconds / done * 1e6:.0f} us each; resident "
            f"{growth[0] / 1024:+.0f} KiB, descriptors {growth[1]:+d}, mappings {growth[2]:+d}",
            flush=True,
        )
    assert not wrong, "; ".join(wrong)


if __name__ == "__main__":
    main()
