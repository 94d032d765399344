"""The collectives of torch.distributed: results and order."""

from __future__ import annotations

from threading import Thread

import pytest
import torch
from torch.distributed import ReduceOp

SIZES = [0, 1, 5, 1000, 8193, 300_001]
INTEGERS = [torch.uint8, torch.int8, torch.int32, torch.int64]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def of_rank(rank, count, dtype):
    """Small whole numbers: sums and products are exact in any order and type."""
    return torch.arange(count).add(rank).remainder(3).to(dtype)


def expected(op, size, count, dtype):
    parts = torch.stack([of_rank(rank, count, dtype) for rank in range(size)])
    whole = parts.to(torch.int64)
    if op == ReduceOp.SUM:
        return whole.sum(0).to(dtype)
    if op == ReduceOp.AVG:
        total = whole.sum(0)
        return (
            (total / size).to(dtype)
            if dtype.is_floating_point
            else total.div(size, rounding_mode="trunc").to(dtype)
        )
    if op == ReduceOp.PRODUCT:
        return whole.prod(0).to(dtype)
    if op in (ReduceOp.MIN, ReduceOp.MAX):
        return (whole.amin(0) if op == ReduceOp.MIN else whole.amax(0)).to(dtype)
    result = whole[0]
    for part in whole[1:]:
        result = {
            ReduceOp.BAND: torch.bitwise_and,
            ReduceOp.BOR: torch.bitwise_or,
            ReduceOp.BXOR: torch.bitwise_xor,
        }[op](result, part)
    return result.to(dtype)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_all_reduce_sums_any_size(dist, count, asynchronous):
    tensor = of_rank(dist.get_rank(), count, torch.float32)
    work = dist.all_reduce(tensor, async_op=asynchronous)
    if asynchronous:
        work.wait()
        assert work.is_success()
    assert torch.equal(tensor, expected(ReduceOp.SUM, dist.get_world_size(), count, torch.float32))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS, ids=str)
@pytest.mark.parametrize("op", ["SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR"])
@pytest.mark.parametrize("count", [7, 40_000])
def test_all_reduce_knows_every_operation(dist, op, dtype, count):
    op = getattr(ReduceOp, op)
    tensor = of_rank(dist.get_rank(), count, dtype)
    if dtype.is_floating_point and op in (ReduceOp.BAND, ReduceOp.BOR, ReduceOp.BXOR):
        with pytest.raises(ValueError, match="no reduction B"):
            dist.all_reduce(tensor, op)
        return
    dist.all_reduce(tensor, op)
    wanted = expected(op, dist.get_world_size(), count, dtype)
    if dtype.is_floating_point:
        assert torch.allclose(tensor, wanted, rtol=1e-2)
    else:
        assert torch.equal(tensor, wanted)


def test_all_reduce_of_complex_and_bool_and_with_a_factor(dist):
    rank, size = dist.get_rank(), dist.get_world_size()
    numbers = torch.tensor([1 + 1j, rank * 1j])
    dist.all_reduce(numbers)
    assert torch.equal(numbers, torch.tensor([size * (1 + 1j), size * (size - 1) / 2 * 1j]))
    with pytest.raises(ValueError, match="all_reduce does not support"):
        dist.all_reduce(numbers, ReduceOp.MAX)
    flags = torch.tensor([rank == 0, True, False])
    dist.all_reduce(flags, ReduceOp.MAX)
    assert flags.tolist() == [True, True, False]
    flags = torch.tensor([rank == 0, True, False])
    dist.all_reduce(flags, ReduceOp.BAND)
    assert flags.tolist() == [size == 1, True, False]
    scaled = torch.ones(3)
    dist.all_reduce(scaled, dist._make_nccl_premul_sum(0.5))
    assert torch.equal(scaled, torch.full((3,), size * 0.5))


def test_all_reduce_of_what_is_not_contiguous(dist):
    grid = torch.ones(6, 4)
    dist.all_reduce(grid[:, ::2])
    assert grid[0].tolist() == [dist.get_world_size(), 1, dist.get_world_size(), 1]


