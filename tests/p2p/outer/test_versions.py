"""Processes that run different versions of the package in one job."""

from __future__ import annotations

import re

import pytest
from jobs import run

# Rank 1 says of itself what another build would say, in the head that every version sends first.
OTHER_VERSION = """
from mpi4py import MPI as library
from mooncake_mpi.engine import runtime

exchange = runtime.exchange
def of_another_version(comm, entry):
    if library.COMM_WORLD.rank == 1 and len(entry) == 32:
        entry = entry[:4] + (int.from_bytes(entry[4:6], "little") + 1).to_bytes(2, "little") + entry[6:]
    return exchange(comm, entry)
runtime.exchange = of_another_version
"""

DROP_IN = """
try:
    from mooncake_mpi import MPI
    print("made", flush=True)
except Exception as error:
    print(f"rank {library.COMM_WORLD.rank}: {type(error).__name__}: {error}", flush=True)
library.COMM_WORLD.Barrier()
"""

WRAPPED = """
import mooncake_mpi
try:
    mooncake_mpi.Intracomm(library.COMM_WORLD)
    print("made", flush=True)
except Exception as error:
    print(f"rank {library.COMM_WORLD.rank}: {type(error).__name__}: {error}", flush=True)
library.COMM_WORLD.Barrier()
"""


@pytest.mark.parametrize("way", [DROP_IN, WRAPPED], ids=["drop-in", "wrapped"])
def test_every_rank_says_so_in_one_error_and_none_waits(program, way):
    outcome = run(3, program(OTHER_VERSION + way))
    assert outcome.returncode == 0, outcome.output
    lines = sorted(outcome.output.splitlines())
    assert len(lines) == 3, outcome.output
    for rank, line in enumerate(lines):
        assert line.startswith(f"rank {rank}: Error: "), line
        assert "different versions" in line, line
        version, other = re.search(r"of rank 0: (\d+), rank 1: (\d+)", line).groups()
        assert int(other) == int(version) + 1, line
