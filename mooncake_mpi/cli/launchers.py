"""Who started this process, by the variables that launchers set, and whether MPI knows of it.

A launcher and an MPI library that do not know each other give as many jobs of one process as there
should be processes in one job. Called in a command's one thread, without a lock.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Launcher:
    """What one launcher calls the number of processes and which of them this is."""

    name: str
    size: str
    rank: str


_HYDRA = Launcher("a launcher of MPICH's kind (hydra)", "PMI_SIZE", "PMI_RANK")
_SRUN = Launcher("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")

#: The nearest first: a launcher that another one has started stands before that.
LAUNCHERS = (
    Launcher("Open MPI's mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    _HYDRA,
    _SRUN,
    Launcher("torchrun", "WORLD_SIZE", "RANK"),
)


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def launcher_of(environ: Mapping[str, str]) -> tuple[Launcher, int, int] | None:
    """Who started this process with others: the launcher, how many they are, and which is this."""
    for launcher in LAUNCHERS:
        size = _number(environ, launcher.size)
        if size > 1 and launcher.rank in environ:
            rank = _number(environ, launcher.rank)
            is_srun = launcher is _HYDRA and _says(environ, _SRUN, size, rank)  # --mpi=pmi2
            return _SRUN if is_srun else launcher, size, rank
    return None


def _says(environ: Mapping[str, str], launcher: Launcher, size: int, rank: int) -> bool:
    """Whether that launcher, too, started so many processes and has this number for this one."""
    known = launcher.rank in environ
    return known and (size, rank) == tuple(
        _number(environ, name) for name in (launcher.size, launcher.rank)
    )


def remedy(launcher: Launcher, vendor: str) -> str:
    """What to do about a launcher that the MPI library of that name does not know."""
    own = "mpiexec of MPICH" if vendor.startswith("MPICH") else f"mpirun of {vendor}"
    if launcher.name == "srun":
        if vendor == "Open MPI":
            kinds = "srun --mpi=pmix"
        elif vendor == "Intel MPI":
            kinds = "srun --mpi=pmi2, with I_MPI_PMI_LIBRARY set to Slurm's libpmi2.so"
        else:
            kinds = "srun --mpi=pmi2 (or pmix, where the library was built with it)"
        return f"start it with {kinds}; srun --mpi=list says what this Slurm has. Or use the {own}"
    if launcher.name == "torchrun":
        return f"torchrun starts no MPI job: start MPI programs with the {own}"
    return (
        f"mpi4py has loaded {vendor}: start it with the {own}, or name the launcher's own library "
        "in MPI4PY_LIBMPI"
    )


def trouble(
    size: int, vendor: str, environ: Mapping[str, str] | None = None
) -> tuple[str, int] | None:
    """What is wrong if the job has fewer processes than its launcher started.

    Args:
        size: of the job, as the MPI library says.
        vendor: the library's name, as ``MPI.get_vendor`` gives it.
        environ: this process's, if left out.

    Returns:
        A line, and which of the launcher's processes this is, since each of them finds the same.
    """
    found = launcher_of(os.environ if environ is None else environ)
    if found is None or size > 1:
        return None
    launcher, started, rank = found
    return (
        f"{launcher.name} started {started} processes, and each of them is an MPI job of its own: "
        + remedy(launcher, vendor)
    ), rank
