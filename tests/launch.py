"""Run a Python program on N ranks under mpirun or torchrun, with a deadline that it cannot outlive.

    python tests/launch.py -n 4 -- -m pytest --with-mpi tests/p2p
    python tests/launch.py -n 2 --unittest -- -m mooncake_mpi run path/to/main.py
    python tests/launch.py -n 4 --torchrun -- -m pytest tests/torch

Rank 0 prints; what the other ranks print is kept and shown when it matters. The run fails when any
rank fails, dies or ends without a result. A rank that failed a test in which others are stuck stops
the job after a grace time; a job that makes no progress, or is still there at its deadline, shows
the C and Python stacks of every rank first. Whatever happens, every process of the job is gone
afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from launch_job import Job
from launch_ranks import RankState, write_report
from launch_stacks import dump_stacks

POLL_SECONDS = 0.1
HANGS = ("still running", "no rank made progress")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Options before ``--``, the program and its arguments after it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", "--ranks", type=int, required=True, help="number of ranks")
    parser.add_argument("--mpirun", default=shutil.which("mpirun"), help="the mpirun to use")
    parser.add_argument("--torchrun", action="store_true", help="torchrun instead of mpirun")
    parser.add_argument("--timeout", type=float, default=240, help="seconds for the whole job")
    parser.add_argument("--stall", type=float, default=60, help="seconds without any progress")
    parser.add_argument("--grace", type=float, default=10, help="seconds to leave a failed test")
    parser.add_argument("--report", type=Path, help="write the outcome of each test here (JSON)")
    parser.add_argument("--coverage", type=Path, help="measure coverage into this folder")
    parser.add_argument("--unittest", action="store_true", help="the program runs unittest cases")
    parser.add_argument("--no-tests", action="store_true", help="the program runs no tests")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="-m module ... or script ...")
    options = parser.parse_args(arguments)
    if options.program[:1] == ["--"]:
        options.program = options.program[1:]
    if not options.program:
        parser.error("name a program after --")
    if options.torchrun:
        options.mpirun = None
    elif options.mpirun is None:
        parser.error("no mpirun on PATH; name one with --mpirun")
    return options


def verdict_now(options: argparse.Namespace, ranks: list[RankState], started: float) -> str | None:
    """Say why the job must be stopped now, or None."""
    now = time.monotonic()
    if now - started > options.timeout:
        return f"{HANGS[0]} at its deadline of {options.timeout:g} s"
    if now - max(started, *(rank.changed_at for rank in ranks)) > options.stall:
        return f"{HANGS[1]} for {options.stall:g} s"
    for rank in ranks:
        for test, failed_at in rank.failed_at.items():
            stuck = [other.rank for other in ranks if not other.has_left(test)]
            if stuck and now - failed_at > options.grace:
                return f"rank {rank.rank} failed {test}; ranks {stuck} are still in it"
        if rank.result not in (None, 0) and now - rank.changed_at > options.grace:
            return f"rank {rank.rank} ended with {rank.result} while others go on"
    return None


def watch(options: argparse.Namespace, job: Job, ranks: list[RankState]) -> str | None:
    """Wait for the end of the job; return the reason when it had to be stopped."""
    started = time.monotonic()
    while job.running():
        for rank in ranks:
            rank.read()
        reason = verdict_now(options, ranks, started)
        if reason is not None:
            print(f"\nlaunch: {reason}", flush=True)
            for rank in ranks:
                print(f"   rank {rank.rank} {rank.whereabouts()}", flush=True)
            if reason.startswith(HANGS):
                dump_stacks(job.folder, [(rank.rank, rank.pid()) for rank in ranks])
            return reason
        time.sleep(POLL_SECONDS)
    for rank in ranks:
        rank.read()
    return None


def judge(options: argparse.Namespace, job: Job, ranks: list[RankState]) -> list[str]:
    """The reasons for which a job that ended by itself has failed."""
    reasons = []
    for rank in ranks:
        if rank.result is None and not options.no_tests:
            reasons.append(f"rank {rank.rank} ended without a result")
        elif rank.result not in (None, 0):
            reasons.append(f"rank {rank.rank} ended with {rank.result}")
        elif rank.failures:
            reasons.append(f"rank {rank.rank} failed {len(rank.failures)} tests")
        elif not options.no_tests and not rank.outcomes:
            reasons.append(f"rank {rank.rank} ran no test")
    if job.returncode != 0:
        reasons.append(f"the launcher ended with {job.returncode}")
    return reasons


def show_failures(ranks: list[RankState], *, unittest: bool) -> None:
    """Print what rank 0's own output does not show."""
    shown: set[tuple[str, str]] = set()
    # rank 0 has printed its own failures at its end, unless the job was stopped before that
    if ranks[0].result is not None and not unittest:
        shown.update(ranks[0].failures)
    for rank in ranks:
        for test, text in rank.failures:
            if (test, text) in shown:
                continue
            shown.add((test, text))
            print(f"---- rank {rank.rank} failed {test}\n{text}", flush=True)
        if rank.rank and not rank.failures and rank.result != 0 and rank.log_tail():
            print(f"---- rank {rank.rank}'s last lines\n{rank.log_tail()}", flush=True)


def main(arguments: list[str]) -> int:
    """Run the job; 0 when every rank passed."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="mooncake_mpi-launch-") as name:
        folder = Path(name)
        (folder / "options.json").write_text(
            json.dumps(
                {
                    "unittest": options.unittest,
                    "coverage": str(options.coverage.resolve()) if options.coverage else None,
                }
            )
        )
        ranks = [RankState(folder, rank) for rank in range(options.ranks)]
        started = time.monotonic()
        with Job(folder, options.mpirun, options.ranks, options.program) as job:
            stopped = watch(options, job, ranks)
        reasons = [stopped] if stopped else judge(options, job, ranks)
        if reasons:
            show_failures(ranks, unittest=options.unittest)
        if options.report is not None:
            write_report(options.report, ranks, reasons)
        elapsed = time.monotonic() - started
        outcome = f"FAILED: {'; '.join(reasons)}" if reasons else "passed"
        print(f"launch: {options.ranks} ranks, {elapsed:.1f} s: {outcome}", flush=True)
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
