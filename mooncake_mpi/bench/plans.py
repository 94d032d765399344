"""What each benchmark command measures: sizes, counts, and the quantity that its table shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mooncake_mpi.bench import methods
from mooncake_mpi.bench.options import MIB, BenchOptions, size_name
from mooncake_mpi.bench.sampling import Trial, alternate, statistics_of
from mooncake_mpi.bench.table import Row, Table

if TYPE_CHECKING:
    from mooncake_mpi.bench.methods import Bytes
    from mooncake_mpi.bench.peers import Peer

Progress = Callable[[str], None]

# Enough bytes per set of samples for a steady state, few enough that 64 MiB does not take minutes.
LATENCY_BYTES_PER_SET = 256 * MIB
BANDWIDTH_BYTES_PER_SET = 2048 * MIB


def scaled_count(bytes_per_set: int, bytes_per_operation: int, least: int, most: int) -> int:
    """Operations that move about ``bytes_per_set``, within ``[least, most]``."""
    return max(least, min(most, bytes_per_set // max(1, bytes_per_operation)))


def barrier_of(peers: Sequence[Peer]) -> Callable[[], None]:
    """The MPI library's barrier; collectives are the MPI library's on every communicator."""
    return peers[-1].comm.Barrier


def measure_row(
    peers: Sequence[Peer],
    options: BenchOptions,
    iterations: int,
    trial: Callable[[Peer, int], float],
    quantity: Callable[[float], float],
    label: str,
) -> Row:
    """One row: every peer's trial in turn; ``quantity`` makes seconds per operation the unit."""
    warmup = max(1, iterations // 10) if options.warmup is None else options.warmup
    samples = alternate(
        [Trial(peer.name, partial(trial, peer)) for peer in peers],
        barrier_of(peers),
        iterations,
        warmup,
        options.repeats,
    )
    return Row(
        label, tuple(statistics_of([quantity(s) for s in samples[peer.name]]) for peer in peers)
    )


def allocate_pair(size_bytes: int) -> tuple[Bytes, Bytes]:
    """A send and a receive buffer, every page touched."""
    return np.ones(size_bytes, np.uint8), np.ones(size_bytes, np.uint8)


def latency_row(peers: Sequence[Peer], options: BenchOptions, size: int) -> Row:
    """Half round trips of messages of ``size`` bytes, in microseconds."""
    out, into = allocate_pair(size)
    for peer in peers:
        methods.check_exchange(peer.comm, out, into)
    return measure_row(
        peers,
        options,
        options.iterations or scaled_count(LATENCY_BYTES_PER_SET, size, 5, 10_000),
        lambda peer, count: methods.ping_pong(peer.comm, out, into, count),
        lambda seconds: seconds / 2 * 1e6,
        size_name(size),
    )


def run_latency(peers: Sequence[Peer], options: BenchOptions, progress: Progress) -> Table:
    """A ping-pong between ranks 0 and 1 for every size."""
    rows = []
    for size in options.sizes:
        progress(f"latency {size_name(size)}")
        rows.append(latency_row(peers, options, size))
    return Table(
        "Latency",
        "size",
        "half round trip, us",
        names(peers),
        higher_is_better=False,
        rows=tuple(rows),
    )


def bandwidth_row(peers: Sequence[Peer], options: BenchOptions, size: int) -> Row:
    """Windows of messages of ``size`` bytes, in MB/s (10^6 bytes a second)."""
    out, into = allocate_pair(size)
    for peer in peers:
        methods.check_exchange(peer.comm, out, into)
    window, window_bytes = options.window, size * options.window
    return measure_row(
        peers,
        options,
        options.iterations or scaled_count(BANDWIDTH_BYTES_PER_SET, window_bytes, 1, 200),
        lambda peer, count: methods.windowed_stream(peer.comm, peer.waitall, out, window, count),
        lambda seconds: window_bytes / seconds / 1e6,
        size_name(size),
    )


def run_bandwidth(peers: Sequence[Peer], options: BenchOptions, progress: Progress) -> Table:
    """A one-way stream from rank 0 to rank 1 for every size."""
    rows = []
    for size in options.sizes:
        progress(f"bandwidth {size_name(size)}")
        rows.append(bandwidth_row(peers, options, size))
    title = f"Bandwidth, window {options.window}"
    return Table(title, "size", "MB/s", names(peers), higher_is_better=True, rows=tuple(rows))


def run_ring(peers: Sequence[Peer], options: BenchOptions, progress: Progress) -> Table:
    """A token of 8 bytes that passes through all ranks, in microseconds per message."""
    progress("ring")
    size = peers[0].comm.Get_size()
    laps = max(1, options.messages // size)
    token = np.zeros(8, np.uint8)
    for peer in peers:
        methods.check_ring(peer.comm)
    row = measure_row(
        peers,
        options,
        laps,
        lambda peer, count: methods.pass_around_ring(peer.comm, token, count),
        lambda seconds: seconds / size * 1e6,
        f"{size} ranks",
    )
    title = f"Ring, {laps * size} messages of 8 B"
    return Table(title, "ring", "us per message", names(peers), higher_is_better=False, rows=(row,))


def run_matching(peers: Sequence[Peer], options: BenchOptions, progress: Progress) -> Table:
    """Half round trips of 8 B, in microseconds, while other receives or messages wait."""
    rows = []
    out, into = allocate_pair(8)
    for others in (methods.PostedOthers, methods.UnexpectedOthers):
        kind = "posted" if others is methods.PostedOthers else "unexpected"
        for outstanding in options.outstanding:
            progress(f"matching {kind} {outstanding:,}")
            waiting = [others(peer.comm, peer.waitall, outstanding) for peer in peers]
            for peer in peers:
                methods.check_exchange(peer.comm, out, into)
            rows.append(
                measure_row(
                    peers,
                    options,
                    options.iterations or 2_000,
                    lambda peer, count: methods.ping_pong(peer.comm, out, into, count),
                    lambda seconds: seconds / 2 * 1e6,
                    f"{outstanding:,} {kind}",
                )
            )
            for item in waiting:
                item.finish()
    return Table(
        "Matching",
        "others",
        "half round trip of 8 B, us",
        names(peers),
        higher_is_better=False,
        rows=tuple(rows),
    )


def names(peers: Sequence[Peer]) -> tuple[str, ...]:
    """The peers' names in the order of the table."""
    return tuple(peer.name for peer in peers)


PLANS: dict[str, Callable[[Sequence[Peer], BenchOptions, Progress], Table]] = {
    "latency": run_latency,
    "bandwidth": run_bandwidth,
    "ring": run_ring,
    "matching": run_matching,
}
EXACTLY_TWO_RANKS = frozenset({"latency", "bandwidth", "matching"})
