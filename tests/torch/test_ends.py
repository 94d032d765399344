"""Groups that end or are refused: monitored barriers, aborts, use after the end, unknown names."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import torch


def test_a_monitored_barrier_names_all_that_have_not_come(dist, meet):
    rank, size = dist.get_rank(), dist.get_world_size()
    group = dist.new_group(timeout=timedelta(seconds=60))
    group.monitored_barrier()
    group.monitored_barrier(timedelta(seconds=30), wait_all_ranks=True)
    meet()
    if rank == 0:
        who = ", ".join(str(other) for other in range(1, size))
        with pytest.raises(
            dist.DistBackendError,
            match=rf"monitored_barrier of group .*, operation 3: timed out after 1 s, .*waiting for ranks? {who}",
        ):
            group.monitored_barrier(timedelta(seconds=1))
    meet()
    dist.destroy_process_group(group)


def test_an_abort_ends_what_is_under_way_and_leaves_the_others_alone(dist, meet):
    rank = dist.get_rank()
    group, other = dist.new_group(timeout=timedelta(seconds=600)), dist.new_group()
    works = []
    if rank == 0:
        works = [dist.all_reduce(torch.ones(4), group=group, async_op=True) for _ in range(3)]
        started = time.monotonic()
        group.abort()
        assert time.monotonic() - started < 60
    for work in works:
        with pytest.raises(dist.DistBackendError, match="aborted"):
            work.wait()
    meet()
    if rank == 0:
        with pytest.raises(dist.DistBackendError, match=r"all_reduce: group .* was destroyed"):
            dist.all_reduce(torch.ones(1), group=group)
    dist.all_reduce(torch.ones(1), group=other)
    meet()
    dist.destroy_process_group(other)
    dist.destroy_process_group(group)


def test_every_call_of_a_destroyed_group_says_so(dist):
    group = dist.new_group()
    dist.destroy_process_group(group)
    tensor, rank = torch.ones(1), dist.get_rank()
    calls = {
        "send": lambda: group.send([tensor], 1 - min(rank, 1), 0),
        "recv": lambda: group.recv([tensor], 1 - min(rank, 1), 0),
        "barrier": group.barrier,
        "all_reduce": lambda: group.allreduce([tensor]),
        "monitored_barrier": group.monitored_barrier,
    }
    for name, call in calls.items():
        with pytest.raises(dist.DistBackendError, match=rf"{name}: group '.*' was destroyed"):
            call()
    group.shutdown()
    group.abort()


def test_a_barrier_may_name_devices(dist):
    dist.barrier(device_ids=[0])
    dist.barrier(async_op=True, device_ids=[0]).wait()


def test_what_torch_refuses_is_refused_as_ever(dist):
    with pytest.raises(RuntimeError, match="not safe to split"):  # no GPU is bound
        dist.split_group(split_ranks=[list(range(dist.get_world_size()))])
    with pytest.raises(ValueError, match="accelerator"):
        dist.new_group(device_id=torch.device("cpu"))
    with pytest.warns(UserWarning, match="unknown"), pytest.raises(AssertionError, match="nown"):
        dist.new_group(backend="moonkake_mpi")


@pytest.mark.parametrize(
    "call",
    ["all_reduce", "broadcast", "reduce", "all_gather_into_tensor", "isend", "irecv"],
)
def test_a_tensor_of_no_device_of_the_groups_raises(dist, ring, call):
    after, _ = ring
    nowhere = torch.ones(2, device="meta")
    arguments = {
        "all_reduce": (nowhere,),
        "broadcast": (nowhere, 0),
        "reduce": (nowhere, 0),
        "all_gather_into_tensor": (nowhere.repeat(dist.get_world_size()), nowhere),
        "isend": (nowhere, after),
        "irecv": (nowhere, after),
    }
    with pytest.raises(ValueError, match="a tensor on meta"):
        getattr(dist, call)(*arguments[call])


@pytest.mark.parametrize("call", ["broadcast", "reduce", "gather", "scatter"])
def test_a_root_that_the_group_lacks_raises(dist, call):
    size = dist.get_world_size()
    place = "group_dst" if call in {"reduce", "gather"} else "group_src"
    with pytest.raises(ValueError, match=rf"{call}: group '.*' has no rank {size}"):
        getattr(dist, call)(torch.ones(1), **{place: size})


@pytest.mark.parametrize("tag", [-1, 2**31, 2**40])
def test_a_tag_that_no_message_has_raises(dist, ring, tag):
    with pytest.raises(ValueError, match=rf"send: tag {tag} is (negative|larger than)"):
        dist.send(torch.ones(1), ring[0], tag=tag)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float8_e4m3fn])
def test_a_type_without_arithmetic_is_not_reduced_but_sent(dist, dtype):
    tensor = torch.tensor([1, 2, dist.get_rank()], dtype=torch.uint8)
    with pytest.raises(ValueError, match=f"no reduction SUM of {dtype}"):
        dist.all_reduce(tensor.to(dtype))
    gathered = torch.zeros(3 * dist.get_world_size(), dtype=torch.uint8).to(dtype)
    dist.all_gather_into_tensor(gathered, tensor.to(dtype))
    assert gathered[2::3].float().tolist() == list(range(dist.get_world_size()))


def test_a_group_is_not_made_without_a_member_and_then_is(dist, meet):
    size = dist.get_world_size()
    everybody = list(range(size))
    parent = dist.new_group()
    if dist.get_rank():
        with pytest.raises(
            dist.DistBackendError, match=rf"rank 0 of {size} did not come within 1 s"
        ):
            parent.split_group(everybody, timedelta(seconds=1))
    meet()
    group = parent.split_group(everybody)
    tensor = torch.ones(1)
    group.allreduce([tensor]).wait()
    assert tensor.item() == size
    group.shutdown()
    dist.destroy_process_group(parent)
