"""Messages of GPUs where a way is closed to them, or there is no GPU at all."""

from __future__ import annotations

import fake_cuda
import pytest
from jobs import run, run_suite

HERE = "tests/p2p/device"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MOONCAKE_MPI_FAKE_CUDA_NO_PEER", "1"),
        ("MOONCAKE_MPI_FAKE_CUDA_FAIL", "cuIpcGetMemHandle:201:0:-1"),
        ("MOONCAKE_MPI_FAKE_CUDA_FAIL", "cuIpcOpenMemHandle:201:0:-1"),
        ("MOONCAKE_MPI_CMA", "0"),
        ("MOONCAKE_MPI_PROGRESS_THREAD", "0"),
    ],
)
def test_the_promises_hold_with(variable, value):
    run_suite(2, HERE, environment={variable: value})


def test_more_streams_wait_than_the_hardware_has_channels():
    run_suite(
        2,
        f"{HERE}/test_device_stream_waits.py",
        environment={"CUDA_DEVICE_MAX_CONNECTIONS": "2"},
    )


def test_a_driver_without_the_library_s_kernels():
    run_suite(
        2,
        f"{HERE}/test_device_enqueue.py",
        f"{HERE}/test_device_enqueue_ways.py",
        environment={"MOONCAKE_MPI_FAKE_CUDA_FAIL": "cuModuleLoadData:222:0:1"},
    )


def test_without_a_driver_arrays_are_refused_and_all_else_goes_on(program):
    path = program("""
import sys
sys.path.insert(0, "tests")
import fake_cuda, numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
other = 1 - comm.rank
array = fake_cuda.array(100, "u1")
for call in (comm.Send, comm.Irecv):
    try:
        call(array, other, 1)
    except MPI.Exception as error:
        assert error.Get_error_class() == MPI.ERR_BUFFER
        assert "no CUDA driver: /nowhere/libcuda.so" in str(error), error
        assert "buffer (fake_cuda.Array)" in str(error), error
    else:
        raise AssertionError(call)
comm.Send(array, MPI.PROC_NULL)
comm.Sendrecv(fake_cuda.array(0, "u1"), other, 2, fake_cuda.array(0, "u1"), other, 2)
into = np.zeros(5)
comm.Sendrecv(np.arange(5.0), other, 3, into, other, 3)
assert into.tolist() == [0, 1, 2, 3, 4]
assert comm.sendrecv("text", other, 4) == "text"
print("went on", flush=True)
""")
    outcome = run(2, path, environment={"MOONCAKE_MPI_CUDA_LIBRARY": "/nowhere/libcuda.so"})
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.count("went on") == 2


@pytest.mark.parametrize("aware", ["0", "1"])
def test_whether_the_library_knows_cuda_can_be_said(program, aware):
    path = program(f"""
import sys
sys.path.insert(0, "tests")
import fake_cuda
from mooncake_mpi.communicators.collectives import is_cuda_aware
from mooncake_mpi import MPI
assert is_cuda_aware() == {aware}
array = fake_cuda.array(0, "u1")
MPI.COMM_WORLD.Bcast(array)
""")
    environment = {
        "MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path()),
        "MOONCAKE_MPI_CUDA_AWARE": aware,
    }
    outcome = run(2, path, environment=environment)
    assert outcome.returncode == 0, outcome.output


WARNED = """
import os, sys, warnings
sys.path.insert(0, "tests")
import fake_cuda
import mooncake_mpi
from mooncake_mpi import MPI
from mooncake_mpi.cli import info
comm = MPI.COMM_WORLD

def exchange(size, pool=False):
    array = fake_cuda.array(size, "u1", pool=pool and comm.rank == 1)
    comm.Send(array, 1, 1) if comm.rank == 0 else comm.Recv(array, 0, 1)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    exchange((1 << 20) - 1, POOL)
    assert not caught, caught[0].message
    for _ in range(3):
        exchange(1 << 20, POOL)
    comm.Barrier()
for warning in caught:
    assert warning.category is mooncake_mpi.DetourWarning
    assert issubclass(warning.category, RuntimeWarning)
    sys.stdout.write(f"rank {comm.rank} is warned: {warning.message}\\n")
    sys.stdout.flush()
assert comm.rank == 1 or len(mooncake_mpi.transfers(comm)[1].troubles) == len(caught)
comm.Barrier()
info.main([])
"""


@pytest.mark.parametrize(
    ("environment", "pool", "rank", "reason"),
    [
        ({}, True, 1, "the memory that is received into cannot be opened by another process"),
        ({"MOONCAKE_MPI_FAKE_CUDA_FAIL": "cuIpcGetMemHandle:201:0:-1"}, False, 1, "(CUDA_ERROR_"),
        (
            {"MOONCAKE_MPI_FAKE_CUDA_FAIL": "cuIpcOpenMemHandle:217:0:-1"},
            False,
            0,
            "(CUDA_ERROR_PEER",
        ),
        ({"MOONCAKE_MPI_LANES": "shm"}, False, 0, "the lane cuda_ipc is not used: not among the"),
        ({}, False, None, ""),
    ],
)
def test_a_detour_is_warned_of_once_with_its_reason(program, environment, pool, rank, reason):
    environment = {"MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path()), **environment}
    outcome = run(2, program(WARNED.replace("POOL", str(pool))), environment=environment)
    assert outcome.returncode == 0, outcome.output
    warned = [line for line in outcome.output.splitlines() if " is warned: " in line]
    moved = [line for line in outcome.output.splitlines() if line.startswith("transfers to rank 1")]
    path = "push" if rank is None else "staged"
    assert moved[0].split(maxsplit=4)[4] == f"{path}: 4 of 4,194,303 bytes"
    if rank is None:
        assert not warned
        return
    assert len(warned) == 1, warned
    assert warned[0].startswith(
        f"rank {rank} is warned: messages between GPUs of this process and of"
    )
    assert f"rank {1 - rank} of " in warned[0]
    assert reason in warned[0]
    assert (rank == 1) or reason in outcome.output.split("not as they could, rank 1")[1]


def test_a_warning_that_is_an_error_fails_no_call(program):
    path = program("""
import sys, warnings
warnings.simplefilter("error")
sys.path.insert(0, "tests")
import fake_cuda
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
for _ in range(3):
    array = fake_cuda.array(1 << 20, "u1")
    comm.Send(array, 1, 1) if comm.rank == 0 else comm.Recv(array, 0, 1)
""")
    environment = {
        "MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path()),
        "MOONCAKE_MPI_LANES": "shm",
    }
    outcome = run(2, path, environment=environment)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.count("DetourWarning: messages between GPUs") == 1
