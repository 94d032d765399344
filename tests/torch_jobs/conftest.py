"""These tests start processes themselves, without MPI: run them without mpirun, in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

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


@dataclass
class Ended:
    """How one process ended."""

    status: int
    output: str


@pytest.fixture
def ranks(tmp_path):
    """Runs a program in so many processes that know their rank, their number and a folder."""

    def run(size, program, environment=None, timeout=100, prologue=PROLOGUE, epilogue=EPILOGUE):
        path = tmp_path / "program.py"
        path.write_text(prologue + program + epilogue)
        variables = dict(os.environ, OMP_NUM_THREADS="1", **(environment or {}))
        processes = [
            subprocess.Popen(
                [sys.executable, str(path), str(rank), str(size), str(tmp_path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=variables,
            )
            for rank in range(size)
        ]
        try:
            outputs = [process.communicate(timeout=timeout)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return [
            Ended(process.returncode, output)
            for process, output in zip(processes, outputs, strict=True)
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
