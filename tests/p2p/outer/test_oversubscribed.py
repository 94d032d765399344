"""More ranks than cores make progress."""

from __future__ import annotations

import os

from jobs import run

RING = """
import time
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
token = np.zeros(1, np.int64)
for turn in range(10_000 // size):
    if rank:
        comm.Recv(token, rank - 1, 0)
        token += 1
    comm.Send(token, (rank + 1) % size, 0)
    if rank == 0:
        comm.Recv(token, size - 1, 0)
        token += 1
if rank == 0:
    assert token[0] == 10_000 // size * size
    print("ended")
"""


def test_eight_ranks_on_two_cores_finish_a_ring_of_ten_thousand_messages(program):
    cores = set(sorted(os.sched_getaffinity(0))[:2])
    outcome = run(8, program(RING), cores=cores, timeout=60)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.strip() == "ended"
    assert outcome.seconds < 30


def test_eight_ranks_on_one_core_exchange_large_messages_with_all(program):
    path = program("""
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
into = np.zeros((size, 500_000), np.uint8)
requests = [comm.Irecv(into[source], source) for source in range(size)]
requests += [comm.Isend(np.full(500_000, rank + 1, np.uint8), dest) for dest in range(size)]
MPI.Request.Waitall(requests)
assert (into == np.arange(1, size + 1, dtype=np.uint8)[:, None]).all()
""")
    outcome = run(8, path, cores={min(os.sched_getaffinity(0))}, timeout=60)
    assert outcome.returncode == 0, outcome.output


PINNED = """
import os, sys, time
cores = sorted(os.sched_getaffinity(0))[:2]
import numpy as np
from mooncake_mpi import MPI, _native
comm = MPI.COMM_WORLD

def pinned_to(core):
    os.sched_setaffinity(0, {core})
    comm.Barrier()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # waits that slept look again
        if comm.rank == 0:
            time.sleep(0.3); comm.send(None, 1); comm.recv(None, 1)
        else:
            comm.recv(None, 0); time.sleep(0.3); comm.send(None, 0)
        yield _native.stats()["oversubscribed"]

for one in (False, True, False):
    core = cores[0] if one else cores[comm.rank]
    for said in pinned_to(core):
        if comm.allreduce(said == one, MPI.LAND):
            break
    else:
        sys.exit(f"rank {comm.rank} on core {core}: oversubscribed is {said}")
print("ended")
"""


def test_ranks_share_cores_where_they_are_pinned_to_the_same_ones(program):
    cores = set(sorted(os.sched_getaffinity(0))[:2])
    outcome = run(2, program(PINNED), cores=cores, timeout=90)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.split() == ["ended", "ended"]
