"""Processes that a launcher started together and MPI did not make one job of."""

import pytest

from mooncake_mpi.cli.launchers import trouble

SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_NTASKS": "4"}


@pytest.mark.parametrize(
    ("environ", "vendor", "named"),
    [
        (SLURM, "Open MPI", ["srun started 4", "srun --mpi=pmix", "mpirun of Open MPI"]),
        (SLURM, "MPICH", ["srun started 4", "srun --mpi=pmi2", "mpiexec of MPICH"]),
        (SLURM, "Intel MPI", ["--mpi=pmi2", "I_MPI_PMI_LIBRARY"]),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "Open MPI", ["MPICH's kind", "mpirun of Open MPI"]),
        ({**SLURM, "PMI_SIZE": "4", "PMI_RANK": "2"}, "Open MPI", ["srun started 4", "--mpi=pmix"]),
        # mpiexec has its helpers on each node started by srun
        ({**SLURM, "PMI_SIZE": "8", "PMI_RANK": "2"}, "Open MPI", ["MPICH's kind", "started 8"]),
        (
            {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "1"},
            "MPICH",
            ["Open MPI's mpirun started 3", "mpiexec of MPICH", "MPI4PY_LIBMPI"],
        ),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "Open MPI", ["torchrun started 2", "no MPI job"]),
    ],
)
def test_the_launcher_and_what_fits_are_named(environ, vendor, named):
    text, _ = trouble(1, vendor, environ)
    assert [word for word in named if word not in text] == []


def test_each_process_knows_which_one_it_is():
    assert trouble(1, "MPICH", SLURM)[1] == 2


@pytest.mark.parametrize(
    ("size", "environ"),
    [
        (4, SLURM),
        (1, {}),
        (1, {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}),
        (1, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}),  # a batch script, outside of any step
        (1, {"WORLD_SIZE": "many", "RANK": "0"}),
    ],
)
def test_nothing_is_said_of_a_job_or_of_a_process_alone(size, environ):
    assert trouble(size, "MPICH", environ) is None
