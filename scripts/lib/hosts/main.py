"""The command line of scripts/hosts, whose head says what there is."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING

import bed
import faults
import launchers
import remote

if TYPE_CHECKING:
    from pathlib import Path

LAB_FAILED = 125  # a status that the job itself hardly has
UNITS_US = {"us": 1, "ms": 1000, "s": 1_000_000}


class Stopped(BaseException):
    """A signal asked for the end."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """Between two hosts, or one and all others, some seconds after the start and for so many."""

    first: str
    second: str | None
    after: float
    lasting: float | None


def delay(word: str) -> int:
    """``5ms`` in microseconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", word)
    if not found:
        raise argparse.ArgumentTypeError(f"{word!r} is no time, as 5ms is")
    return round(float(found.group(1)) * UNITS_US[found.group(2)])


def loss(word: str) -> float:
    """``1%`` as 0.01."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", word)
    if not found or float(found.group(1)) > 100:
        raise argparse.ArgumentTypeError(f"{word!r} is no part, as 1% is")
    return float(found.group(1)) / 100


def cut(word: str) -> Cut:
    """``0:1@5+10``, ``0@5+10``, or without the end."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?@(\d+(?:\.\d+)?)(?:\+(\d+(?:\.\d+)?))?", word)
    if not found:
        raise argparse.ArgumentTypeError(f"{word!r} is no cut, as 0:1@5+10 is")
    first, second, after, lasting = found.groups()
    return Cut(
        f"host{first}",
        second and f"host{second}",
        float(after),
        float(lasting) if lasting else None,
    )


def options_of_network(parser: argparse.ArgumentParser) -> None:
    """What every command that makes hosts takes."""
    parser.add_argument("--delay", type=delay, default=0, metavar="TIME")
    parser.add_argument("--loss", type=loss, default=0.0, metavar="PART")
    parser.add_argument("--rate", default="", metavar="RATE")
    parser.add_argument("--mtu", type=int, default=1500, metavar="BYTES")
    parser.add_argument("--congestion", default="", metavar="NAME")
    parser.add_argument("--debian-names", action="store_true")


def parse(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="hosts", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", allow_abbrev=False)
    run.add_argument("-n", "--ranks", type=int, required=True)
    run.add_argument("--per-host", type=int, default=1)
    run.add_argument("--mpirun", help=argparse.SUPPRESS)
    run.add_argument("--timeout", type=float)
    run.add_argument("--cut", type=cut, action="append", default=[])
    options_of_network(run)
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="COMMAND")
    for verb in ("cut", "heal"):
        change = verbs.add_parser(verb)
        change.add_argument("between", metavar="A[:B]")
    for verb in ("unplug", "plug", "reset"):
        change = verbs.add_parser(verb)
        change.add_argument("host", type=int)
    execute = verbs.add_parser("exec", allow_abbrev=False)
    execute.add_argument("host", type=int)
    execute.add_argument("program", nargs=argparse.REMAINDER, metavar="COMMAND")
    chosen = parser.parse_args(words)
    program = getattr(chosen, "program", ["-"])
    if program[:1] == ["--"]:
        del program[0]
    if not program:
        parser.error(f"{chosen.verb} what?")
    if chosen.verb == "run" and min(chosen.ranks, chosen.per_host) < 1:
        parser.error("-n and --per-host take numbers above 0")
    return chosen


def network_of(chosen: argparse.Namespace) -> bed.Network:
    """The network that was asked for."""
    return bed.Network(
        delay_us=chosen.delay,
        loss=chosen.loss,
        rate=chosen.rate,
        mtu=chosen.mtu,
        congestion=chosen.congestion,
        loopback_names=chosen.debian_names,
    )


def run(chosen: argparse.Namespace) -> int:
    """Make the hosts, run the job, and end with its status."""
    count = -(-chosen.ranks // chosen.per_host)
    variables = launchers.agent_variables()
    with bed.Bed(count, network_of(chosen), variables) as made:
        known = set(made.names)
        for each in chosen.cut:
            for name in {each.first, each.second or each.first} - known:
                raise bed.BedError(f"--cut: there is no {name}, only {', '.join(made.names)}")
        job = launchers.Job(made, chosen.mpirun, chosen.ranks, chosen.program, chosen.per_host)
        status = watch(job, made.folder, chosen)
    return status if status >= 0 else 128 - status


def watch(job: launchers.Job, folder: Path, chosen: argparse.Namespace) -> int:
    """Cut and heal when it is time, until the job ends."""
    started = time.monotonic()
    plan = []
    for each in chosen.cut:
        plan.append((started + each.after, faults.cut, each))
        if each.lasting is not None:
            plan.append((started + each.after + each.lasting, faults.heal, each))
    plan.sort(key=lambda step: step[0])
    while True:
        now = time.monotonic()
        while plan and plan[0][0] <= now:
            _, change, each = plan.pop(0)
            change(folder, each.first, each.second)
        if job.ended(max(0.0, min(0.1, plan[0][0] - now if plan else 0.1))):
            return job.returncode
        if chosen.timeout and now - started > chosen.timeout:
            print(f"hosts: still running after {chosen.timeout:g} s", file=sys.stderr)
            return 124


def change_network(chosen: argparse.Namespace) -> int:
    """What a program in one of the hosts asks for."""
    folder = remote.folder_of_bed()
    if chosen.verb in {"cut", "heal"}:
        names = [f"host{number}" for number in chosen.between.split(":")]
        getattr(faults, chosen.verb)(folder, *names)
    elif chosen.verb == "reset":
        print(faults.reset_connections(folder, f"host{chosen.host}"))
    else:
        getattr(faults, chosen.verb)(folder, f"host{chosen.host}")
    return 0


def execute(chosen: argparse.Namespace) -> int:
    """A program in one of the hosts."""
    process = remote.Process(remote.folder_of_bed(), f"host{chosen.host}", chosen.program)
    status = process.wait()
    return status if status >= 0 else 128 - status


def stop(number: int, _frame: object) -> None:
    """End in order, once."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


def main(words: list[str]) -> int:
    """The exit status."""
    bench = words[:1] == ["bench"]
    chosen = None if bench else parse(words)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        if chosen is None:
            from bench import main as measure

            return measure(words[1:])
        if chosen.verb == "run":
            return run(chosen)
        return execute(chosen) if chosen.verb == "exec" else change_network(chosen)
    except Stopped as stopped:
        return 128 + int(stopped.args[0])
    except (bed.BedError, RuntimeError, OSError, ValueError) as error:
        print(f"hosts: {error}", file=sys.stderr)
        return LAB_FAILED


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
    os._exit(1)
