"""Start MPI jobs from a test, never outlive them, and tell how they ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from launch_job import remove_session_folder

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass
class Outcome:
    """How a job ended."""

    returncode: int
    output: str
    seconds: float


def mpirun():
    """The mpirun beside this Python, else the one on PATH; MOONCAKE_MPI_TEST_MPIRUN names another."""
    beside = str(Path(sys.executable).parent)
    search = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    found = os.environ.get("MOONCAKE_MPI_TEST_MPIRUN") or shutil.which("mpirun", path=search)
    assert found, "no mpirun"
    return found


def is_open_mpi():
    """Whether the mpirun is Open MPI's."""
    shown = subprocess.run([mpirun(), "--version"], capture_output=True, text=True, check=True)
    return "Open MPI" in shown.stdout or "open-mpi" in shown.stdout


def mpirun_options(fault_tolerant=False):
    """What lets more ranks than cores start and, if wanted, a job go on after a rank was killed."""
    if not is_open_mpi():
        return ["-disable-auto-cleanup"] if fault_tolerant else []
    options = ["--oversubscribe", "--bind-to", "none"]
    return [*options, "--with-ft", "ulfm"] if fault_tolerant else options


def start(
    ranks, *arguments, environment=None, cores=None, python=(sys.executable,), fault_tolerant=False
):
    """A job of ``ranks`` Python processes in a session of its own, standard error in its output.

    The output goes to a file: a job whose processes were all killed must not be waited for by a pipe.
    """
    variables = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    variables.pop("PYTHONUNBUFFERED", None)  # lines would come in pieces, between those of others
    variables.update(environment or {})
    output = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115
    process = subprocess.Popen(
        [
            mpirun(),
            *mpirun_options(fault_tolerant),
            "-n",
            str(ranks),
            *python,
            *map(str, arguments),
        ],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=variables,
        cwd=REPOSITORY,
        start_new_session=True,
        preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
    )
    return process, output


def members(session):
    """The processes of a session that are not zombies, the launcher's daemons and the ranks."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def descendants(root):
    """The processes below ``root``, whatever session they moved to."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, frontier = set(), {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return found


def kill_all(process):
    """SIGKILL to the launcher and everything below it, at once."""
    everything = {process.pid, *descendants(process.pid), *members(process.pid)}
    for pid in everything:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in everything - {process.pid}):
        assert time.monotonic() < deadline, "a killed process is still there"
        time.sleep(0.01)
    remove_session_folder(process.pid)


def is_alive(pid):
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run(ranks, *arguments, timeout=60, **options):
    """Run a job to its end; kill it and fail after ``timeout`` seconds."""
    started = time.monotonic()
    process, output = start(ranks, *arguments, **options)
    with output:
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_all(process)
            output.seek(0)
            raise AssertionError(f"the job did not end in {timeout} s:\n{output.read()}") from None
        output.seek(0)
        return Outcome(process.returncode, output.read(), time.monotonic() - started)


def run_suite(ranks, *arguments, environment, timeout=150):
    """Run a part of the behaviour tests with other settings."""
    launch = str(REPOSITORY / "tests" / "launch.py")
    command = [sys.executable, launch, "--mpirun", mpirun(), "-n", str(ranks)]
    command += ["--timeout", str(timeout), "--", "-m", "pytest", "--with-mpi", "-q", *arguments]
    finished = subprocess.run(
        command,
        env=dict(os.environ, **environment),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout + 30,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]
    return finished.stdout
