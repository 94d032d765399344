"""What programs do with a backend: DDP, pipelining, functional collectives, and coming and going."""

from __future__ import annotations

import subprocess
import sys

import torch


def model():
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 256),
        torch.nn.ReLU(),
        torch.nn.Linear(256, 256),
        torch.nn.Linear(256, 8),
    )


def trained(group, rank, steps=4):
    from torch.nn.parallel import DistributedDataParallel

    parallel = DistributedDataParallel(model(), process_group=group, bucket_cap_mb=0.1)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    torch.manual_seed(10 + rank)
    for _ in range(steps):
        optimizer.zero_grad()
        parallel(torch.randn(16, 64)).square().mean().backward()
        optimizer.step()
    return torch.cat([parameter.detach().view(-1) for parameter in parallel.parameters()])


def test_steps_of_ddp_are_those_of_gloo(dist, gloo):
    ours = trained(dist.group.WORLD, dist.get_rank())
    theirs = trained(gloo, dist.get_rank())
    assert torch.allclose(ours, theirs, atol=1e-6)
    everyone = [torch.zeros_like(ours) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, ours)
    assert all(torch.equal(one, ours) for one in everyone)


def test_functional_collectives(dist):
    from torch.distributed import _functional_collectives as functional

    size = dist.get_world_size()
    total = functional.all_reduce(torch.ones(5), "sum", dist.group.WORLD)
    assert torch.equal(total + 0, torch.full((5,), float(size)))
    gathered = functional.all_gather_tensor(
        torch.full((2,), float(dist.get_rank())), 0, dist.group.WORLD
    )
    assert (gathered + 0).tolist() == [rank for rank in range(size) for _ in range(2)]


def test_a_pipeline_of_stages_gives_the_loss_of_one_process(dist):
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B

    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(5)
    layers = [torch.nn.Linear(16, 16) for _ in range(size)]
    torch.manual_seed(6)
    inputs, targets = torch.randn(8, 16), torch.randn(8, 16)
    stage = PipelineStage(layers[rank], rank, size, torch.device("cpu"))
    schedule = Schedule1F1B(stage, 4, loss_fn=torch.nn.functional.mse_loss)
    losses = []
    if rank == 0:
        schedule.step(inputs)
    elif rank == size - 1:
        schedule.step(target=targets, losses=losses)
    else:
        schedule.step()
    whole = torch.nn.functional.mse_loss(torch.nn.Sequential(*layers)(inputs), targets)
    if losses:
        assert torch.allclose(torch.stack(losses).mean(), whole, atol=1e-6)
    assert layers[rank].weight.grad is not None


def test_importing_the_package_imports_no_torch():
    code = "import sys, mooncake_mpi, mooncake_mpi.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
