"""A process that dies is an error of torch's kind at those who use torch.distributed with it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")


def test_a_dead_rank_ends_messages_and_collectives_with_it(survive):
    results = survive(
        3,
        """
import torch
import torch.distributed as dist
import mooncake_mpi.torch

def told(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except dist.DistBackendError as error:
        return str(error)

dist.init_process_group("mooncake_mpi")
dist.barrier()
if rank == 2:
    time.sleep(0.5)
    die()
into = torch.zeros(3)
receive = told(dist.recv, into, 2, tag=5)
asynchronous = dist.irecv(into, 2)
late = told(asynchronous.wait)
partner = 1 - rank
works = [dist.isend(torch.ones(3), partner), dist.irecv(into, partner)]
for work in works:
    work.wait()
all_reduce = told(dist.all_reduce, torch.ones(100_000))
again = told(dist.barrier)
end([0, 1], receive=receive, late=late, into=into.tolist(), all_reduce=all_reduce, again=again)
""",
        survivors=[0, 1],
        timeout=90,
    )
    for rank in (0, 1):
        told = results[rank]
        assert "recv of group '0', from rank 2, tag 5: MPI_ERR_PROC_FAILED" in told["receive"]
        assert "MPI_ERR_PROC_FAILED" in told["late"]
        assert told["into"] == [1, 1, 1]
        assert "all_reduce of group '0', operation 2: " in told["all_reduce"]
        assert "failed before" in told["again"]
