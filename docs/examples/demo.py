"""Two or more ranks exchange NumPy arrays; every byte that arrives is checked.

Run it with ``mpirun -n 2 python docs/examples/demo.py``.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from mooncake_mpi import MPI

SIZES_BYTES = (0, 1, 8, 1000, 4096, 65_537, 1 << 20, 8 << 20)


def pattern(source: int, tag: int, nbytes: int) -> np.ndarray:
    """The bytes that `source` sends under `tag`: different for every pair of them."""
    return np.random.default_rng((source, tag, nbytes)).integers(0, 256, nbytes, np.uint8)


def check(received: np.ndarray, source: int, tag: int) -> int:
    """Compare with what `source` must have sent; return the number of bytes."""
    expected = pattern(source, tag, received.size)
    if not np.array_equal(received, expected):
        wrong = int(np.flatnonzero(received != expected)[0])
        message = f"byte {wrong} of {received.size} from rank {source}, tag {tag}, is wrong"
        raise ValueError(message)
    return received.nbytes


def by_tag(comm: MPI.Intracomm) -> int:
    """Rank 0 sends every size under its own tag; the others receive in the opposite order."""
    tags = range(len(SIZES_BYTES))
    if comm.rank == 0:
        messages = [pattern(0, tag, SIZES_BYTES[tag]) for tag in tags]
        requests = [
            comm.Isend(messages[tag], dest=dest, tag=tag)
            for dest in range(1, comm.size)
            for tag in tags
        ]
        MPI.Request.Waitall(requests)
        return 0
    checked = 0
    for tag in reversed(tags):
        received = np.empty(SIZES_BYTES[tag], np.uint8)
        comm.Recv(received, source=0, tag=tag)
        checked += check(received, 0, tag)
    return checked


def by_wildcard(comm: MPI.Intracomm) -> int:
    """Rank 0 takes whatever comes, from whom it comes, and learns the size by a probe."""
    if comm.rank > 0:
        for tag, nbytes in enumerate(SIZES_BYTES):
            comm.Send(pattern(comm.rank, tag, nbytes), dest=0, tag=tag)
        return 0
    checked = 0
    for _ in range((comm.size - 1) * len(SIZES_BYTES)):
        status = MPI.Status()
        message = comm.Mprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status)
        received = np.empty(status.Get_count(MPI.BYTE), np.uint8)
        message.Recv(received)
        checked += check(received, status.Get_source(), status.Get_tag())
    return checked


def in_rank_order(comm: MPI.Intracomm) -> int:
    """Every rank sends to every rank; each receives in rank order, with room to spare."""
    nbytes = 4096
    requests = [
        comm.Isend(pattern(comm.rank, dest, nbytes), dest=dest, tag=dest)
        for dest in range(comm.size)
    ]
    checked = 0
    for source in range(comm.size):
        received = np.empty(2 * nbytes, np.uint8)
        status = MPI.Status()
        comm.Recv(received, source=source, tag=comm.rank, status=status)
        checked += check(received[: status.Get_count(MPI.BYTE)], source, comm.rank)
    MPI.Request.Waitall(requests)
    return checked


def round_a_ring(comm: MPI.Intracomm) -> int:
    """Each array goes once round all ranks and comes back unchanged."""
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    checked = 0
    for tag, nbytes in enumerate(SIZES_BYTES):
        carried = pattern(comm.rank, tag, nbytes)
        for _ in range(comm.size):
            arriving = np.empty(nbytes, np.uint8)
            comm.Sendrecv(
                carried, dest=right, sendtag=tag, recvbuf=arriving, source=left, recvtag=tag
            )
            carried = arriving
        checked += check(carried, comm.rank, tag)
    return checked


def main() -> int:
    """Run the four patterns and print what was checked on rank 0."""
    comm = MPI.COMM_WORLD
    if comm.size < 2:
        sys.exit("start it with mpirun -n 2 (or more)")
    for run in (by_tag, by_wildcard, in_rank_order, round_a_ring):
        comm.Barrier()
        started = time.perf_counter()
        checked = comm.reduce(run(comm), op=MPI.SUM, root=0)
        if comm.rank == 0:
            name, elapsed_ms = run.__name__.replace("_", " "), 1e3 * (time.perf_counter() - started)
            print(f"   {name:<14} {checked:>12,} bytes right   {elapsed_ms:8.1f} ms", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
