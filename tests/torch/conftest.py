"""The default group of torch.distributed over all ranks of the job, which mpirun or torchrun started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

#: Without MPI: tests/launch.py --torchrun.
TORCHRUN = "TORCHELASTIC_RUN_ID" in os.environ

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def pytest_configure(config):
    # of two names for an operation one is going; both are tested
    ignored = "ignore:`torch.distributed.* is deprecated:FutureWarning"
    config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(scope="session", autouse=True)
def default_group():
    """Made once: groups that tests make come and go."""
    import torch
    import torch.distributed as dist

    import mooncake_mpi.torch  # noqa: F401

    torch.set_num_threads(1)
    dist.init_process_group("mooncake_mpi")
    yield dist.group.WORLD
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def meet(gloo):
    """Waits for all ranks, without this backend."""
    if TORCHRUN:
        import torch.distributed as dist

        assert "mpi4py" not in sys.modules
        return lambda: dist.barrier(group=gloo)
    from mpi4py import MPI

    return MPI.COMM_WORLD.Barrier


@pytest.fixture(scope="session")
def under_mpi():
    """Whether the ranks are those of an MPI job."""
    return not TORCHRUN


@pytest.fixture(autouse=True)
def together(meet):
    """All ranks begin a test together, and with messages of it alone."""
    meet()


@pytest.fixture
def dist(default_group):
    import torch.distributed

    return torch.distributed


@pytest.fixture
def ring(dist):
    """The ranks after and before this one."""
    rank, size = dist.get_rank(), dist.get_world_size()
    return (rank + 1) % size, (rank - 1) % size


@pytest.fixture(scope="session")
def gloo(default_group, tmp_path_factory):
    """A group of gloo's over the same ranks, met through torch's own store."""
    import torch.distributed as dist

    return dist.new_group(backend="gloo")
