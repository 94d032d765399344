"""Show where each rank of a stuck job is: Python's own view, then the C and Python frames."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

DUMP_SECONDS = 30
NATIVE_FRAMES = 16
LINE_LENGTH = 160
# frames of the test runner and of imports, which say nothing about where a rank is
RUNNER_FRAMES = ("_pytest/", "pluggy/", "launch_rank.py", "unittest/", "importlib")


def stack_tools(pid: int) -> list[list[str]]:
    """The programs that can show C frames, the better one first."""
    tools = []
    spy = Path(sys.executable).with_name("py-spy")
    found = str(spy) if spy.exists() else shutil.which("py-spy")
    if found is not None:
        tools.append([found, "dump", "--native", "--pid", str(pid)])
    gdb = shutil.which("gdb")
    if gdb is not None:
        backtrace = f"thread apply all bt {NATIVE_FRAMES}"
        tools.append([gdb, "-p", str(pid), "-batch", "-nx", "-ex", backtrace])
    return tools


def brief(stacks: str) -> str:
    """Leave out the test runner's own frames, and what is long in a line."""
    lines = (line[:LINE_LENGTH] for line in stacks.splitlines())
    return "\n".join(line for line in lines if not any(part in line for part in RUNNER_FRAMES))


def native_stacks(pid: int) -> str:
    """The first answer that a tool gives."""
    reasons = []
    for command in stack_tools(pid):
        try:
            shown = subprocess.run(
                command, capture_output=True, text=True, timeout=DUMP_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            reasons.append(f"{command[0]}: no answer within {DUMP_SECONDS} s")
            continue
        if shown.returncode == 0 and shown.stdout.strip():
            return brief(shown.stdout)
        reasons.append(f"{command[0]}: {(shown.stderr.strip() or 'no output').splitlines()[-1]}")
    return "no C stacks: " + ("; ".join(reasons) or "neither py-spy nor gdb is installed")


def dump_stacks(folder: Path, ranks: list[tuple[int, int | None]]) -> None:
    """Print the stacks of every rank that is still there."""
    for _, pid in ranks:
        if pid is not None:
            # The rank's faulthandler writes the Python frames of all its threads.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
    time.sleep(0.5)
    for rank, pid in ranks:
        if pid is None or not Path(f"/proc/{pid}").exists():
            print(f"---- rank {rank}: no process", flush=True)
            continue
        written = folder / f"rank-{rank}.stacks"
        python_stacks = brief(written.read_text(errors="replace")) if written.exists() else ""
        print(f"---- rank {rank} (process {pid}), Python\n{python_stacks}", flush=True)
        print(f"---- rank {rank}, C and Python\n{native_stacks(pid)}", flush=True)
