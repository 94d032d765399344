"""Ranks pass numbers round a ring; one of them crashes, and the others go on without it.

::

    mpirun --with-ft ulfm -n 3 python docs/examples/recovery.py           # Open MPI
    mpiexec -disable-auto-cleanup -n 3 python docs/examples/recovery.py   # MPICH
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from mooncake_mpi import MPI

ROUNDS = 30
CRASH_IN_ROUND = 10
#: What a call raises when it cannot be completed any more: a rank has failed, or another rank has
#: seen that first and revoked the communicator.
LOST = (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED)


def pass_on(comm: MPI.Intracomm, number: float) -> float:
    """Give ``number`` to the next rank; return the previous rank's."""
    received = np.zeros(1)
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    comm.Sendrecv(np.array([number], float), dest=right, recvbuf=received, source=left)
    return float(received[0])


def survivors(comm: MPI.Intracomm, done: int) -> tuple[MPI.Intracomm, int]:
    """A communicator without the failed ranks, and the number of rounds that all of them did."""
    comm.Revoke()  # whoever still waits for somebody in it raises ERR_REVOKED
    comm = comm.Shrink()
    # Some were a round ahead. The MPI library knows nothing of this communicator, so its
    # collective operations are not there: messages are.
    if comm.rank != 0:
        comm.send(done, dest=0)
        return comm, comm.recv(source=0)
    done = min([done, *(comm.recv(source=rank) for rank in range(1, comm.size))])
    for rank in range(1, comm.size):
        comm.send(done, dest=rank)
    return comm, done


def main() -> None:
    """Pass the ranks' numbers round, whoever is there."""
    comm, done = MPI.COMM_WORLD.Dup(), 0
    crashes = comm.rank == 1
    while done < ROUNDS:
        if crashes and done == CRASH_IN_ROUND:
            os._exit(1)
        try:
            previous = pass_on(comm, comm.rank)
        except MPI.Exception as error:
            if error.Get_error_class() not in LOST:
                raise
            comm, done = survivors(comm, done)
        else:
            if previous != (comm.rank - 1) % comm.size:
                raise ValueError(f"rank {previous} stands before rank {comm.rank}")
            done += 1
    if comm.rank == 0:
        print(f"{done} rounds, at last with {comm.size} of {MPI.COMM_WORLD.size} ranks")
    sys.stdout.flush()
    time.sleep(0.5)  # a launcher may lose what is written just before the end
    os._exit(0)  # MPI.Finalize may wait for the dead


if __name__ == "__main__":
    main()
