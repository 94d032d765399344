"""The backend of torch.distributed in a job of one process: how it meets, and what it refuses."""

from __future__ import annotations

import importlib
import subprocess
import sys
from datetime import timedelta
from importlib.metadata import entry_points
from threading import Thread
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

import mooncake_mpi.torch  # noqa: E402
from mooncake_mpi.torch.mpi_spaces import MpiSpaces  # noqa: E402


@pytest.fixture(autouse=True)
def left():
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def exercise():
    tensor = torch.arange(3.0)
    dist.all_reduce(tensor)
    dist.barrier()
    parts = [torch.zeros(3)]
    dist.all_gather(parts, tensor)
    assert torch.equal(parts[0], torch.arange(3.0))


def test_a_process_alone_is_a_group():
    for _ in range(2):
        dist.init_process_group("mooncake_mpi")
        assert dist.get_backend() == "mooncake_mpi"
        assert dist.get_world_size() == 1
        assert mooncake_mpi.torch.comm().Get_size() == 1
        exercise()
        dist.destroy_process_group()


@pytest.mark.parametrize(
    "options", [{"init_method": "mooncake-mpi://"}, {"rank": 0, "world_size": 1}]
)
def test_other_ways_to_meet(options):
    if "rank" in options:
        options["store"] = dist.HashStore()
    dist.init_process_group("mooncake_mpi", **options)
    exercise()


def test_a_rank_that_does_not_come_is_named():
    with pytest.raises(dist.DistBackendError, match=r"rank 1 of 2 did not come within 0\.2 s"):
        dist.init_process_group(
            "mooncake_mpi",
            store=dist.HashStore(),
            rank=0,
            world_size=2,
            timeout=timedelta(seconds=0.2),
        )


def test_ranks_that_are_not_those_of_mpi_are_refused():
    options = SimpleNamespace(global_ranks_in_group=[], group_rank=0, group_size=2)
    with pytest.raises(dist.DistBackendError, match="torch says rank 0 of 2, and MPI rank 0 of 1"):
        MpiSpaces(options)


def test_a_group_that_is_bound_to_a_gpu_is_split(monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    dist.init_process_group("mooncake_mpi", device_id=device)
    assert dist.group.WORLD.bound_device_id == device
    group = dist.split_group(split_ranks=[[0]])
    assert group.bound_device_id == device
    dist.all_reduce(torch.ones(1), group=group)
    # of a mixture torch would split what is not ours
    mixed = dist.new_group(backend="cpu:mooncake_mpi,cuda:gloo")
    assert mixed.bound_device_id is None


def test_an_old_torch_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ImportError, match=r"needs torch 2\.11 or newer, and this is 2\.9\.1"):
        importlib.reload(mooncake_mpi.torch)


def test_a_group_of_another_backend_has_no_communicator(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    with pytest.raises(TypeError, match="not a group of the backend 'mooncake_mpi'"):
        mooncake_mpi.torch.comm()


def test_the_word_of_a_messages_end_may_come_while_it_is_ended():
    dist.init_process_group("mooncake_mpi")
    column = torch.zeros(3, 2)[:, 1]
    work = dist.group.WORLD.recv([column], 0, 1)

    class Interrupted:
        """A request whose wait is interrupted, as any step of the main thread may be."""

        def __init__(self, request):
            self.request = request

        def Wait(self, status):
            work._end_in_passing()
            self.request.Wait(status)

    work._request = Interrupted(work._request)
    dist.group.WORLD.send([torch.ones(3)], 0, 1).wait()
    ending = Thread(target=work._end, daemon=True)
    ending.start()
    ending.join(20)
    assert not ending.is_alive()
    assert work.is_success()
    assert torch.equal(column, torch.ones(3))


def test_torch_finds_the_backend_by_the_packages_entry_point():
    (found,) = entry_points(group="torch.distributed.backends", name="mooncake_mpi")
    plugins = dist.Backend._plugins
    taken = plugins.pop("MOONCAKE_MPI")
    try:
        found.load()()  # as torch does from 2.14 on
        assert plugins["MOONCAKE_MPI"].extended_api
    finally:
        plugins["MOONCAKE_MPI"] = taken


def test_importing_torch_imports_nothing_of_the_package():
    code = "import sys, torch, torch.distributed; assert 'mooncake_mpi' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
