"""Groups split out of a group: directly, and as torch's functions do on a machine with a GPU.

And groups whose ranks are in an order of their own.
"""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest
import torch


def halves(size):
    return [list(range(size // 2)), list(range(size // 2, size))]


def half_of(size, rank):
    return next(half for half in halves(size) if rank in half)


def total(dist, group, value):
    tensor = torch.tensor([value])
    group.allreduce([tensor]).wait()
    return tensor.item()


@pytest.fixture
def bound(dist, monkeypatch):
    """The default group as one of a GPU's, of which torch would split groups."""
    dist.group.WORLD.bound_device_id = torch.device("cuda", 0)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    yield
    dist.group.WORLD.bound_device_id = None


def test_each_half_has_a_group(dist):
    rank, size = dist.get_rank(), dist.get_world_size()
    half = half_of(size, rank)
    group = dist.group.WORLD.split_group(
        half, timedelta(seconds=77), None, f"half of {half[0]}", "a half"
    )
    assert (group.rank(), group.size()) == (half.index(rank), len(half))
    assert (group.group_name, group.group_desc) == (f"half of {half[0]}", "a half")
    assert total(dist, group, rank) == sum(half)
    if len(half) > 1:
        into = torch.zeros(1)
        other = 1 - group.rank()
        sent = group.send([torch.tensor([float(rank)])], other, 3)
        receipt = group.recv_anysource([into], 3)
        receipt.wait()
        sent.wait()
        assert (receipt.source_rank(), into.item()) == (other, half[other])
    group.shutdown()
    with pytest.raises(dist.DistBackendError, match=rf"group 'half of {half[0]}' was destroyed"):
        group.barrier()


def test_members_alone_take_part_again_and_again(dist):
    rank, size = dist.get_rank(), dist.get_world_size()
    parent = dist.group.WORLD
    members = [size - 1, 0]  # their order is that of the new ranks
    made = [parent.split_group(members) for _ in range(3)] if rank in members else []
    for group in reversed(made):
        assert group.rank() == members.index(rank)
        assert total(dist, group, rank) == sum(members)
    assert len({group.group_name for group in made}) == len(made)
    for group in made:
        group.shutdown()
    assert (parent.split_group([0]) is None) == (rank != 0)


def test_a_split_of_a_split_keeps_its_own_messages(dist):
    rank, size = dist.get_rank(), dist.get_world_size()
    # ranks of the parent are not those of the job
    parent = dist.new_group(list(range(1, size)))
    if rank == 0:
        return
    inner = parent.split_group(list(reversed(range(size - 1))))
    innermost = inner.split_group([0])
    assert (innermost is None) == (rank != size - 1)
    assert inner.rank() == size - 1 - rank
    works = [group.allreduce([torch.ones(3)]) for group in (parent, inner)]
    for work in works:
        work.wait()
        assert work.result()[0].tolist() == [size - 1.0] * 3
    for group in (innermost, inner):
        if group is not None:
            group.shutdown()
    dist.destroy_process_group(parent)


@pytest.mark.parametrize("ranks", [[], [0, 0], [-1], [0, 1000]])
def test_ranks_of_no_group_are_refused(dist, ranks):
    with pytest.raises(ValueError, match="split_group: "):
        dist.group.WORLD.split_group(ranks)


def test_a_destroyed_group_is_not_split(dist):
    group = dist.new_group()
    dist.destroy_process_group(group)
    with pytest.raises(dist.DistBackendError, match=r"split_group: group .* was destroyed"):
        group.split_group([0])


@pytest.mark.parametrize("backend", ["mooncake_mpi", "cpu:mooncake_mpi,cuda:gloo"])
def test_a_split_may_be_for_some_devices_alone(dist, backend):
    rank, size = dist.get_rank(), dist.get_world_size()
    parent = dist.new_group(backend=backend)
    half = half_of(size, rank)
    group = parent.split_group(half, device_types=[torch.device("cpu")])
    assert group._device_types == [torch.device("cpu")]
    assert total(dist, group, rank) == sum(half)
    with pytest.raises(ValueError, match="no backend for meta"):
        parent.split_group(half, device_types=[torch.device("meta")])
    whole = parent.split_group(list(range(size)))
    for device in ("cpu", "cuda"):
        theirs = parent._get_backend(torch.device(device)).name()
        assert whole._get_backend(torch.device(device)).name() == theirs
    for made in (group, whole):
        made.shutdown()
    dist.destroy_process_group(parent)


def test_torch_splits_the_default_group(dist, bound, meet):
    rank, size = dist.get_rank(), dist.get_world_size()
    half = half_of(size, rank)
    group = dist.split_group(
        split_ranks=halves(size), timeout=timedelta(seconds=1), group_desc="half"
    )
    assert dist.get_process_group_ranks(group) == half
    assert dist.get_backend(group) == "mooncake_mpi"
    assert group.group_desc == "half"
    tensor = torch.tensor([float(rank)])
    dist.all_reduce(tensor, group=group)
    assert tensor.item() == sum(half)
    first = dist.split_group(group, [[0]])
    assert isinstance(first, dist.ProcessGroup) == (rank == half[0])
    if rank == half[0]:
        dist.destroy_process_group(first)
    meet()
    if len(half) > 1 and rank == half[0]:
        with pytest.raises(dist.DistBackendError, match=r"timed out after 1 s"):
            dist.all_reduce(tensor, group=group)
    meet()
    dist.destroy_process_group(group)
    # a group of another backend is not made out of one of this
    other = dist.new_group([0], backend="gloo")
    if rank == 0:
        dist.destroy_process_group(other)


def test_a_mesh_splits_the_default_group(dist, bound, monkeypatch):
    from torch.distributed.device_mesh import init_device_mesh

    size = dist.get_world_size()
    monkeypatch.setattr(dist, "new_group", None)
    inner = 1 if size % 2 else size // 2
    mesh = init_device_mesh("cpu", (size // inner, inner), mesh_dim_names=("outer", "inner"))
    tensor = torch.tensor([float(dist.get_rank())])
    dist.all_reduce(tensor, group=mesh.get_group("inner"))
    first = dist.get_rank() // inner * inner
    assert tensor.item() == sum(range(first, first + inner))


def test_a_group_of_all_ranks_may_have_them_in_another_order(dist):
    if "sort_ranks" not in inspect.signature(dist.new_group).parameters:
        pytest.skip("new_group of this torch always sorts the ranks")
    rank, size = dist.get_rank(), dist.get_world_size()
    order = list(reversed(range(size)))
    group = dist.new_group(order, sort_ranks=False)
    gathered = [torch.zeros(1) for _ in order]
    dist.all_gather(gathered, torch.tensor([float(rank)]), group=group)
    assert [one.item() for one in gathered] == order
    dist.destroy_process_group(group)
