"""``info`` and ``doctor`` over jobs: what they say, and to whom."""

from __future__ import annotations

import json

from jobs import run

TOOL = ("-m", "mooncake_mpi")


def test_info_gives_lanes_settings_and_misspelt_ones_as_json():
    settings = {"MOONCAKE_MPI_SPIN_US": "7", "MOONCAKE_MPI_EAGERLIMIT": "64K"}
    outcome = run(2, *TOOL, "info", "--json", environment=settings)
    assert outcome.returncode == 0, outcome.output
    told = json.loads(outcome.output)
    assert told["processes"] == 2
    assert [rank["way"].split(",")[0] for rank in told["ranks"]] == ["self", "shm"]
    assert told["lanes"]["shm"] == "on"
    assert told["settings"]["MOONCAKE_MPI_SPIN_US"] == {"value": "7", "set": True}
    assert not told["settings"]["MOONCAKE_MPI_CMA"]["set"]
    assert told["unknown_variables"] == {"MOONCAKE_MPI_EAGERLIMIT": "MOONCAKE_MPI_EAGER_LIMIT"}


def test_the_doctor_names_a_rank_that_nothing_reaches_and_its_host(program):
    apart = program("""
import os, sys
from mpi4py import MPI
from mooncake_mpi.cli import main
os.environ["MOONCAKE_MPI_HOST_ID"] = str(MPI.COMM_WORLD.rank)
main(["doctor"])
""")
    outcome = run(2, apart, environment={"MOONCAKE_MPI_LANES": "self,shm"})
    assert outcome.returncode == 1, outcome.output
    assert "FAILED  rank 0: no lane reaches rank 1 on " in outcome.output
    assert "MOONCAKE_MPI_LANES" in outcome.output
    assert "Traceback" not in outcome.output


def test_a_program_asks_for_its_lanes_and_counters(program):
    path = program("""
import mooncake_mpi
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
comm.Sendrecv(bytearray(8), 1 - comm.rank, recvbuf=bytearray(8), source=1 - comm.rank)
assert mooncake_mpi.lane_of(comm, 1 - comm.rank) == "shm"
assert mooncake_mpi.lane_of(comm, comm.rank) == "self"
assert mooncake_mpi.stats()["eager_sent"] >= 1
try:
    mooncake_mpi.lane_of(comm, 2)
except MPI.Exception as error:
    assert error.Get_error_class() == MPI.ERR_RANK
else:
    raise AssertionError
""")
    outcome = run(2, path)
    assert outcome.returncode == 0, outcome.output
