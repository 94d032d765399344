"""``python -m mooncake_mpi doctor --hang``: what running processes wait for.

Called in the command's one thread, without a lock. Each process keeps what its calls wait for in a
segment that others can map, so that even a stopped one can be looked at; those that run are asked
for the heads of their queues, too.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mooncake_mpi import _native
from mooncake_mpi.cli import jobs_of_node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SEGMENT = "/memfd:mooncake_mpi"
_ASK = b"?"
_ANSWER_S = 2.0


def explain(pids: Sequence[int]) -> int:
    """Print the state of the processes ``pids``, of all of this user's when there are none, by job.

    Nothing is written to what the jobs print.

    Returns:
        0, or 1 when no process was found.
    """
    segments = [found for pid in pids or _all_pids() for found in _segments(pid)]
    before = {board["pid"]: board["reports"] for board in _native.boards(segments)[0]}
    if not before:
        sys.stderr.write("doctor: no process with messages of mooncake_mpi was found\n")
        return 1
    _ask(segments)
    deadline = time.monotonic() + _ANSWER_S
    while True:
        boards, _ = _native.boards(segments)
        silent = {board["pid"] for board in boards if board["reports"] == before.get(board["pid"])}
        if not silent or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    jobs: dict[jobs_of_node.Job, list[tuple[int, int]]] = {}
    for segment in segments:
        if segment[0] in before:
            jobs.setdefault(jobs_of_node.job_of(segment[0]), []).append(segment)
    for job, of_job in sorted(jobs.items()):
        boards, cycles = _native.boards(of_job)
        sys.stdout.write(f"{job}\n")
        for board in sorted(boards, key=lambda board: (board["rank"], board["pid"])):
            answered = board["pid"] not in silent
            sys.stdout.write(board["report"] if answered else _from_outside(board))
        sys.stdout.write(cycles)
    return 0


def _from_outside(board: dict[str, object]) -> str:
    """What a process that does not answer waits for."""
    waits = board["waits"]
    lines = [f"mooncake_mpi: rank {board['rank']} (process {board['pid']}) does not answer\n"]
    lines += [f"  {wait}\n" for wait in waits] if isinstance(waits, list) else []
    return "".join(lines)


def _all_pids() -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if folder.stat().st_uid == os.getuid():
                yield int(folder.name)


def _segments(pid: int) -> Iterator[tuple[int, int]]:
    """A process's own segment; of a child that a fork made its parent's, which is passed over."""
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if str(link.readlink()).startswith(_SEGMENT):
                yield pid, int(link.name)
    except OSError:
        return


def _ask(segments: Sequence[tuple[int, int]]) -> None:
    for board in _native.boards(segments)[0]:
        try:
            pipe = os.open(
                f"/proc/{board['pid']}/fd/{board['ask_descriptor']}", os.O_WRONLY | os.O_NONBLOCK
            )
        except OSError:
            continue
        with os.fdopen(pipe, "wb", buffering=0) as ask:
            status = os.fstat(pipe)
            # the process may have given the number to a file of its own
            if stat.S_ISFIFO(status.st_mode) and status.st_ino == board["ask_inode"]:
                with suppress(OSError):
                    ask.write(_ASK)
