"""Collectives of torch on tensors of GPUs, small and large, beside what each rank reckons itself."""

from __future__ import annotations

import torch
import torch.distributed as dist
from harness import RANK, RANKS, check, main
from kinds import chosen

import mooncake_mpi.torch  # noqa: F401  (the backend)

gpu = chosen()
dist.init_process_group("mooncake_mpi")
SIZES = [1, 1000, 16385, 1 << 20]
TYPES = [torch.float32, torch.bfloat16, torch.float64, torch.int32]


def given(rank, size, kind):
    """A rank's tensor; small numbers, whose sums bfloat16 has."""
    numbers = (torch.arange(size, device=gpu.place) * 7 + rank * 3) % 11
    return numbers.to(kind)


def cases():
    for size in SIZES:
        for kind in TYPES:
            yield size, kind, [given(rank, size, kind) for rank in range(RANKS)]


@check
def all_reduce(_comm):
    for _, kind, every in cases():
        for op, wanted in (
            (dist.ReduceOp.SUM, sum(every)),
            (dist.ReduceOp.MAX, torch.stack(every).amax(0)),
            (dist.ReduceOp.PRODUCT, torch.stack(every).prod(0).to(kind)),
        ):
            tensor = every[RANK].clone()
            dist.all_reduce(tensor, op)
            assert torch.equal(tensor, wanted), op


@check
def average(_comm):
    tensor = given(RANK, 1000, torch.float32)
    dist.all_reduce(tensor, dist.ReduceOp.AVG)
    assert torch.allclose(tensor, sum(given(r, 1000, torch.float32) for r in range(RANKS)) / RANKS)


@check
def broadcast_and_reduce(_comm):
    for _, _, every in cases():
        tensor = every[RANK].clone()
        dist.broadcast(tensor, RANKS - 1)
        assert torch.equal(tensor, every[-1])
        tensor = every[RANK].clone()
        dist.reduce(tensor, 0)
        assert torch.equal(tensor, every[RANK] if RANK else sum(every))


@check
def gathers_and_scatters(_comm):
    for size, _, every in cases():
        whole = torch.cat(every)
        into = torch.empty_like(whole)
        dist.all_gather_into_tensor(into, every[RANK])
        assert torch.equal(into, whole)
        part = torch.empty_like(every[RANK])
        dist.reduce_scatter_tensor(part, whole)
        assert torch.equal(part, every[RANK] * RANKS)
        dist.all_to_all_single(into, whole)
        assert torch.equal(into, torch.cat([every[RANK]] * RANKS)), size


@check
def in_the_order_of_the_current_stream(_comm):
    if gpu.is_stand_in:
        stream = None
    else:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        tensor = torch.zeros(1000, device=gpu.place)
        if stream is not None:
            torch.cuda._sleep(20_000_000)
        tensor += RANK + 1
        dist.all_reduce(tensor)
        assert torch.equal(tensor, torch.full_like(tensor, RANKS * (RANKS + 1) / 2))


@check
def many_one_behind_the_other(_comm):
    for size in SIZES:
        tensors = [given(RANK, size, torch.float64) for _ in range(3)]
        for turn in range(40):
            tensor = tensors[turn % 3]
            dist.all_reduce(tensor)
            tensor /= RANKS
            if turn % 10 == 9:
                dist.broadcast(tensor, turn % RANKS)
        wanted = sum(given(rank, size, torch.float64) for rank in range(RANKS)) / RANKS
        assert all(torch.allclose(tensor, wanted) for tensor in tensors), size


@check
def in_the_thread_and_in_the_program(_comm):
    for size in SIZES:
        every = [given(rank, size, torch.float32) for rank in range(RANKS)]
        tensors = [every[RANK].clone() for _ in range(8)]
        works = []
        for turn, tensor in enumerate(tensors):
            if not gpu.is_stand_in:
                torch.cuda._sleep(1_000_000)
            tensor.add_(turn)
            work = dist.all_reduce(tensor, async_op=turn % 3 != 2)
            if work is not None:
                works.append(work)
        for work in works:
            work.wait()
        for turn, tensor in enumerate(tensors):
            assert torch.equal(tensor, sum(every) + RANKS * turn), (size, turn)


main()
