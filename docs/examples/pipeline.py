"""Frames go through all ranks, each of which does its part; persistent requests, two frames deep.

::

    mpirun -n 3 python docs/examples/pipeline.py
"""

from __future__ import annotations

import numpy as np

from mooncake_mpi import MPI

FRAMES = 50
#: Memory made for messages would do, too: mooncake_mpi.empty(SHAPE, "f4").
SHAPE = (64, 64)


def main() -> None:
    """Each stage adds its rank to every frame."""
    comm = MPI.COMM_WORLD
    last = comm.size - 1
    source = comm.rank - 1 if comm.rank else MPI.PROC_NULL
    dest = comm.rank + 1 if comm.rank < last else MPI.PROC_NULL
    # Two buffers: one is sent on while the next frame arrives in the other. What a request does is
    # said once, and started for every frame.
    frames = [np.zeros(SHAPE, "f4") for _ in range(2)]
    arrivals = [comm.Recv_init(frame, source) for frame in frames]
    departures = [comm.Send_init(frame, dest) for frame in frames]
    arrivals[0].Start()
    for number in range(FRAMES):
        here, other = number % 2, (number + 1) % 2
        arrivals[here].Wait()
        if number:
            departures[other].Wait()  # its buffer is free
        if number + 1 < FRAMES:
            arrivals[other].Start()
        if comm.rank == 0:
            frames[here][:] = number
        frames[here] += comm.rank
        departures[here].Start()
        if comm.rank == last and not (frames[here] == number + sum(range(comm.size))).all():
            raise ValueError(f"frame {number} is wrong")
    departures[(FRAMES - 1) % 2].Wait()
    for request in [*arrivals, *departures]:
        request.Free()
    if comm.rank == last:
        print(f"{FRAMES} frames through {comm.size} stages")


if __name__ == "__main__":
    main()
