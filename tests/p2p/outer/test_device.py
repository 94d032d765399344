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
