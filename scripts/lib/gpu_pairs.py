"""The figures of scripts/gpu bench --all-pairs: a rank for each GPU, all of them talking at once.

Beside NCCL in the same run, where there is one. A figure for a pair is of one direction.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING

from gpu_figures import MIB, Figures, forget
from mpi4py import MPI as library  # noqa: N811

from mooncake_mpi import MPI
from mooncake_mpi.bench import methods
from mooncake_mpi.bench.options import BenchOptions, size_name
from mooncake_mpi.bench.peers import open_peers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mooncake_mpi.bench.peers import Peer

TAG = 5


class Exchange:
    """Messages to some ranks and from some, a window of each, as often as asked."""

    def __init__(self, peer: Peer, size: int, window: int = 1) -> None:
        self.peer, self.window = peer, window
        memory = peer.memory
        self.out = peer.adapt(memory.new(size))
        self.intos = [peer.adapt(memory.new(size)) for _ in range(peer.comm.Get_size())]

    def run(self, to: Iterable[int], sources: Iterable[int], count: int) -> float:
        """Seconds for ``count`` of them."""
        comm, window = self.peer.comm, range(self.window)
        start = methods.perf_counter()
        for _ in range(count):
            requests = [comm.Irecv(self.intos[rank], rank, TAG) for rank in sources for _ in window]
            requests += [comm.Isend(self.out, rank, TAG) for rank in to for _ in window]
            self.peer.waitall(requests)
        return methods.perf_counter() - start


class Pairs:
    """The figures, on any number of ranks."""

    def __init__(self, figures: Figures, peers: tuple[Peer, ...]) -> None:
        self.figures, self.peers = figures, peers
        self.rank, self.ranks = figures.rank, figures.world.Get_size()
        self.others = [(self.rank + step) % self.ranks for step in range(1, self.ranks)]

    def measure(self, what, size, window, to, sources, pairs) -> None:
        """GB/s of a direction of ``pairs`` of them for each rank that sends the most."""
        exchanges = {peer.name: Exchange(peer, size, window) for peer in self.peers}
        self.figures.measure(
            f"{what} {size_name(size)}, {window} at once", "GB/s", self.peers,
            lambda peer, count: exchanges[peer.name].run(to, sources, count),
            lambda seconds: size * window * pairs / seconds / 1e9,
        )  # fmt: skip
        forget(self.peers)

    def every_pair_at_once(self) -> None:
        """What each rank sends to, and gets from, all others together."""
        for size, window in ((256 * MIB, 1), (MIB, 16)):
            self.measure("all to all,", size, window, self.others, self.others, self.ranks - 1)

    def ring(self) -> None:
        """Each rank to the next one."""
        right, left = (self.rank + 1) % self.ranks, (self.rank - 1) % self.ranks
        for size, window in ((256 * MIB, 1), (MIB, 16)):
            self.measure("ring,", size, window, [right], [left], 1)

    def one_and_all(self) -> None:
        """Rank 0 to all others, and all others to it."""
        everybody = range(1, self.ranks)
        first = self.rank == 0
        for size, window in ((256 * MIB, 1), (MIB, 16)):
            self.measure("one to all,", size, window, everybody if first else [],
                         [] if first else [0], self.ranks - 1)  # fmt: skip
            self.measure("all to one,", size, window, [] if first else [0],
                         everybody if first else [], self.ranks - 1)  # fmt: skip

    def any_source(self) -> None:
        """All others to rank 0, which takes them as they come; NCCL has no such thing."""
        size, window, (ours, *_) = MIB, 16, self.peers
        exchange = Exchange(ours, size)

        def trial(peer: Peer, count: int) -> float:
            comm, start = peer.comm, methods.perf_counter()
            for _ in range(count):
                if self.rank:
                    sends = [comm.Isend(exchange.out, 0, TAG) for _ in range(window)]
                    peer.waitall(sends)
                    continue
                number = window * (self.ranks - 1)
                into = exchange.intos
                peer.waitall(
                    [comm.Irecv(into[i % self.ranks], MPI.ANY_SOURCE, TAG) for i in range(number)]
                )
            return methods.perf_counter() - start

        self.figures.measure(
            f"all to one, any source, {size_name(size)}, {window} at once", "GB/s", (ours,), trial,
            lambda seconds: size * window * (self.ranks - 1) / seconds / 1e9,
        )  # fmt: skip

    def pair_by_pair(self) -> None:
        """Each pair alone: 8 bytes there and back, and one way; the least, the median, the most."""
        world = self.figures.world
        for what, unit, size, window in (
            ("half round trip", "us", 8, 0),
            ("one way", "GB/s", MIB, 64),
            ("one way", "GB/s", 256 * MIB, 4),
        ):
            for peer in self.peers:
                if not self.figures.has_time():
                    return
                buffer, back = (peer.adapt(peer.memory.new(size)) for _ in range(2))
                found = []
                for first in range(self.ranks):
                    for second in range(self.ranks):
                        world.Barrier()
                        if first == second or self.rank not in {first, second}:
                            continue
                        found += self.of_pair(peer, (buffer, back), first, second, size, window)
                every = sorted(chain.from_iterable(world.allgather(found)))
                least, middle, most = every[0], median(every), every[-1]
                at_once = f", {window} at once" if window else ""
                self.figures.say(
                    f"pair by pair, {what} {size_name(size)}{at_once}: {peer.name} "
                    f"{least:,.4g} {middle:,.4g} {most:,.4g} {unit}"
                )
            forget(self.peers)

    def of_pair(self, peer, buffers, first, second, size, window) -> list[float]:
        """One figure, at the first of the two."""
        partner = second if self.rank == first else first
        is_first = self.rank == first
        samples = []
        for _ in range(4):  # the first is for what is made then
            if window:
                seconds = methods.windowed_stream(
                    peer, buffers[0], window, partner, is_first, max(1, 16 * MIB // size)
                )
                samples.append(size * window * max(1, 16 * MIB // size) / seconds / 1e9)
            else:
                count = 1000
                seconds = methods.ping_pong(peer.comm, *buffers, partner, is_first, count)
                samples.append(seconds / count / 2 * 1e6)
        return [median(samples[1:])] if is_first else []


def main() -> int:
    """All of them; 0 if none failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True, help="where, without .txt and .json")
    parser.add_argument("--seconds", type=float, default=100)
    world = library.COMM_WORLD
    figures = Figures(world, parser.parse_args())
    options = BenchOptions(memory="cupy", device="cuda", against=("cupy-nccl",))
    with open_peers(world, options) as peers:
        figures.say(f"{world.Get_size()} ranks: {', '.join(peer.name for peer in peers)}")
        pairs = Pairs(figures, peers)
        for plan in (
            pairs.pair_by_pair,
            pairs.every_pair_at_once,
            pairs.ring,
            pairs.one_and_all,
            pairs.any_source,
        ):
            plan()
    if world.Get_rank() == 0:
        print(f"== {len(figures.lines) - 1} figures", flush=True)
    return 0


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(1)
