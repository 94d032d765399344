"""Arrays in memory made for messages, and that memory behind NumPy's own (NEP 49)."""

from __future__ import annotations

import gc
import os
import pickle
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
from mpi4py import MPI as library  # noqa: N811

import mooncake_mpi
from mooncake_mpi import MPI
from mooncake_mpi.memory import shared_arrays

MIB = 1 << 20


def live_bytes():
    gc.collect()
    return shared_arrays.usage()["live_bytes"]


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("make", [mooncake_mpi.empty, mooncake_mpi.zeros])
@pytest.mark.parametrize(
    ("shape", "dtype", "order"),
    [
        (5, None, "C"),
        ((3, 4), np.int16, "F"),
        ((), "c16", "C"),
        ((2, 0, 7), np.float32, "C"),
        ((7, 5, 3), [("a", "i4"), ("b", "f8", (2,))], "C"),
        (MIB, "u1", "C"),
    ],
)
def test_an_array_is_what_numpy_would_make(make, shape, dtype, order):
    array = make(shape, dtype, order)
    expected = np.zeros(shape, dtype, order)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
    assert array.strides == expected.strides or array.size == 0
    assert array.flags.writeable
    assert array.flags.aligned
    if make is mooncake_mpi.zeros:
        assert array.tobytes() == expected.tobytes()
    array[...] = np.ones_like(array)
    assert np.array_equal(pickle.loads(pickle.dumps(array)), array)  # noqa: S301


@pytest.mark.parametrize(
    "prototype",
    [
        np.zeros((3, 4)),
        np.zeros((3, 4), order="F"),
        np.zeros((4, 5, 6), np.int8)[:, 1:3],
        [1, 2, 3],
    ],
)
def test_empty_like_follows_its_prototype(prototype):
    for order in ("C", "F", "A", "K"):
        array = mooncake_mpi.empty_like(prototype, order=order)
        expected = np.empty_like(prototype, order=order)
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        assert array.flags.c_contiguous == expected.flags.c_contiguous
    other = mooncake_mpi.empty_like(prototype, np.complex64, shape=(2, 2))
    assert (other.shape, other.dtype) == ((2, 2), np.complex64)


def test_arrays_are_refused_that_cannot_be():
    with pytest.raises(ValueError, match="objects"):
        mooncake_mpi.empty(3, object)
    with pytest.raises(ValueError, match="negative"):
        mooncake_mpi.zeros((2, -1))
    with pytest.raises(MemoryError):
        mooncake_mpi.empty(1 << 62, np.uint8)


def test_zeros_are_zeros_in_memory_that_was_in_use_before():
    for _ in range(3):
        array = mooncake_mpi.zeros(3 * MIB, np.uint8)
        assert not array.any()
        array[:] = 0xFF
        del array
        gc.collect()


def test_memory_is_freed_with_the_last_view():
    before = live_bytes()
    array = mooncake_mpi.zeros((4, MIB), np.uint8)
    assert live_bytes() == before + 4 * MIB
    view = memoryview(array[2])
    del array
    assert live_bytes() == before + 4 * MIB
    view[0] = 3
    assert view[0] == 3
    del view
    assert live_bytes() == before


def test_torch_tensors_over_an_array_keep_its_memory():
    torch = pytest.importorskip("torch")
    before = live_bytes()
    tensor = torch.from_numpy(mooncake_mpi.zeros(MIB, np.float32))
    assert live_bytes() == before + 4 * MIB
    assert float(tensor.sum()) == 0
    del tensor
    assert live_bytes() == before


def test_memory_descriptors_and_regions_stay_flat_over_many_arrays():
    mooncake_mpi.empty(1)
    before, files = shared_arrays.usage(), descriptors()
    for size in range(3000):
        mooncake_mpi.empty(1 + (size * 7919) % (2 * MIB), np.uint8)
    gc.collect()
    after = shared_arrays.usage()
    assert after["regions"] == before["regions"]
    assert after["live_bytes"] == before["live_bytes"]
    assert after["refused"] == before["refused"]
    assert descriptors() == files


def test_alloc_mem_gives_what_mpi4py_gives():
    before = live_bytes()
    memory = MPI.Alloc_mem(MIB)
    assert type(memory) is library.buffer
    assert (len(memory), memory.readonly) == (MIB, False)
    assert live_bytes() == before + MIB
    memory[:] = b"x" * MIB
    MPI.Free_mem(memory)
    assert len(memory) == 0
    assert live_bytes() == before


def test_free_mem_takes_any_buffer_over_the_memory():
    before = live_bytes()
    array = np.frombuffer(MPI.Alloc_mem(4096), np.uint8)
    MPI.Free_mem(array)
    assert live_bytes() == before


def test_what_the_library_must_look_at_is_the_library_s():
    before = live_bytes()
    hints = MPI.Info.Create()
    memory = MPI.Alloc_mem(100, hints)
    hints.Free()
    assert live_bytes() == before
    MPI.Free_mem(memory)
    MPI.Free_mem(library.Alloc_mem(100))
    empty = MPI.Alloc_mem(0)
    assert len(empty) == 0
    MPI.Free_mem(empty)
    with pytest.raises(MPI.Exception):
        MPI.Alloc_mem(-1)
    with pytest.raises(TypeError):
        MPI.Alloc_mem("much")


def test_numpy_arrays_of_a_size_lie_in_it_inside_the_context_manager():
    before = live_bytes()
    with mooncake_mpi.numpy_allocator(MIB):
        small, large = np.zeros(1000), np.ones(MIB, np.uint8)
        total = large + large
        with mooncake_mpi.numpy_allocator(100):
            inner = np.zeros(1000)
    outside = np.ones(MIB, np.uint8)
    assert live_bytes() == before + 2 * MIB + 8192
    assert (total == 2).all()
    assert not inner.any()
    assert not small.any()
    del small, large, total, inner, outside
    assert live_bytes() == before


