"""What a job of many ranks costs each of its processes before the first message.

Called in the benchmark's one thread, without a lock. One process makes a communicator out of
addresses that were never anybody's: nothing is exchanged, so what the MPI library needs to bring
the addresses to every rank is not in it.
"""

from __future__ import annotations

import argparse
import gc
from dataclasses import dataclass
from time import process_time
from typing import TYPE_CHECKING, TypeVar

from mooncake_mpi import _native
from mooncake_mpi.bench.arguments import option_type
from mooncake_mpi.bench.options import parse_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Made = TypeVar("Made")

_RANKS_A_HOST = 8
_FEW = 2
_MOST_RANKS = 10_000_000


@dataclass(frozen=True)
class Startup:
    """Of a communicator of ``members`` ranks; bytes are those that it keeps, for each of them.

    ``exchanged`` is what a process receives of each other one over the MPI library, before.
    """

    members: int
    exchanged_bytes: int
    seconds: float
    member_bytes: float
    dup_seconds: float
    dup_member_bytes: float
    split_seconds: float


def _measured(make: Callable[[], Made]) -> tuple[Made, float, float]:
    """What ``make`` gives, in how many seconds of the processor, and the bytes allocated since.

    Of the C library: the engine's, and Python's objects of more than half a KiB.
    """
    gc.collect()
    before = _native.allocated_bytes()
    start = process_time()
    made = make()
    seconds = process_time() - start
    gc.collect()
    return made, seconds, _native.allocated_bytes() - before


def simulate(members: int) -> Startup:
    """Make this process rank 0 of so many, and duplicate and split that communicator."""
    from mpi4py import MPI

    from mooncake_mpi.engine import runtime

    # The engine itself is not measured, nor what lanes make when there is somebody to hear from.
    runtime.communicator_of(MPI.COMM_SELF)
    if members > _FEW:
        few = _native.Communicator(0, _FEW, 1 << 20)
        few.activate(*_native.simulated_entries(few.entry, _FEW, _RANKS_A_HOST), "few")
        few.close()
    whole = _native.Communicator(0, members, 1 << 20)
    entries, longest = _native.simulated_entries(whole.entry, members, _RANKS_A_HOST)
    heads = whole.head * members

    def activate() -> None:
        whole.activate(entries, longest, "whole")

    def derive(ranks: list[int]) -> _native.Communicator:
        from mooncake_mpi.engine import refusals

        numbers = refusals.Heads(bytearray(heads)).numbers
        made = _native.Communicator(0, len(ranks) or members, 1 << 20)
        made.inherit(whole, ranks, "derived")
        made.join([numbers[rank] for rank in ranks] if ranks else numbers)
        return made

    _, seconds, kept = _measured(activate)
    duplicate, dup_seconds, dup_kept = _measured(lambda: derive([]))
    part, split_seconds, _ = _measured(lambda: derive(list(range(0, members, 2))))
    for made in (part, duplicate, whole):
        made.close()
    return Startup(
        members=members,
        exchanged_bytes=longest + _native.HEAD_BYTES,
        seconds=seconds,
        member_bytes=kept / members,
        dup_seconds=dup_seconds,
        dup_member_bytes=dup_kept / members,
        split_seconds=split_seconds,
    )


def table(results: Sequence[Startup]) -> str:
    """For people."""
    lines = [
        "  ranks | of each, over MPI | communicator | a member |     Dup | a member | Split in two",
        "--------|-------------------|--------------|----------|---------|----------|-------------",
    ]
    lines += [
        f"{one.members:>7,} | {one.exchanged_bytes:>15} B | {one.seconds * 1e3:>9.1f} ms "
        f"| {one.member_bytes:>6.0f} B | {one.dup_seconds * 1e3:>4.1f} ms "
        f"| {one.dup_member_bytes:>6.0f} B | {one.split_seconds * 1e3:>9.1f} ms"
        for one in results
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """``bench startup``: a table on standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m mooncake_mpi bench startup",
        description="What a job of many ranks costs each process before its first message: a "
        "communicator made of addresses that are nobody's, by one process.",
    )
    parser.add_argument(
        "--simulate",
        type=option_type(parse_counts),
        default=(10_000,),
        metavar="RANKS",
        help="how many: 10000, or 10000,100000 (default: 10000)",
    )
    counts = parser.parse_args(arguments).simulate
    if not all(1 <= count <= _MOST_RANKS for count in counts):
        parser.error(f"argument --simulate: from 1 to {_MOST_RANKS} ranks")
    print(table([simulate(count) for count in counts]))
    return 0
