"""Memory of GPUs that others can open, by the pools of CuPy and torch, for which fakes stand here."""

from __future__ import annotations

import contextlib
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

import mooncake_mpi
from mooncake_mpi.memory.gpu_pool import GpuPool


class FakePool:
    def malloc(self, size):
        raise NotImplementedError


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy that says what allocates."""
    module = ModuleType("cupy")
    module.allocators = []

    @contextlib.contextmanager
    def using_allocator(allocator):
        module.allocators.append(allocator)
        try:
            yield
        finally:
            module.allocators.pop()

    module.cuda = SimpleNamespace(MemoryPool=FakePool, using_allocator=using_allocator)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def torch(monkeypatch):
    """A torch with CUDA that says what its settings are, and which pools are in use."""
    module = ModuleType("torch")
    module.__version__ = "fake"
    module.pools, module.texts, module.text = [], [], ""

    @contextlib.contextmanager
    def use_mem_pool(pool):
        module.pools.append(pool)
        try:
            yield
        finally:
            module.pools.remove(pool)

    def set_settings(text):
        module.text = text
        module.texts.append(text)

    def snapshot():
        known = {"PYTORCH_CUDA_ALLOC_CONF": module.text}
        known["expandable_segments"] = "expandable_segments:True" in module.text
        return {"allocator_settings": known}

    module._C = SimpleNamespace()
    module.cuda = SimpleNamespace(
        MemPool=FakePool,
        use_mem_pool=use_mem_pool,
        is_available=lambda: True,
        get_allocator_backend=lambda: "native",
        memory=SimpleNamespace(_snapshot=snapshot, _set_allocator_settings=set_settings),
    )
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


@pytest.fixture
def neither(monkeypatch):
    """No library is there."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "cupy", None)


def test_a_process_has_one():
    assert mooncake_mpi.gpu_pool() is mooncake_mpi.gpu_pool()


@pytest.mark.usefixtures("neither")
def test_without_a_library_there_is_nothing_to_do():
    pool = GpuPool()
    with pool as entered:
        assert entered is pool
    with pytest.raises(ImportError):
        _ = pool.cupy
    with pytest.raises(ImportError):
        _ = pool.torch


def test_cupy_allocates_from_it_inside_and_not_outside(neither, cupy):
    pool = GpuPool()
    with pool:
        with pool:
            assert cupy.allocators == [pool.cupy.malloc] * 2
        assert cupy.allocators == [pool.cupy.malloc]
    assert cupy.allocators == []


def test_torch_allocates_from_it_and_keeps_its_settings(neither, torch):
    pool = GpuPool()
    with pool:
        assert torch.pools == [pool.torch]
    assert torch.pools == []
    assert torch.texts == []  # there was nothing to change


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        ("expandable_segments:True", "expandable_segments:False"),
        (
            "roundup_power2_divisions:[256:1,>:4],expandable_segments:True,max_split_size_mb:99",
            "roundup_power2_divisions:[256:1,>:4],max_split_size_mb:99,expandable_segments:False",
        ),
    ],
)
@pytest.mark.parametrize("newer", [False, True])
def test_torch_has_no_expandable_segments_inside(neither, torch, newer, before, inside):
    if newer:
        settings = torch.cuda.memory
        torch._C._accelerator_setAllocatorSettings = settings._set_allocator_settings
        del settings._set_allocator_settings
    torch.text = before
    pool = GpuPool()
    with pool:
        assert torch.text == inside
        with pool:
            assert torch.text == inside
        assert torch.text == inside
    assert torch.text == inside.replace("False", "True")


def test_the_last_thread_to_leave_sets_them_again(neither, torch):
    torch.text = "expandable_segments:True"
    pool, inside, leave = GpuPool(), threading.Event(), threading.Event()

    def enter():
        with pool:
            inside.set()
            leave.wait(30)

    other = threading.Thread(target=enter)
    with pool:
        other.start()
        assert inside.wait(30)
    assert torch.text == "expandable_segments:False"
    leave.set()
    other.join()
    assert torch.text == "expandable_segments:True"


def test_a_torch_whose_memory_nobody_can_open_is_refused(neither, torch):
    torch.cuda.get_allocator_backend = lambda: "cudaMallocAsync"
    with (
        pytest.raises(RuntimeError, match="backend:cudaMallocAsync out of PYTORCH_ALLOC_CONF"),
        GpuPool(),
    ):
        pass


def test_a_torch_without_pools_is_refused(neither, torch):
    del torch.cuda.use_mem_pool
    with pytest.raises(RuntimeError, match="torch fake has no pools"), GpuPool():
        pass


def test_what_was_entered_is_left_where_the_other_library_refuses(cupy, torch):
    del torch.cuda.use_mem_pool
    with pytest.raises(RuntimeError), GpuPool():
        pass
    assert cupy.allocators == []