def test_numpy_arrays_of_both_kinds_may_grow_and_shrink():
    for inside in (False, True):
        with mooncake_mpi.numpy_allocator(64 << 10):
            array = np.arange(16_000)
        for length in (8_000, 9_000, 100_000, 99_000, 1_000, 300_000, 0, 50_000):
            kept = min(length, array.size)
            expected = array[:kept].copy()
            if inside:
                with mooncake_mpi.numpy_allocator(64 << 10):
                    array.resize(length, refcheck=False)
            else:
                array.resize(length, refcheck=False)
            assert np.array_equal(array[:kept], expected)
            assert not array[kept:].any()
            array[:] = np.arange(length)


def test_numpy_zeros_are_zeros_in_memory_that_was_in_use_before():
    with mooncake_mpi.numpy_allocator(MIB):
        for _ in range(3):
            array = np.zeros(2 * MIB, np.uint8)
            assert not array.any()
            array[:] = 0xFF
            del array


def test_arrays_made_in_threads_are_ordinary_until_the_thread_asks():
    found = []

    def make():
        array = np.ones(MIB, np.uint8)
        with mooncake_mpi.numpy_allocator(MIB):
            shared = np.ones(MIB, np.uint8)
            found.append(live_bytes())
        del array, shared

    before = live_bytes()
    with mooncake_mpi.numpy_allocator(MIB):
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
    assert found[0] in {before + MIB, before + 2 * MIB}  # contexts may be inherited (Python 3.14)
    assert live_bytes() == before


def test_a_negative_threshold_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        mooncake_mpi.numpy_allocator(-1)


def run(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_variable_makes_it_numpy_s_allocator():
    program = """
import numpy as np
from mooncake_mpi import MPI
from mooncake_mpi.memory import shared_arrays
large, small = np.zeros(1 << 20), np.zeros(1000)
print(shared_arrays.usage()["live_bytes"])
"""
    assert run(program, MOONCAKE_MPI_NUMPY="1") == f"{8 * MIB}\n"
    assert run(program, MOONCAKE_MPI_NUMPY="1", MOONCAKE_MPI_NUMPY_THRESHOLD="16M") == "0\n"
    assert run(program, MOONCAKE_MPI_NUMPY="0") == "0\n"


def test_a_variable_limits_what_is_kept():
    program = """
import mooncake_mpi
from mooncake_mpi.memory import shared_arrays
mooncake_mpi.zeros(8 << 20, "u1")
print(shared_arrays.usage()["kept_bytes"])
"""
    assert run(program, MOONCAKE_MPI_MEMORY_KEEP="1M") == f"{MIB}\n"
    assert run(program) == f"{8 * MIB}\n"


def test_without_descriptors_arrays_and_memory_are_ordinary():
    program = """
import resource, numpy as np, mooncake_mpi
from mooncake_mpi import MPI
from mooncake_mpi.memory import shared_arrays
import os
first = os.dup(0); os.close(first)
resource.setrlimit(resource.RLIMIT_NOFILE, (first, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
array = mooncake_mpi.zeros(1 << 20, np.uint8)
memory = MPI.Alloc_mem(1000)
with mooncake_mpi.numpy_allocator():
    other = np.ones(1 << 20)
array[:] = 1
assert array.sum() == 1 << 20 and other.sum() == 1 << 20
MPI.Free_mem(memory)
usage = shared_arrays.usage()
assert usage["live_bytes"] == 0 and usage["refused"] == 3, usage
"""
    run(program)


def test_a_limit_of_address_space_makes_regions_smaller():
    limit = resource.getrlimit(resource.RLIMIT_AS)
    program = f"""
import resource, mooncake_mpi
from mooncake_mpi.memory import shared_arrays
shared_arrays.set_limits()
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), {limit[1]}))
array = mooncake_mpi.zeros(8 << 20, "u1")
assert shared_arrays.usage()["live_bytes"] == 8 << 20, shared_arrays.usage()
"""
    run(program)


FORK = """
import os, sys, numpy as np, mooncake_mpi
from mooncake_mpi.memory import shared_arrays
with mooncake_mpi.numpy_allocator():
    array = np.ones(1 << 20, np.uint8)
    doomed = np.ones(1 << 20, np.uint8)
    child = os.fork()
    if child == 0:
        assert array.sum() == 1 << 20
        array[:] = 2
        del doomed
        more = np.full(1 << 20, 3, np.uint8)
        large = mooncake_mpi.zeros(1 << 20, "u1")
        assert array.sum() == 2 << 20 and more.sum() == 3 << 20 and not large.any()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert array.sum() == 1 << 20 and doomed.sum() == 1 << 20
    before = shared_arrays.usage()["live_bytes"]
    new = np.full(1 << 20, 4, np.uint8)
    assert shared_arrays.usage()["live_bytes"] == before + (1 << 20)
    assert array.sum() == 1 << 20 and doomed.sum() == 1 << 20
"""


def test_a_forked_child_has_its_parent_s_arrays_and_its_writes_stay_its_own():
    run(FORK)


def test_a_worker_of_multiprocessing_can_write_into_an_inherited_array():
    program = """
import multiprocessing, mooncake_mpi
array = mooncake_mpi.zeros(1 << 20, "u1")
def work(value):
    array[:] = value
    return int(array.sum())
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(work, [1, 2, 3]) == [1 << 20, 2 << 20, 3 << 20]
assert not array.any()
"""
    run(program)