@pytest.mark.parametrize("count", [0, 1, 1000, 700_000])
def test_broadcast_from_every_root(dist, count):
    for root in range(dist.get_world_size()):
        tensor = of_rank(dist.get_rank(), count, torch.bfloat16)
        dist.broadcast(tensor, root)
        assert torch.equal(tensor, of_rank(root, count, torch.bfloat16))


@pytest.mark.parametrize("count", [0, 1, 1000, 300_000])
def test_reduce_to_every_root(dist, count):
    rank, size = dist.get_rank(), dist.get_world_size()
    for root in range(size):
        tensor = of_rank(rank, count, torch.float64)
        dist.reduce(tensor, root)
        wanted = expected(ReduceOp.SUM, size, count, torch.float64)
        assert torch.equal(tensor, wanted if rank == root else of_rank(rank, count, torch.float64))


@pytest.mark.parametrize("count", [0, 1, 1000, 200_000])
def test_gathering_and_scattering(dist, count):
    rank, size = dist.get_rank(), dist.get_world_size()
    mine = of_rank(rank, count, torch.int32)
    all_of_them = [of_rank(other, count, torch.int32) for other in range(size)]
    parts = [torch.zeros(count, dtype=torch.int32) for _ in range(size)]
    dist.all_gather(parts, mine)
    assert all(map(torch.equal, parts, all_of_them))
    whole = torch.zeros(size, count, dtype=torch.int32)
    dist.all_gather_into_tensor(whole, mine)
    assert torch.equal(whole, torch.stack(all_of_them))
    for root in range(size):
        parts = [torch.zeros(count, dtype=torch.int32) for _ in range(size)]
        dist.gather(mine, parts if rank == root else None, root)
        if rank == root:
            assert all(map(torch.equal, parts, all_of_them))
        into = torch.zeros(count, dtype=torch.int32)
        dist.scatter(into, all_of_them if rank == root else None, root)
        assert torch.equal(into, mine)


@pytest.mark.parametrize("count", [0, 1, 1000, 200_000])
@pytest.mark.parametrize("op", ["SUM", "AVG", "MAX"])
def test_reduce_scatter(dist, count, op):
    rank, size = dist.get_rank(), dist.get_world_size()
    inputs = [of_rank(rank + other, count, torch.float32) for other in range(size)]
    kept = [tensor.clone() for tensor in inputs]
    contributions = torch.stack(
        [of_rank(other + rank, count, torch.float32) for other in range(size)]
    )
    wanted = (
        contributions.amax(0)
        if op == "MAX"
        else contributions.sum(0) / (size if op == "AVG" else 1)
    )
    into = torch.zeros(count)
    dist.reduce_scatter(into, inputs, getattr(ReduceOp, op))
    assert torch.allclose(into, wanted)
    into = torch.zeros(count)
    dist.reduce_scatter_tensor(into, torch.cat(inputs), getattr(ReduceOp, op))
    assert torch.allclose(into, wanted)
    assert all(map(torch.equal, inputs, kept))


def test_gather_into_one_tensor(dist):
    rank, size = dist.get_rank(), dist.get_world_size()
    options = dist.GatherOptions()  # dist.gather_single is of torch 2.14
    options.rootRank = size - 1
    for count in (0, 1, 3000):
        into = torch.zeros(size, count)
        group = dist.group.WORLD
        group.gather_single(into, torch.full((count,), float(rank)), options).wait()
        expected = torch.arange(float(size))[:, None].expand(size, count)
        assert torch.equal(into, expected if rank == size - 1 else torch.zeros(size, count))
    if rank == size - 1:
        with pytest.raises(ValueError, match="gather: "):
            group.gather_single(torch.zeros(1), torch.zeros(7), options)


def test_all_to_all_even_and_uneven(dist):
    rank, size = dist.get_rank(), dist.get_world_size()
    into = [torch.zeros(other + 1) for other in range(size)]
    dist.all_to_all(into, [torch.full((rank + 1,), float(rank)) for _ in range(size)])
    assert all(
        torch.equal(into[other], torch.full((other + 1,), float(other))) for other in range(size)
    )
    whole = torch.zeros(size, 3)
    dist.all_to_all_single(
        whole, torch.arange(size).repeat_interleave(3).view(size, 3).float() * 10 + rank
    )
    assert torch.equal(whole, torch.tensor([[rank * 10.0 + other] * 3 for other in range(size)]))
    # rank r sends r + s rows to rank s
    sends = [rank + other for other in range(size)]
    rows = torch.full((sum(sends), 2), float(rank))
    into = torch.zeros(sum(sends), 2)
    dist.all_to_all_single(into, rows, sends, sends)
    assert torch.equal(
        into[:, 1],
        torch.tensor([float(other) for other in range(size) for _ in range(sends[other])]),
    )
    with pytest.raises(ValueError, match="cannot be split"):
        dist.all_to_all_single(into, rows, [1] * (size + 1), sends)


