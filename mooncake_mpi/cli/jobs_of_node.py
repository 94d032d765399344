"""Which job a process of this machine belongs to: who launched it, and with what."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# What launchers leave in the environment of the processes that they start.
_LAUNCHED = ("PMIX_RANK", "PMI_RANK", "PMI_FD", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
# They start processes for a launcher, one for each node and job.
_HELPERS = {"hydra_pmi_proxy", "prted", "orted", "slurmstepd"}
_COMMAND_CHARACTERS = 200


class Job(NamedTuple):
    """A job, of which processes run on this node.

    Attributes:
        launcher: process that launched it, or the only one of a job that nothing launched.
        name: of that process.
        namespace: the launcher's name for the job; one launcher may have several.
        command: what its processes run.
    """

    launcher: int
    name: str
    namespace: str
    command: str

    def __str__(self) -> str:
        by = f"of {self.name} (process {self.launcher})" if self.name else f"{self.launcher}"
        return f"job {by}: {self.command}"


def job_of(pid: int) -> Job:
    """The job of process ``pid``."""
    words = _read(pid, "cmdline").rstrip("\0").split("\0")
    command = shlex.join([Path(words[0]).name, *words[1:]])
    if len(command) > _COMMAND_CHARACTERS:
        command = command[: _COMMAND_CHARACTERS - 3] + "..."
    environment = dict(
        entry.split("=", 1) for entry in _read(pid, "environ").split("\0") if "=" in entry
    )
    launcher = _parent(pid) if any(name in environment for name in _LAUNCHED) else 0
    if not launcher:
        return Job(pid, "", "", command)
    if _name(launcher) in _HELPERS:
        launcher = _parent(launcher) or launcher
    return Job(launcher, _name(launcher), environment.get("PMIX_NAMESPACE", ""), command)


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _name(pid: int) -> str:
    return _read(pid, "comm").strip() or "a process that has ended"


def _read(pid: int, name: str) -> str:
    with suppress(OSError):  # it has ended, or is somebody else's
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    return ""
