"""These tests start jobs: run them without mpirun, in one process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from jobs import run  # noqa: E402

PRELUDE = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import hosts
import os, signal, time
import numpy as np
import mooncake_mpi
from mooncake_mpi import MPI, _native
comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
inner = comm._communicator
"""


@pytest.fixture
def job(tmp_path):
    """Runs a program on ranks of several hosts; gives its output."""

    def run_program(ranks, text, hosts=2, *, returncode=0, timeout=60, **options):
        path = tmp_path / "program.py"
        path.write_text(PRELUDE + text)
        environment = {"MOONCAKE_MPI_TEST_HOSTS": str(hosts), **options.pop("environment", {})}
        outcome = run(ranks, path, timeout=timeout, environment=environment, **options)
        if returncode is not None:
            assert outcome.returncode == returncode, outcome.output
        return outcome.output

    return run_program
