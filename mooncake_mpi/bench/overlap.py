"""How much of a large transfer hides behind computation, by OSU's formula.

Called in the benchmark's one thread, without a lock.

Rank 0 starts a transfer, computes for as long as the transfer alone would take, and waits for it:
``100 * (1 - (total - computation) / transfer alone)`` percent were hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import repeat
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mooncake_mpi.bench.methods import ACK_TAG, DATA_TAG
from mooncake_mpi.bench.options import MIB, BenchOptions, size_name
from mooncake_mpi.bench.sampling import Trial, alternate, statistics_of
from mooncake_mpi.bench.session import scaled_count
from mooncake_mpi.bench.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mooncake_mpi.bench.memories import Buffer
    from mooncake_mpi.bench.peers import Peer
    from mooncake_mpi.bench.session import Session

BYTES_PER_SAMPLE = 64 * MIB
SAMPLES_PER_TURN = 3
WARMUP = 5  # transfers before each series: cores that were idle begin slowly
CALIBRATION_SECONDS = 0.01


@dataclass(frozen=True)
class Case:
    """One row: what rank 0 starts (``Isend`` or ``Irecv``), and what it computes meanwhile."""

    size_bytes: int
    call: str
    compute: str


def compute_numpy(loops: int) -> None:
    """Square roots of an array that stays in the L1 cache; NumPy releases the GIL."""
    values = np.ones(2048)
    for _ in repeat(None, loops):
        np.sqrt(values, values)


def compute_python(loops: int) -> None:
    """Integer arithmetic in the interpreter, which holds the GIL."""
    value = 1
    for _ in repeat(None, loops * 50):
        value = value * 3 & 0xFFFF


COMPUTATIONS: dict[str, Callable[[int], None]] = {
    "numpy": compute_numpy,
    "python": compute_python,
}
COMPUTATION_NAMES = {"numpy": "NumPy", "python": "Python"}


def cases(options: BenchOptions) -> Sequence[Case]:
    """Every size, sent and received, with each computation."""
    return [
        Case(size, call, compute)
        for size in options.sizes
        for call in ("Isend", "Irecv")
        for compute in options.compute
    ]


def label(case: Case) -> str:
    """For example ``"16 MiB Isend, NumPy"``."""
    return f"{size_name(case.size_bytes)} {case.call}, {COMPUTATION_NAMES[case.compute]}"


def hidden_percent(alone: float, compute: float, total: float) -> float:
    """OSU's formula, within 0 and 100; times in one unit, ``alone`` positive."""
    return max(0.0, min(100.0, 100 * (1 - (total - compute) / alone)))


def seconds_per_loop(compute: Callable[[int], None]) -> float:
    """What one loop takes on this core now."""
    loops = 1
    while True:
        start = perf_counter()
        compute(loops)
        seconds = perf_counter() - start
        if seconds >= CALIBRATION_SECONDS:
            return seconds / loops
        loops *= 2


def transfer(
    peer: Peer, buffer: Any, *, sends: bool, compute: Callable[[int], None], loops: int
) -> float:
    """Seconds from the start of a transfer until it has completed, ``loops`` of work in between.

    The two ranks shake hands first, so that neither waits for the other's last work.
    """
    comm = peer.comm
    partner = 1 - comm.Get_rank()
    token = peer.adapt(np.zeros(1, np.uint8))
    if partner:
        comm.Send(token, partner, ACK_TAG)
        comm.Recv(token, partner, ACK_TAG)
    else:
        comm.Recv(token, partner, ACK_TAG)
        comm.Send(token, partner, ACK_TAG)
    start_transfer = comm.Isend if sends else comm.Irecv
    start = perf_counter()
    request = start_transfer(buffer, partner, DATA_TAG)
    if loops:
        compute(loops)
    peer.waitall([request])
    return perf_counter() - start


def sample(
    session: Session, case: Case, pairs: dict[str, tuple[Buffer, Buffer]], peer: Peer, count: int
) -> float:
    """Percent hidden, of the medians of ``count`` transfers alone and ``count`` with work.

    A few uncounted ones go before each, as in OSU's benchmarks.
    """
    is_measured = session.rank == 0
    sends = is_measured == (case.call == "Isend")
    compute = COMPUTATIONS[case.compute]
    buffer = pairs[peer.name][0 if sends else 1].carrier
    run = partial(transfer, peer, buffer, sends=sends, compute=compute)

    def median_of_transfers(loops: int) -> float:
        seconds = [run(loops=loops) for _ in repeat(None, WARMUP + count)]
        return median(seconds[WARMUP:])

    alone = median_of_transfers(0)
    loops = max(1, round(alone / seconds_per_loop(compute))) if is_measured else 0
    session.world.Barrier()
    computations = []
    if is_measured:
        for _ in repeat(None, count):
            start = perf_counter()
            compute(loops)
            computations.append(perf_counter() - start)
    session.world.Barrier()
    total = median_of_transfers(loops)
    return hidden_percent(alone, median(computations), total) if is_measured else 0.0


def row(session: Session, case: Case) -> Row:
    """One case for every peer."""
    options = session.options
    count = options.iterations or scaled_count(BYTES_PER_SAMPLE, case.size_bytes, 5, 50)
    with session.buffers(case.size_bytes) as pairs:
        turns = [
            Trial(
                peer.name,
                partial(sample, session, case, pairs, peer),
                [count] * SAMPLES_PER_TURN,
                0,
            )
            for peer in session.peers
        ]
        samples = alternate(turns, session.before_turn, options.repeats)
    statistics = tuple(statistics_of(samples[peer.name]) for peer in session.peers)
    return Row(label(case), statistics)
