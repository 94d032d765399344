"""These tests start processes themselves, without MPI: run them without mpirun, in one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

import fake_cuda

pytest.importorskip("torch")

#: How each process of a job begins; what is left out of the environment is what a launcher sets.
PROLOGUE = """
import os, signal, sys, time
from datetime import timedelta
import torch
import torch.distributed as dist
import mooncake_mpi.torch

rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)

def meet(timeout=60):
    dist.init_process_group(
        "mooncake_mpi", init_method=f"file://{folder}/store", rank=rank, world_size=size,
        timeout=timedelta(seconds=timeout),
    )

def told(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except dist.DistBackendError as error:
        return str(error)

"""
EPILOGUE = """
assert "mpi4py" not in sys.modules, "mpi4py"
"""


#: Tensors of GPUs, on a libcuda that needs none.
ARRAYS = f"""
sys.path.insert(0, {str(TESTS)!r})
import fake_cuda
import numpy as np
from mooncake_mpi.torch import stream_waits

class Device(int):
    type = "cuda"

class Tensor(fake_cuda.Array):
    '''As much of a tensor of a GPU as messages ask for.'''
    layout, is_cpu, requires_grad = torch.strided, False, False

    def __init__(self, size, value):
        super().__init__(size, "u1")
        self.device = Device(0)
        self.set(value)

    def is_contiguous(self): return True
    def is_neg(self): return False
    def is_conj(self): return False
    def data_ptr(self): return self.ptr

stream, another = fake_cuda.Stream(0), fake_cuda.Stream(0)
current = [stream]
stream_waits.current_stream = lambda tensor: current[0].handle

def tensor(size, value):
    return Tensor(size, value)

def ends(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)

group = None
def begin(timeout=60):
    global group
    meet(timeout)
    group = dist.group.WORLD
"""

#: Imports torch once, and forks the processes.
START = """
import os, runpy, sys
import torch
import mooncake_mpi.torch

program, size, folder = sys.argv[1:]
children = []
for rank in range(int(size)):
    pid = os.fork()
    if not pid:
        output = os.open(f"{folder}/{rank}.output", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = [program, str(rank), size, folder]
        runpy.run_path(program, run_name="__main__")
        break
    children.append(pid)
else:
    for rank, pid in enumerate(children):
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with open(f"{folder}/{rank}.status", "w") as file:
            file.write(str(status))
"""


@dataclass
class Ended:
    """How one process ended."""

    status: int
    output: str


@pytest.fixture
def ranks(tmp_path):
    """Runs a program in so many processes that know their rank, their number and a folder."""

    def run(size, program, environment=None, timeout=100, prologue=PROLOGUE, epilogue=EPILOGUE):
        path, start = tmp_path / "program.py", tmp_path / "start.py"
        path.write_text(prologue + program + epilogue)
        start.write_text(START)
        process = subprocess.Popen(
            [sys.executable, str(start), str(path), str(size), str(tmp_path)],
            env=dict(os.environ, OMP_NUM_THREADS="1", **(environment or {})),
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return [
            Ended(
                int((tmp_path / f"{rank}.status").read_text()),
                (tmp_path / f"{rank}.output").read_text(errors="replace"),
            )
            for rank in range(size)
        ]

    return run


@pytest.fixture
def well(ranks):
    """As ``ranks``; all must end well, and what each printed is given."""

    def run(*args, **kwargs):
        ended = ranks(*args, **kwargs)
        for rank, one in enumerate(ended):
            assert one.status == 0, f"rank {rank}: {one.status}\n{one.output}"
        return [one.output for one in ended]

    return run


@pytest.fixture
def on_gpus(ranks):
    """Runs a program on so many processes, which have arrays; those not ``killed`` end well."""

    def run(size, text, killed=()):
        variables = {
            "MOONCAKE_MPI_CUDA_LIBRARY": str(fake_cuda.path()),
            "MOONCAKE_MPI_TORCH_STREAM_SENDS": "1",
        }
        for rank, one in enumerate(ranks(size, ARRAYS + text, variables)):
            assert one.status == (-9 if rank in killed else 0), f"rank {rank}: {one.output}"

    return run
