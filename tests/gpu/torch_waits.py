"""Receives into tensors of GPUs that a stream waits for, by torch.distributed."""

from __future__ import annotations

import time

import torch
import torch.distributed as dist
from harness import RANK, RANKS, LeftOut, check, main, meet, only
from kinds import chosen

import mooncake_mpi.torch  # noqa: F401  (the backend)

gpu = chosen()
dist.init_process_group("mooncake_mpi")
RIGHT, LEFT = (RANK + 1) % RANKS, (RANK - 1) % RANKS
SIZES = [1, 2000, 70_000, 3_000_001]


def needs_gpu():
    if gpu.is_stand_in:
        raise LeftOut("torch has no GPU here")


def load_kernels():
    """What is launched for the first time behind a wait may keep the program until that ends."""
    tensor = filled(4, 1)
    assert torch.equal(tensor * 2, tensor + 1)
    unit = torch.eye(1024, device=gpu.place)
    assert torch.equal(unit @ unit, unit)


def filled(size, value):
    return torch.full((size,), float(value), device=gpu.place)


@check
def the_program_goes_on_while_the_stream_waits(_comm):
    needs_gpu()
    load_kernels()
    for size in SIZES:
        meet()
        if RANK == 0:
            into = filled(size, -1)
            torch.cuda.synchronize()
            work = dist.irecv(into, 1, tag=3)
            began = time.monotonic()
            work.wait()
            total = into * 2  # comes after the message
            took = time.monotonic() - began
            assert took < 0.15, f"the program waited {took:.3f} s"
            assert torch.equal(total, filled(size, 14)), size
            assert work.is_completed()
        elif RANK == 1:
            time.sleep(0.3)
            dist.send(filled(size, 7), 0, tag=3)


@check
def messages_both_ways_one_behind_the_other(_comm):
    for size in SIZES:
        for turn in range(30):
            into = [filled(size, -1) for _ in range(3)]
            out = [filled(size, 100 * RANK + turn + tag) for tag in range(3)]
            sends = [dist.isend(tensor, RIGHT, tag=tag) for tag, tensor in enumerate(out)]
            receives = [dist.irecv(tensor, LEFT, tag=tag) for tag, tensor in enumerate(into)]
            for work in receives if turn % 2 else receives[::-1]:
                work.wait()
            sums = [tensor + 1 for tensor in into]
            for work in sends:
                work.wait()
            for tag, tensor in enumerate(sums):
                assert torch.equal(tensor, filled(size, 100 * LEFT + turn + tag + 1)), (size, turn)


def sums_behind_waits(size):
    """Of four tensors of rank 1's, that the stream waits for in the order of their tags."""
    into = [filled(size, -1) for _ in range(4)]
    for work in [dist.irecv(tensor, 1, tag=tag) for tag, tensor in enumerate(into)]:
        work.wait()
    return [tensor + 1 for tensor in into]


@check
def waits_before_the_sender_comes_and_in_another_order(_comm):
    needs_gpu()
    for size in SIZES:
        meet()
        if RANK == 0:
            sums = sums_behind_waits(size)
            for tag, tensor in enumerate(sums):
                assert torch.equal(tensor, filled(size, tag + 1)), (size, tag)
        elif RANK == 1:
            time.sleep(0.05)
            for tag in reversed(range(4)):
                dist.send(filled(size, tag), 0, tag=tag)


@check
def messages_in_another_order_pass_a_stream_of_their_sender_s_that_waits(_comm):
    needs_gpu()
    for size in SIZES:
        meet()
        if RANK == 0:
            sums = sums_behind_waits(size)
            dist.send(filled(size, 9), 1, tag=9)
            for tag, tensor in enumerate(sums):
                assert torch.equal(tensor, filled(size, tag + 1)), (size, tag)
        elif RANK == 1:
            last = filled(size, -1)
            torch.cuda.synchronize()
            work = dist.irecv(last, 0, tag=9)
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                work.wait()
            for tag in reversed(range(4)):
                dist.send(filled(size, tag), 0, tag=tag)
            stream.synchronize()
            assert torch.equal(last, filled(size, 9)), size


@check
def a_chain_of_products_runs_ahead_of_the_host(_comm):
    """What is received is the factor of the next product, which is sent on."""
    needs_gpu()
    size, turns = 1024, 20
    factor = torch.eye(size, device=gpu.place) * 2
    with torch.cuda.stream(torch.cuda.Stream()):
        meet()
        value = torch.eye(size, device=gpu.place)
        sends = []
        for turn in range(turns):
            if turn % RANKS == RANK:
                value = value @ factor
                sends.append(dist.isend(value, RIGHT, tag=turn))
            elif (turn + 1) % RANKS == RANK:
                value = torch.empty(size, size, device=gpu.place)
                dist.recv(value, LEFT, tag=turn)
        for send in sends:
            send.wait()
        if turns % RANKS == RANK:
            assert torch.equal(value, torch.eye(size, device=gpu.place) * 2**turns)


@check
def reductions_beside_streams_that_wait(_comm):
    needs_gpu()
    for turn in range(10):
        into = filled(50_000, -1)
        work = dist.irecv(into, LEFT, tag=1)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            work.wait()
        total = torch.full((1000,), float(RANK + turn), device=gpu.place)
        dist.all_reduce(total)
        assert total[0].item() == sum(range(RANKS)) + RANKS * turn
        dist.send(filled(50_000, RANK), RIGHT, tag=1)
        stream.synchronize()
        assert torch.equal(into, filled(50_000, LEFT))


@check
def nothing_stays_behind(_comm):
    dist.barrier()
    dist.destroy_process_group()
    only(0, "  the group is gone")


main()
