"""A process that dies is an error at those who talk to it, and nothing to everybody else."""

from __future__ import annotations

import pytest

WAYS = ["signal.SIGKILL", "'segfault'", "'exit'"]


@pytest.mark.parametrize("how", WAYS)
def test_a_dead_rank_ends_what_waits_for_it_and_the_others_go_on(survive, how):
    results = survive(
        4,
        f"""
how = {how}
into = np.zeros(10)
large = np.full(3_000_000, rank)
kept = np.zeros(3_000_000, int)
comm.Barrier()
if rank == 3:
    time.sleep(0.5)
    die(how)
partner = 1 - rank
if rank == 2:
    waits = caught(comm.Recv, into, 3, 5)
    end([0, 1, 2], waits=waits, sends=caught(comm.Send, into, 3),
        receives=caught(comm.Irecv(into, 3).Wait), probes=caught(comm.Probe, 3),
        looks=caught(comm.Iprobe, 3), objects=caught(comm.recv, source=3),
        all=caught(MPI.Request.Waitall, [comm.Irecv(into, 3, 1), comm.Irecv(into, 3, 2)]))
announced = comm.Isend(large, 3, 1)
turns = 0
deadline = time.monotonic() + 1.2
over = False
while not over:
    comm.Sendrecv(large, partner, 2, kept, partner, 2)
    assert (kept == partner).all()
    mine = np.full(10, float(turns if rank or time.monotonic() < deadline else -1))
    comm.Sendrecv(mine, partner, 3, into, partner, 3)
    over = -1 in (mine[0], into[0])
    assert over or (into == turns).all()
    turns += 1
end([0, 1, 2], turns=turns, announced=caught(announced.Wait), failed=comm._communicator.failures()[0])
""",
        survivors=[0, 1, 2],
    )
    waiting = results[2]
    for call in ("waits", "sends", "receives", "probes", "looks", "objects"):
        assert waiting[call][0] == "PROC_FAILED", call
        assert "rank 3" in waiting[call][1]
    assert waiting["all"][0] == "IN_STATUS"
    assert "rank 3" in waiting["all"][1]
    assert waiting["waits"][2] - results["died"] < 1
    for rank in (0, 1):
        assert results[rank]["announced"][0] == "PROC_FAILED"
        assert results[rank]["failed"] == [3]
        assert results[rank]["turns"] > 0


def test_who_waits_inside_the_mpi_library_hears_of_a_death_too(survive):
    results = survive(
        2,
        """
import mooncake_mpi
from mpi4py import MPI as library
wrapped = mooncake_mpi.Intracomm(library.COMM_WORLD).Dup()
into = np.zeros(10)
wrapped.Barrier()
if rank == 1:
    time.sleep(0.3)
    die()
named, wild = wrapped.Irecv(into, 1, 5), wrapped.Irecv(into, MPI.ANY_SOURCE, 6)
end([0], all=caught(library.Request.Waitall, [named]), any=caught(library.Request.Wait, wild),
    own=caught(wrapped.Irecv(into, 1).Wait), object=caught(library.Request.wait, wrapped.irecv(source=1)))
""",
        survivors=[0],
    )[0]
    assert results["all"][0] == "IN_STATUS"
    assert results["own"][0] == "PROC_FAILED"
    assert results["any"] is not None
    assert results["object"] is not None
