"""Three ways in: a wrapped communicator, our MPI module, and an unmodified mpi4py program."""

from __future__ import annotations

import pytest
from jobs import run

UNMODIFIED = """
import sys
import numpy as np
from mpi4py import MPI
import mpi4py.MPI
assert mpi4py.MPI is MPI
comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
into = np.zeros(1000)
request = comm.Irecv(into, MPI.ANY_SOURCE, MPI.ANY_TAG)
comm.Send(np.full(1000, float(rank)), (rank + 1) % size, 3)
status = MPI.Status()
MPI.Request.Waitall([request], [status])
assert status.source == (rank - 1) % size
assert (into == status.source).all()
everyone = comm.gather("mooncake_mpi.communicators.intracomm" if hasattr(comm, "_communicator") else "mpi4py.MPI")
if rank == 0:
    print(*sorted(set(everyone)), *sys.argv[1:], __name__)
"""


def test_an_unmodified_script_runs_on_the_engine_with_its_arguments(program):
    outcome = run(3, "-m", "mooncake_mpi", "run", program(UNMODIFIED), "--option", "value")
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.split() == [
        "mooncake_mpi.communicators.intracomm",
        "--option",
        "value",
        "__main__",
    ]


def test_an_unmodified_module_runs_on_the_engine(program, tmp_path):
    program(UNMODIFIED)
    outcome = run(
        2,
        "-m",
        "mooncake_mpi",
        "run",
        "-m",
        "program",
        "x",
        environment={"PYTHONPATH": str(tmp_path)},
    )
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.split() == ["mooncake_mpi.communicators.intracomm", "x", "__main__"]


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_library_wraps_a_communicator_that_its_caller_uses_too(program, ranks):
    path = program("""
from mpi4py import MPI
import mooncake_mpi
assert MPI.COMM_WORLD.__class__ is MPI.Intracomm
comm = mooncake_mpi.Intracomm(MPI.COMM_WORLD)
assert isinstance(comm, MPI.Intracomm)
rank, size = comm.rank, comm.size
theirs = MPI.COMM_WORLD.isend("library", (rank + 1) % size, 1)
ours = comm.isend("engine", (rank + 1) % size, 1)
assert comm.recv(source=(rank - 1) % size, tag=1) == "engine"
assert MPI.COMM_WORLD.recv(source=(rank - 1) % size, tag=1) == "library"
ours.wait(), theirs.wait()
assert comm.allreduce(1) == size
""")
    outcome = run(ranks, path)
    assert outcome.returncode == 0, outcome.output


def test_names_that_were_taken_before_mpi_was_initialised_are_the_same_space(program):
    outcome = run(
        2,
        program("""
import mpi4py
mpi4py.rc.initialize = False
from mooncake_mpi import MPI
comm, myself = MPI.COMM_WORLD, MPI.COMM_SELF
assert isinstance(comm, MPI.Intracomm)
assert not MPI.Is_initialized()
assert MPI.Init_thread(MPI.THREAD_MULTIPLE) == MPI.THREAD_MULTIPLE
assert comm is MPI.COMM_WORLD
if comm.rank == 0:
    comm.send("sent by the old name", 1)
    MPI.COMM_WORLD.send("by the new one", 1)
else:
    print(MPI.COMM_WORLD.recv(source=0), comm.recv(source=0), sep=", ")
myself.sendrecv(1, 0, source=0)
MPI.Finalize()
"""),
    )
    assert outcome.returncode == 0, outcome.output
    assert outcome.output == "sent by the old name, by the new one\n"


def test_our_module_replaces_mpi4pys_in_one_import(program):
    path = program(
        UNMODIFIED.replace(
            "from mpi4py import MPI\nimport mpi4py.MPI\nassert mpi4py.MPI is MPI",
            "from mooncake_mpi import MPI",
        )
    )
    outcome = run(2, path)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.split() == ["mooncake_mpi.communicators.intracomm", "__main__"]


def test_a_bad_setting_ends_the_program_with_one_line_that_names_it(program):
    outcome = run(
        1,
        program("from mooncake_mpi import MPI\nMPI.COMM_WORLD.Barrier()\n"),
        environment={"MOONCAKE_MPI_EAGER_LIMIT": "many"},
    )
    assert outcome.returncode != 0
    assert "MOONCAKE_MPI_EAGER_LIMIT" in outcome.output


def test_a_pool_of_mpi4py_futures_works_over_the_engine(program):
    path = program("""
from mpi4py import MPI
from mpi4py.futures import MPICommExecutor
def square(x):
    return x * x
if __name__ == "__main__":
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as pool:
        if pool is not None:
            print(MPI.COMM_WORLD._communicator is not None, sum(pool.map(square, range(100))))
""")
    outcome = run(3, "-m", "mooncake_mpi", "run", path)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.split() == ["True", "328350"]


def test_numpy_is_imported_by_programs_alone_and_learned_with_their_first_array(program):
    path = program("""
import sys
from array import array
from mooncake_mpi import MPI
from mooncake_mpi.buffers import exporters
comm = MPI.COMM_WORLD
other = 1 - comm.rank
assert comm.sendrecv({"a": [1, 2]}, other, source=other) == {"a": [1, 2]}
into = array("i", [0] * 4)
every_other = MPI.INT.Create_vector(2, 1, 2).Commit()
comm.Sendrecv([array("i", range(4)), 1, every_other], other, 0, [into, 1, every_other], other, 0)
assert list(into) == [0, 0, 2, 0]
assert "numpy" not in sys.modules
import numpy as np
assert np.ndarray not in exporters.PLAIN_TYPES
into = np.zeros(10)
comm.Sendrecv(np.arange(10.0), other, 0, into, other, 0)
assert (into == range(10)).all()
assert np.ndarray in exporters.PLAIN_TYPES
""")
    outcome = run(2, path)
    assert outcome.returncode == 0, outcome.output
