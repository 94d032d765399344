"""Heat in a rod that is cut into one piece a rank: each step needs the neighbours' edges.

::

    mpirun -n 3 python docs/examples/halo_exchange.py
"""

from __future__ import annotations

import numpy as np

from mooncake_mpi import MPI

CELLS = 120
STEPS = 200


def step(rod: np.ndarray) -> np.ndarray:
    """The rod a moment later; its first and last cell are the neighbours' and stay."""
    later = rod.copy()
    later[1:-1] += 0.25 * (rod[:-2] - 2 * rod[1:-1] + rod[2:])
    return later


def main() -> None:
    """Compute in pieces, and compare with the whole."""
    # A Cartesian communicator of the drop-in is accelerated, too; beyond the ends is PROC_NULL.
    comm = MPI.COMM_WORLD.Create_cart([MPI.COMM_WORLD.size])
    left, right = comm.Shift(0, 1)
    whole = np.zeros(CELLS + 2)
    whole[40:60] = 100.0
    edges = np.linspace(1, CELLS + 1, comm.size + 1).astype(int)
    first, last = int(edges[comm.rank]), int(edges[comm.rank + 1])
    piece = whole[first - 1 : last + 1].copy()
    for _ in range(STEPS):
        # Views of the array: nothing is copied before it is sent. Receives first, so that what
        # arrives finds its place.
        requests = [
            comm.Irecv(piece[:1], source=left),
            comm.Irecv(piece[-1:], source=right),
            comm.Isend(piece[1:2], dest=left),
            comm.Isend(piece[-2:-1], dest=right),
        ]
        MPI.Request.Waitall(requests)
        piece = step(piece)
        whole = step(whole)
    error = float(np.abs(piece[1:-1] - whole[first:last]).max())
    worst = comm.allreduce(error, MPI.MAX)
    if comm.rank == 0:
        print(f"{STEPS} steps in {comm.size} pieces, off by {worst:.1e}")
    if worst > 1e-12:
        raise ValueError("the pieces do not make the whole")


if __name__ == "__main__":
    main()
