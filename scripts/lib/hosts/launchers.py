"""How one job is started over the hosts of a bed: by the launcher of an MPI library, or by none."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    import bed

HERE = Path(__file__).resolve().parent
AGENT = HERE / "agent"
TURN_SECONDS = 0.02
PORT = 29500  # torch's own choice for a store


def is_open_mpi(mpirun: str) -> bool:
    """Whether this mpirun takes Open MPI's options."""
    shown = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False)
    return "Open MPI" in shown.stdout or "open-mpi" in shown.stdout


def agent_variables() -> dict[str, str]:
    """What the launchers and the agent need to find their way to other hosts."""
    return {
        "MOONCAKE_MPI_HOSTS_PYTHON": sys.executable,
        "PRTE_MCA_plm_ssh_agent": str(AGENT),
        "OMPI_MCA_plm_rsh_agent": str(AGENT),  # before version 5
        "HYDRA_LAUNCHER": "ssh",
        "HYDRA_LAUNCHER_EXEC": str(AGENT),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }


def command_of(
    mpirun: str, hosts: Sequence[str], per_host: int, ranks: int, program: Sequence[str]
) -> list[str]:
    """The launcher's command line; ranks fill the hosts in order."""
    where = ",".join(f"{host}:{per_host}" for host in hosts)
    if is_open_mpi(mpirun):
        return [mpirun, "--host", where, "--bind-to", "none", "-n", str(ranks), *program]
    return [mpirun, "-hosts", where, "-n", str(ranks), *program]


class Job:
    """One job in a bed; without an mpirun its ranks find each other by torch's variables."""

    def __init__(
        self,
        made: bed.Bed,
        mpirun: str | None,
        ranks: int,
        program: Sequence[str],
        per_host: int = 1,
        descriptors: tuple[int, int, int] = (0, 1, 2),
        variables: dict[str, str] | None = None,
        cwd: str | None = None,
    ) -> None:
        given = variables or {}
        self._left: list[remote.Process] = []
        self.returncode = 0
        if mpirun is not None:
            # a launcher does not carry the environment to other hosts, nor does the agent
            given = {**given, remote.VARIABLES: json.dumps(given)}
            command = command_of(mpirun, made.names, per_host, ranks, program)
            self._left.append(made.start(made.names[0], command, descriptors, given, cwd))
            return
        for rank in range(ranks):
            host = made.names[rank // per_host]
            of_rank = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank % per_host),
                "WORLD_SIZE": str(ranks),
                "MASTER_ADDR": made.names[0],
                "MASTER_PORT": str(PORT),
                **given,
            }
            self._left.append(made.start(host, program, descriptors, of_rank, cwd))

    def ended(self, timeout: float = 0) -> bool:
        """Whether it has ended, now or within some seconds; ``returncode`` tells how.

        A rank that fails ends the others, where it is not the launcher that does so.
        """
        deadline = time.monotonic() + timeout
        while self._left:
            for process in list(self._left):
                alone = len(self._left) == 1
                if process.ended(max(0.0, deadline - time.monotonic()) if alone else TURN_SECONDS):
                    self._left.remove(process)
                    if process.returncode:
                        self.returncode = process.returncode
                        self.kill()
                        return True
            if self._left and time.monotonic() >= deadline:
                return False
        return True

    def wait(self, timeout: float) -> int:
        """The exit status.

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        if not self.ended(timeout):
            raise subprocess.TimeoutExpired("the job", timeout)
        return self.returncode

    def kill(self) -> None:
        """End what this started; what that left in other hosts ends with the bed, or by clear()."""
        for process in self._left:
            process.kill()
        self._left = []
