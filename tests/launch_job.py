"""The processes of one mpirun or torchrun: how they are started, and how not one of them is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
TERMINATE_SECONDS = 5.0


def mpirun_arguments(mpirun: str) -> list[str]:
    """The options with which more ranks than cores may start."""
    shown = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False)
    if "Open MPI" in shown.stdout or "open-mpi" in shown.stdout:
        return ["--oversubscribe", "--bind-to", "none"]
    return []


def launcher(mpirun: str | None, ranks: int) -> list[str]:
    """What starts so many ranks: an mpirun, or torchrun."""
    if mpirun is None:
        torchrun = [sys.executable, "-m", "torch.distributed.run"]
        return [*torchrun, "--standalone", f"--nproc-per-node={ranks}", "--no-python"]
    return [mpirun, *mpirun_arguments(mpirun), "-n", str(ranks)]


def job_environment(folder: Path) -> dict[str, str]:
    """What the ranks need beyond the caller's environment."""
    environment = dict(os.environ, MOONCAKE_MPI_LAUNCH_FOLDER=str(folder), PYTHONFAULTHANDLER="1")
    if not sys.stdout.isatty():
        environment.setdefault("NO_COLOR", "1")
    if os.geteuid() == 0:
        environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
        environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    return environment


def children_of(parents: set[int]) -> set[int]:
    """All processes below `parents`, which are not among them."""
    parent_of: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent_of[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    frontier = set(parents)
    while frontier:
        frontier = {pid for pid, parent in parent_of.items() if parent in frontier} - found
        found |= frontier
    return found


def remove_session_folder(mpirun: int) -> None:
    """Remove what Open MPI's mpirun left when it was killed, by its process id: the next with that id fails on it."""
    shutil.rmtree(Path(tempfile.gettempdir(), f"ompi.{mpirun}"), ignore_errors=True)


class Job:
    """One launcher in a session of its own; leaving the context ends what is left of it."""

    def __init__(self, folder: Path, mpirun: str | None, ranks: int, program: list[str]) -> None:
        self.folder = folder
        # Ranks whose mpirun died become our children, so that they can be found and ended.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        on_rank = [sys.executable, str(Path(__file__).with_name("launch_rank.py")), *program]
        self._process = subprocess.Popen(
            [*launcher(mpirun, ranks), *on_rank],
            stdin=subprocess.DEVNULL,
            env=job_environment(folder),
            start_new_session=True,
            preexec_fn=lambda: self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
        )

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.running():
            # mpirun ends its ranks when it is asked to; it gets the time for it.
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(TERMINATE_SECONDS)
        deadline = time.monotonic() + TERMINATE_SECONDS
        while (left := children_of({os.getpid()})) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            time.sleep(0.02)
        self._reap()
        remove_session_folder(self._process.pid)

    def _reap(self) -> None:
        self._process.poll()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def running(self) -> bool:
        """Whether mpirun has not ended."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int:
        """What mpirun ended with; negative for a signal."""
        return self._process.returncode if self._process.returncode is not None else -1
