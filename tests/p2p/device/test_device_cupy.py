"""CuPy's own arrays, which are read by their attributes: a stand-in for CuPy has them without a GPU."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import fake_cuda
import numpy as np
import pytest
from mpi4py import MPI
from payload import is_pattern, pattern
from subject import ring_of

import mooncake_mpi

STAND_IN = Path(__file__).parents[2] / "gpu" / "stand_in"


@pytest.fixture(scope="module")
def cupy():
    """CuPy, or what stands in for it."""
    sys.path.append(str(STAND_IN))
    module = pytest.importorskip("cupy")
    sys.path.remove(str(STAND_IN))
    module.cuda.Device(0).use()
    return module


def sent_to_itself(comm, source, into):
    """What came of a message to this rank."""
    request = comm.Irecv(into, comm.rank, 1)
    comm.Send(source, comm.rank, 1)
    status = MPI.Status()
    request.Wait(status)
    return status


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", "i2", "c16", "f2"])
def test_a_message_of_each_type(comm, cupy, dtype):
    numbers = pattern(1600, comm.rank).view(dtype)
    source, into = cupy.array(numbers), cupy.empty(numbers.shape, numbers.dtype)
    status = sent_to_itself(comm, [source, numbers.size], into)
    assert status.Get_count(MPI.BYTE) == 1600
    assert cupy.asnumpy(into).tobytes() == numbers.tobytes()


def test_no_elements(comm, cupy):
    status = sent_to_itself(comm, cupy.empty(0), cupy.empty((3, 0)))
    assert status.Get_count(MPI.BYTE) == 0


@pytest.mark.fake
def test_one_that_says_no_more_of_its_order_is_read_by_its_interface(comm, cupy):
    source, into = cupy.array(pattern(800, 1)), cupy.array(np.zeros(800, "u1"))
    source.flags = SimpleNamespace(c_contiguous=None)
    into.flags = None
    sent_to_itself(comm, source, into)
    assert is_pattern(cupy.asnumpy(into), 1)


@pytest.mark.fake
def test_a_message_takes_its_place_in_the_current_stream(comm, cupy):
    stream, into = cupy.cuda.Stream(non_blocking=True), cupy.array(np.zeros(800, "u1"))
    library = fake_cuda.library()
    library.fake_cuda_hold(stream.ptr, 1)
    with stream:
        into[...] = cupy.empty(800, np.uint8)  # what the stream does not come to
        request = comm.Irecv(into, comm.rank, 1)
    comm.Isend(pattern(800, 2), comm.rank, 1).Free()
    assert not any(request.Test() for _ in range(100))
    library.fake_cuda_hold(stream.ptr, 0)
    request.Wait()
    assert is_pattern(cupy.asnumpy(into), 2)


@pytest.mark.needs_push
def test_arrays_of_the_pool_for_it_go_from_gpu_to_gpu(comm, cupy):
    right, left = ring_of(comm)
    counts = []
    cupy.cuda.set_allocator(cupy.cuda.MemoryAsyncPool().malloc)
    try:
        for inside in (False, True):
            with mooncake_mpi.gpu_pool() if inside else nullcontext():
                out, into = cupy.array(pattern(99_000, comm.rank)), cupy.empty(99_000, np.uint8)
            before = mooncake_mpi.transfers(comm)[left].received.get("staged")
            comm.Sendrecv(out, right, 1, into, left, 1)
            assert is_pattern(cupy.asnumpy(into), left)
            counts.append(mooncake_mpi.transfers(comm)[left].received.get("staged") == before)
    finally:
        cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)
    assert counts == [comm.size == 1, True]


@pytest.mark.fake
def test_an_interrupt_while_it_is_read_is_raised(comm, cupy):
    class Interrupted:
        @property
        def ptr(self):
            raise KeyboardInterrupt

    source = cupy.array(pattern(800, 1))
    source.data = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        comm.Send(source, comm.rank, 1)
