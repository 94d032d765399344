"""What torch builds on a backend: meshes, DTensor, tensor parallel, FSDP2, checkpoints, compile."""

from __future__ import annotations

import copy

import pytest
import torch

# of torch's own code
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def mesh(default_group):
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cpu", (default_group.size(),))


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.ReLU(), torch.nn.Linear(12, 4))


def samples():
    torch.manual_seed(1)
    return torch.randn(3, 8)


def test_a_mesh_of_two_dimensions_has_groups(dist):
    from torch.distributed.device_mesh import init_device_mesh

    size = dist.get_world_size()
    inner = 1 if size % 2 else size // 2
    mesh = init_device_mesh("cpu", (size // inner, inner), mesh_dim_names=("outer", "inner"))
    tensor = torch.tensor([float(dist.get_rank())])
    dist.all_reduce(tensor, group=mesh.get_group("inner"))
    first = dist.get_rank() // inner * inner
    assert tensor.item() == sum(range(first, first + inner))


def test_a_dtensor_is_distributed_and_gathered(mesh):
    from torch.distributed.tensor import Shard, distribute_tensor

    whole = torch.arange(16.0).view(4, 4)
    rows = distribute_tensor(whole, mesh, [Shard(0)])
    assert torch.equal(rows.full_tensor(), whole)
    assert torch.equal(rows.redistribute(mesh, [Shard(1)]).full_tensor(), whole)
    assert rows.sum().full_tensor() == whole.sum()


def test_layers_in_parallel_give_what_one_process_gives(mesh):
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    whole = network()
    expected = whole(samples())
    parallel = parallelize_module(whole, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    assert torch.allclose(parallel(samples()), expected, atol=1e-5)


def test_fsdp2_has_the_gradients_of_one_process(mesh):
    from torch.distributed.fsdp import fully_shard

    sharded = network()
    whole = copy.deepcopy(sharded)
    fully_shard(sharded, mesh=mesh)
    sharded(samples()).square().mean().backward()
    whole(samples()).square().mean().backward()
    for ours, theirs in zip(sharded.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(ours.grad.full_tensor(), theirs.grad, atol=1e-6)


def test_a_checkpoint_is_saved_and_loaded(dist, tmp_path_factory):
    from torch.distributed import checkpoint

    folder = [str(tmp_path_factory.mktemp("checkpoint"))]
    dist.broadcast_object_list(folder, 0)
    checkpoint.save({"a": torch.ones(4)}, checkpoint_id=folder[0])
    loaded = {"a": torch.zeros(4)}
    checkpoint.load(loaded, checkpoint_id=folder[0])
    assert torch.equal(loaded["a"], torch.ones(4))


def test_a_collective_is_compiled(dist):
    from torch.distributed import _functional_collectives as functional

    @torch.compile(backend="eager", fullgraph=True)
    def step(tensor):
        return functional.all_reduce(tensor * 2, "sum", dist.group.WORLD) + 1

    expected = torch.full((3,), 2.0 * dist.get_world_size() + 1)
    assert torch.equal(step(torch.ones(3)), expected)
