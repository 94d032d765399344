"""What each benchmark command measures: its cases, and the quantity that its table shows.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from mooncake_mpi.bench import checks, methods, outstanding, overlap, paths
from mooncake_mpi.bench.options import MIB, BenchOptions, OptionError, size_name
from mooncake_mpi.bench.session import Session, scaled_count
from mooncake_mpi.bench.table import Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mooncake_mpi.bench.peers import Peer

# Enough bytes per turn for a steady state, few enough that 64 MiB does not take minutes.
LATENCY_BYTES_PER_TURN = 256 * MIB
BANDWIDTH_BYTES_PER_TURN = 2048 * MIB


@dataclass(frozen=True)
class Plan:
    """One command: a row for each of ``cases``.

    ``ranks`` is how many it runs on: ``"two"``, ``"even"`` or ``"any"``; ``without`` are the
    peers that it cannot run on, with the reason.
    """

    title: str
    first_column: str
    unit: str
    ranks: str
    cases: Callable[[BenchOptions], Sequence[Any]]
    label: Callable[[Any], str]
    row: Callable[[Session, Any], Row]
    higher_is_better: bool
    without: tuple[tuple[str, str], ...] = ()


def sizes_of(options: BenchOptions) -> Sequence[int]:
    """A case for each size."""
    return options.sizes


def window_bytes_count(size: int, window: int) -> int:
    """Windows in a turn."""
    return scaled_count(BANDWIDTH_BYTES_PER_TURN, size * window, 1, 200)


def latency_row(session: Session, size: int) -> Row:
    """Half round trips of messages of ``size`` bytes, averaged over the pairs of ranks."""
    with session.buffers(size) as buffers:

        def trial(peer: Peer, count: int) -> float:
            out, into = buffers[peer.name]
            return methods.ping_pong(
                peer.comm, out.carrier, into.carrier, session.partner, session.is_first, count
            )

        return session.measure(
            size_name(size),
            trial,
            lambda seconds: seconds / 2 * 1e6,
            scaled_count(LATENCY_BYTES_PER_TURN, size, 5, 10_000),
            combine=fmean,
            size_bytes=size,
        )


def stream_row(session: Session, size: int, quantity: Callable[[float], float]) -> Row:
    """Windows from the lower half of the ranks to the upper, added up over the pairs."""
    window = session.options.window
    with session.buffers(size) as buffers:

        def trial(peer: Peer, count: int) -> float:
            out, into = buffers[peer.name]
            buffer = out if session.is_first else into
            return methods.windowed_stream(
                peer, buffer.carrier, window, session.partner, session.is_first, count
            )

        most = window_bytes_count(size, window)
        return session.measure(size_name(size), trial, quantity, most, combine=sum, size_bytes=size)


def bandwidth_row(session: Session, size: int) -> Row:
    """MB/s, of 10^6 bytes, one way."""
    window_bytes = size * session.options.window
    return stream_row(session, size, lambda seconds: window_bytes / seconds / 1e6)


def message_rate_row(session: Session, size: int) -> Row:
    """Thousands of messages a second, of all pairs of ranks together."""
    window = session.options.window
    return stream_row(session, size, lambda seconds: window / seconds / 1e3)


def both_ways_row(session: Session, size: int) -> Row:
    """MB/s, of 10^6 bytes, the two directions added up."""
    window = session.options.window
    both_bytes = 2 * size * window
    with session.buffers(size) as buffers:

        def trial(peer: Peer, count: int) -> float:
            out, into = buffers[peer.name]
            return methods.windowed_exchange(
                peer, out.carrier, into.carrier, window, session.partner, count
            )

        return session.measure(
            size_name(size),
            trial,
            lambda seconds: both_bytes / seconds / 1e6,
            window_bytes_count(2 * size, window),
            size_bytes=size,
        )


def ring_row(session: Session, messages: int) -> Row:
    """A token of 8 bytes that passes through all ranks, in microseconds per message."""
    ranks = session.size
    for peer in session.peers:
        checks.check_ring(peer)
    tokens = {peer.name: peer.adapt(np.zeros(8, np.uint8)) for peer in session.peers}
    return session.measure(
        f"{ranks} ranks",
        lambda peer, laps: methods.pass_around_ring(peer.comm, tokens[peer.name], laps),
        lambda seconds: seconds / ranks * 1e6,
        max(1, messages // ranks),
    )


def matching_cases(options: BenchOptions) -> Sequence[Any]:
    """Both queues, at every length."""
    kinds = (outstanding.PostedOthers, outstanding.UnexpectedOthers)
    return [(kind, count) for kind in kinds for count in options.outstanding]


def matching_row(session: Session, case: Any) -> Row:
    """Half round trips of 8 B, in microseconds, while other receives or messages wait."""
    others, count = case
    waiting = [others(peer, count) for peer in session.peers]
    with session.buffers(8) as buffers:

        def trial(peer: Peer, count: int) -> float:
            out, into = buffers[peer.name]
            return methods.ping_pong(
                peer.comm, out.carrier, into.carrier, session.partner, session.is_first, count
            )

        row = session.measure(matching_label(case), trial, lambda seconds: seconds / 2 * 1e6, 2_000)
    for item in waiting:
        item.finish()
    return row


def matching_label(case: Any) -> str:
    """How many others of which kind."""
    others, count = case
    return f"{count:,} {others.kind}"


HALF_ROUND_TRIP = "half round trip, us"
NO_TAGS = tuple((name, "it has no tags") for name in ("nccl", "cupy-nccl", "copy"))
NO_START = tuple(
    (name, "its operations start when they are waited for")
    for name in ("nccl", "cupy-nccl", "copy")
)


def plan_of_sizes(
    title: str, unit: str, ranks: str, row: Callable[[Session, Any], Row], *, higher_is_better: bool
) -> Plan:
    """A row for each of ``--sizes``."""
    return Plan(title, "size", unit, ranks, sizes_of, size_name, row, higher_is_better)


PLANS: dict[str, Plan] = {
    "latency": plan_of_sizes(
        "Latency", HALF_ROUND_TRIP, "two", latency_row, higher_is_better=False
    ),
    "bandwidth": plan_of_sizes("Bandwidth", "MB/s", "two", bandwidth_row, higher_is_better=True),
    "bibw": plan_of_sizes(
        "Bandwidth both ways", "MB/s", "two", both_ways_row, higher_is_better=True
    ),
    "message-rate": plan_of_sizes(
        "Message rate", "thousand messages/s", "even", message_rate_row, higher_is_better=True
    ),
    "multi-latency": plan_of_sizes(
        "Latency of pairs at once", HALF_ROUND_TRIP, "even", latency_row, higher_is_better=False
    ),
    "matching": Plan(
        "Matching",
        "others",
        "half round trip of 8 B, us",
        "two",
        matching_cases,
        matching_label,
        matching_row,
        higher_is_better=False,
        without=NO_TAGS,
    ),
    "overlap": Plan(
        "Overlap with computation",
        "transfer and computation",
        "% of the transfer's time hidden",
        "two",
        overlap.cases,
        overlap.label,
        overlap.row,
        higher_is_better=True,
        without=NO_START,
    ),
    "ring": Plan(
        "Ring of 8 B messages",
        "ring",
        "us per message",
        "any",
        lambda options: [options.messages],
        lambda messages: f"{messages} messages",
        ring_row,
        higher_is_better=False,
        without=NO_TAGS,
    ),
}


def require_ranks(command: str, size: int) -> None:
    """Whether the job fits the command.

    Raises:
        OptionError: it has the wrong number of ranks.
    """
    ranks = PLANS[command].ranks
    if ranks == "two" and size != 2:
        raise OptionError(f"{command} needs 2 ranks and has {size}: mpirun -n 2 ...")
    if ranks == "even" and size % 2:
        raise OptionError(f"{command} needs an even number of ranks and has {size}")


def require_peers(command: str, against: Sequence[str]) -> None:
    """Whether the command can measure these peers.

    Raises:
        OptionError: one cannot do what the command times.
    """
    for name, reason in PLANS[command].without:
        if name in against:
            raise OptionError(f"argument --against: {command} cannot measure {name}: {reason}")


def heading(command: str, session: Session) -> Table:
    """The table of a command before anything is measured."""
    plan = PLANS[command]
    return Table(
        title_of(command, session.options, session.size),
        plan.first_column,
        plan.unit,
        tuple(peer.name for peer in session.peers),
        higher_is_better=plan.higher_is_better,
        rows=(),
        tells_paths=session.options.path,
    )


def labels_of(command: str, session: Session) -> list[str]:
    """The first column of the rows that :func:`run_plan` measures."""
    plan = PLANS[command]
    return [plan.label(case) for case in plan.cases(session.options)]


def run_plan(command: str, session: Session, told: Callable[[Row], None] | None = None) -> Table:
    """Measure every case; collective.

    Args:
        command: a name of :data:`PLANS`.
        session: who measures.
        told: called with each row when it is measured.
    """
    plan = PLANS[command]
    cases = plan.cases(session.options)
    progress = session.progress
    progress.start(len(cases) * len(session.peers) * session.options.repeats)
    rows = []
    try:
        for case in cases:
            progress.label(f"{command} {plan.label(case)}")
            before = paths.counted() if session.options.path else None
            row = plan.row(session, case)
            if before is not None:
                row = replace(row, path=paths.between(before, paths.counted()))
            rows.append(row)
            if told is not None:
                with progress.hidden():
                    told(rows[-1])
    finally:
        progress.stop()
    return replace(heading(command, session), rows=tuple(rows))


def title_of(command: str, options: BenchOptions, size: int) -> str:
    """The plan's title with what the reader must know of the options."""
    title = PLANS[command].title
    if command in {"bandwidth", "bibw", "message-rate"}:
        title += f", window {options.window}"
    if PLANS[command].ranks == "even":
        title += f", {size // 2} pair{'s' if size > 2 else ''}"
    if options.memory != "numpy":
        title += f", memory {options.memory}"
    return title