def test_coalesced_forms(dist):
    size = dist.get_world_size()
    tensors = [torch.ones(3), torch.ones(2000)]
    with dist._coalescing_manager():
        for tensor in tensors:
            dist.all_reduce(tensor)
    assert all(torch.equal(tensor, torch.full_like(tensor, size)) for tensor in tensors)
    outputs = [torch.zeros(size * 2), torch.zeros(size * 3)]
    with dist._coalescing_manager(async_ops=True) as manager:
        for output in outputs:
            dist.all_gather_into_tensor(
                output, torch.full((len(output) // size,), float(dist.get_rank()))
            )
    manager.wait()
    assert outputs[0].tolist() == [rank for rank in range(size) for _ in range(2)]


def test_a_window_with_a_device_ends_with_one_work(dist, ring):
    after, before = ring
    into = torch.zeros(3)
    with dist._coalescing_manager(device=torch.device("cpu"), async_ops=True) as manager:
        dist.isend(torch.ones(3), after)
        dist.irecv(into, before)
    (work,) = manager.works
    work.wait()
    assert work.is_success()
    assert work.exception() is None
    assert work.get_future().wait()[1] is into
    assert torch.equal(into, torch.ones(3))


def test_objects(dist):
    rank, size = dist.get_rank(), dist.get_world_size()
    objects = [None] * size
    dist.all_gather_object(objects, {"rank": rank})
    assert objects == [{"rank": other} for other in range(size)]
    objects = ["a", "b"] if rank == size - 1 else [None, None]
    dist.broadcast_object_list(objects, size - 1)
    assert objects == ["a", "b"]


def test_asynchronous_operations_run_in_their_order(dist):
    size = dist.get_world_size()
    tensors = [torch.full((count,), 1.0) for count in (10, 100_000, 10, 1000) * 10]
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    last = torch.ones(1)
    dist.all_reduce(last)
    assert all(work.is_completed() for work in works)
    assert all(torch.equal(tensor, torch.full_like(tensor, size)) for tensor in tensors)
    future = (
        dist.all_reduce(last, async_op=True).get_future().then(lambda done: done.value()[0] * 2)
    )
    assert future.wait().item() == 2 * size * size


def test_two_groups_at_once_in_threads_do_not_mix(dist):
    size = dist.get_world_size()
    groups = [dist.new_group(), dist.new_group()]
    failures = []

    def use(group, start):
        for at in range(200):
            tensor = torch.full((at % 7 * 500 + 1,), start + at)
            dist.all_reduce(tensor, group=group)
            if tensor[-1].item() != (start + at) * size:
                failures.append((start, at))

    threads = [Thread(target=use, args=(group, at * 1000.0)) for at, group in enumerate(groups)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for group in groups:
        dist.destroy_process_group(group)


def test_a_subgroup_has_ranks_of_its_own(dist):
    rank, size = dist.get_rank(), dist.get_world_size()
    ranks = list(range(size - 1, 0, -1)) or [0]
    group = dist.new_group(ranks)
    if rank in ranks:
        tensor = torch.tensor([float(rank)])
        dist.all_reduce(tensor, group=group)
        assert tensor.item() == sum(ranks)
        dist.broadcast(tensor, ranks[0], group=group)
        dist.destroy_process_group(group)


def test_collectives_leave_messages_alone(dist, ring, meet):
    after, before = ring
    into = torch.zeros(4)
    receive = dist.irecv(into, before)
    dist.barrier()
    dist.all_reduce(torch.ones(4))
    assert not receive.is_completed()
    meet()
    dist.send(torch.ones(4), after)
    receive.wait()
    assert torch.equal(into, torch.ones(4))
