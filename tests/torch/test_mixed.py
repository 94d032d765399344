"""Groups of which some devices have other backends."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch


@pytest.mark.parametrize("backend", ["cpu:mooncake_mpi,cuda:gloo", "cpu:gloo,cuda:mooncake_mpi"])
def test_a_tensor_goes_to_the_backend_of_its_device(dist, ring, backend):
    size, (after, before) = dist.get_world_size(), ring
    group = dist.new_group(backend=backend)
    kinds = dict(pair.split(":") for pair in backend.split(","))
    for device, name in kinds.items():
        assert group._get_backend(torch.device(device)).name() == name
    tensor = torch.ones(5)
    dist.all_reduce(tensor, group=group)
    assert torch.equal(tensor, torch.full((5,), float(size)))
    work = dist.all_reduce(tensor, group=group, async_op=True)
    work.wait()
    assert (type(work).__module__ == "mooncake_mpi.torch.works") == (kinds["cpu"] == "mooncake_mpi")
    parts = [torch.zeros(2) for _ in range(size)]
    dist.all_gather(parts, torch.full((2,), float(dist.get_rank())), group=group)
    assert [part[1].item() for part in parts] == list(range(size))
    whole = torch.zeros(size)
    dist.all_gather_into_tensor(whole, torch.tensor([1.0 * dist.get_rank()]), group=group)
    assert whole.tolist() == list(range(size))
    into = torch.zeros(3)
    works = [dist.isend(torch.ones(3), after, group=group), dist.irecv(into, before, group=group)]
    for work in works:
        work.wait()
    assert into.tolist() == [1, 1, 1]
    objects = [None] * size
    dist.all_gather_object(objects, dist.get_rank(), group=group)
    assert objects == list(range(size))
    dist.barrier(group=group)
    group.set_timeout(timedelta(seconds=100))
    dist.destroy_process_group(group)


def test_a_functional_collective_goes_there_too(dist):
    from torch.distributed import _functional_collectives as functional

    group = dist.new_group(backend="cpu:gloo,cuda:mooncake_mpi")
    total = functional.all_reduce(torch.ones(5), "sum", group)
    assert torch.equal(total + 0, torch.full((5,), float(dist.get_world_size())))
    dist.destroy_process_group(group)


@pytest.mark.parametrize("backend", ["cuda:mooncake_mpi", "cuda:mooncake_mpi,meta:gloo"])
def test_a_tensor_on_another_device_than_the_groups_raises(dist, ring, backend):
    group = dist.new_group(backend=backend)
    calls = {
        "allreduce": lambda: dist.all_reduce(torch.ones(1), group=group),
        "send": lambda: dist.isend(torch.ones(1), ring[0], group=group),
    }
    for name, call in calls.items():
        with pytest.raises(
            ValueError, match=rf"{name}: a tensor on cpu, and the group .*{backend}"
        ):
            call()
    dist.destroy_process_group(group)


def test_a_mixture_with_an_unknown_backend_is_refused(dist):
    with pytest.raises(ValueError, match="cuda:fake: beside it may be gloo and nccl"):
        dist.new_group(backend="cpu:mooncake_mpi,cuda:fake")
