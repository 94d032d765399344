"""Ranks of torch.distributed that call different collectives, late, or never."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import pytest
import torch
from torch.distributed import ReduceOp


def first_against_others(first, others):
    return lambda dist, group: (first if dist.get_rank() == 0 else others)(dist, group)


def summed(count, op="SUM", dtype=torch.float32):
    return lambda dist, group: dist.all_reduce(
        torch.ones(count, dtype=dtype), getattr(ReduceOp, op), group=group
    )


def sent_by(root, count=4):
    return lambda dist, group: dist.broadcast(torch.ones(count), root, group=group)


def lists(count, dtype):
    return [torch.ones(3, dtype=dtype) for _ in range(count)]


def gathered_by_all(dtype):
    return lambda dist, group: dist.all_gather(
        lists(group.size(), dtype), torch.ones(3, dtype=dtype), group=group
    )


def gathered(dtype):
    return lambda dist, group: dist.gather(
        torch.ones(3, dtype=dtype),
        lists(group.size(), dtype) if dist.get_rank() == 0 else None,
        group=group,
    )


def scattered(dtype):
    return lambda dist, group: dist.scatter(
        torch.ones(3, dtype=dtype),
        lists(group.size(), dtype) if dist.get_rank() == 0 else None,
        group=group,
    )


def reduced_and_scattered(dtype):
    return lambda dist, group: dist.reduce_scatter(
        torch.ones(3, dtype=dtype), lists(group.size(), dtype), group=group
    )


def exchanged(dtype):
    return lambda dist, group: group.alltoall(
        lists(group.size(), dtype), lists(group.size(), dtype)
    ).wait()


def exchanged_in_one(dtype):
    return lambda dist, group: dist.all_to_all_single(
        torch.ones(group.size(), dtype=dtype), torch.ones(group.size(), dtype=dtype), group=group
    )


OF_TYPES = (
    *(gathered_by_all, gathered, scattered, reduced_and_scattered, exchanged),
    exchanged_in_one,
)
MISMATCHES = {
    "all_reduce, reduce": (
        summed(4),
        lambda dist, group: dist.reduce(torch.ones(4), 0, group=group),
    ),
    "all_reduce, broadcast": (summed(4), sent_by(0)),
    "all_reduce, broadcast of another": (summed(100_000), sent_by(1, 100_000)),
    "roots": (sent_by(1), sent_by(0)),
    "sizes": (summed(4), summed(8)),
    "small and large": (summed(4), summed(100_000)),
    "types": (summed(4), summed(4, dtype=torch.int32)),
    "reductions": (summed(4), summed(4, "MAX")),
    "barrier": (lambda dist, group: dist.barrier(group=group), summed(500_000)),
    "gather, scatter": (
        lambda dist, group: dist.gather(
            torch.ones(4), [torch.ones(4) for _ in range(group.size())], group=group
        ),
        lambda dist, group: dist.scatter(torch.ones(4), None, group=group),
    ),
}
MISMATCHES |= {
    # of one size: nothing else tells them apart
    f"types of what is {call.__name__}": (call(torch.float32), call(torch.int32))
    for call in OF_TYPES
}


@pytest.mark.parametrize("case", MISMATCHES)
@pytest.mark.parametrize("before", [0, 3])
def test_ranks_that_call_different_operations_raise_long_before_the_timeout(
    dist, meet, case, before
):
    group = dist.new_group(timeout=timedelta(seconds=600))
    for _ in range(before):
        dist.all_reduce(torch.ones(1), group=group)
    meet()
    started = time.monotonic()

    def call():
        first_against_others(*MISMATCHES[case])(dist, group)
        dist.barrier(group=group)  # where nothing was to be waited for in the first

    with pytest.raises(dist.DistBackendError) as raised:
        call()
    assert time.monotonic() - started < 100
    assert f"of group '{group.group_name}', operation {before + 1}" in str(raised.value) or (
        f"barrier of group '{group.group_name}', operation {before + 2}" in str(raised.value)
    )
    assert re.search(r"this rank is in .*operation \d+, and rank \d+ ", str(raised.value))
    with pytest.raises(dist.DistBackendError, match="failed before"):
        dist.all_reduce(torch.ones(1), group=group)
    meet()
    dist.destroy_process_group(group)


def test_an_operation_more_at_one_rank_raises_long_before_the_timeout(dist, meet):
    group = dist.new_group(timeout=timedelta(seconds=600))

    def call():
        if dist.get_rank() == 0:
            dist.all_reduce(torch.ones(4), group=group)
        dist.barrier(group=group)
        dist.all_reduce(torch.ones(4), group=group)

    with pytest.raises(dist.DistBackendError, match=r"this rank is in .*, and rank \d+ "):
        call()
    meet()
    dist.destroy_process_group(group)


def test_a_rank_that_is_slow_is_waited_for(dist, meet):
    group = dist.new_group(timeout=timedelta(seconds=600))
    for at in range(4):
        if dist.get_rank() == at % dist.get_world_size():
            time.sleep(0.35)  # the others say where they are, and are heard too late
        dist.broadcast(torch.ones(70_000), at % 2, group=group)
        dist.all_reduce(torch.ones(3), group=group)
        dist.barrier(group=group)
    for _ in range(300):
        dist.barrier(group=group)
    meet()
    dist.destroy_process_group(group)


def test_a_rank_that_never_calls_ends_the_others_with_their_timeout(dist, meet):
    group = dist.new_group(timeout=timedelta(seconds=1))
    if dist.get_rank() == 0:
        late = dist.all_reduce(torch.ones(4), group=group, async_op=True)
        with pytest.raises(dist.DistBackendError, match=r"all_reduce .* timed out after 1 s"):
            late.wait()
        assert isinstance(late.exception(), dist.DistBackendError)
    meet()
    if dist.get_rank():
        with pytest.raises(
            dist.DistBackendError, match=r"rank 0: all_reduce.* timed out after 1 s"
        ):
            dist.barrier(group=group)
    meet()
    dist.destroy_process_group(group)
