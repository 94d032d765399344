"""One benchmark run: who is compared, with which options, and how a row is measured.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from mooncake_mpi.bench import checks
from mooncake_mpi.bench.memories import Buffer
from mooncake_mpi.bench.sampling import Trial, alternate, split_count, statistics_of
from mooncake_mpi.bench.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpi4py import MPI

    from mooncake_mpi.bench.options import BenchOptions
    from mooncake_mpi.bench.peers import Peer
    from mooncake_mpi.bench.progress import Progress

#: Seconds that one peer measures before it is the next one's turn.
TURN_SECONDS = 0.3

Pairs = dict[str, tuple[Buffer, Buffer]]


def scaled_count(bytes_per_set: int, bytes_per_operation: int, least: int, most: int) -> int:
    """Operations that move about ``bytes_per_set``, within ``[least, most]``."""
    return max(least, min(most, bytes_per_set // max(1, bytes_per_operation)))


def count_in(seconds: float, each_seconds: float, least: int, most: int) -> int:
    """Operations of ``each_seconds`` that fit into ``seconds``, within ``[least, most]``."""
    return max(least, min(most, int(seconds / max(each_seconds, 1e-9))))


@dataclass(frozen=True)
class Session:
    """The compared peers, ours first, over the MPI library's own communicator ``world``."""

    world: MPI.Intracomm
    peers: tuple[Peer, ...]
    options: BenchOptions
    progress: Progress

    @property
    def rank(self) -> int:
        """This process's rank."""
        return int(self.world.Get_rank())

    @property
    def size(self) -> int:
        """The number of ranks."""
        return int(self.world.Get_size())

    @property
    def is_first(self) -> bool:
        """Whether this rank is of the lower half, which sends first."""
        return self.rank < self.size // 2

    @property
    def partner(self) -> int:
        """The rank at the same place of the other half, as in osu_multi_lat."""
        half = self.size // 2
        return self.rank + half if self.is_first else self.rank - half

    @contextmanager
    def buffers(self, size_bytes: int) -> Iterator[Pairs]:
        """A send and a receive buffer for each peer by name, checked to carry every byte.

        Peers with the same memory share the buffers: none has luckier pages than another.
        """
        arrays = {
            peer.memory: (peer.memory.new(size_bytes), peer.memory.new(size_bytes))
            for peer in self.peers
        }
        pairs = {}
        for peer in self.peers:
            out, into = (
                Buffer(peer.memory, array, peer.adapt(array), size_bytes)
                for array in arrays[peer.memory]
            )
            checks.check_exchange(peer, out, into, self.partner, self.is_first)
            pairs[peer.name] = out, into
        try:
            yield pairs
        finally:
            self.world.Barrier()
            for memory, pair in arrays.items():
                for array in pair:
                    memory.free(array)

    def measure(
        self,
        label: str,
        trial: Callable[[Peer, int], float],
        quantity: Callable[[float], float],
        most: int,
        *,
        combine: Callable[[Sequence[float]], float] | None = None,
        size_bytes: int | None = None,
    ) -> Row:
        """One row: every peer's trial in turn.

        Args:
            label: the row's first column.
            trial: seconds for a number of operations of a peer.
            quantity: from seconds per operation to the table's unit.
            most: operations in a turn, fewer where a peer would take too long over them.
            combine: from the values of the lower half's ranks to one; ``None`` for rank 0's.
            size_bytes: the place of the row on a plot's axis.
        """

        def sample(peer: Peer, count: int) -> float:
            return quantity(trial(peer, count) / count)

        def turn(peer: Peer) -> Trial:
            count = self.turn_count(partial(trial, peer), most)
            return Trial(peer.name, partial(sample, peer), split_count(count), self.warmup(count))

        samples = alternate(
            [turn(peer) for peer in self.peers], self.before_turn, self.options.repeats
        )
        columns = []
        for peer in self.peers:
            values = samples[peer.name]
            if combine is not None:
                of_ranks = self.world.allgather(values)[: self.size // 2]
                values = [combine(column) for column in zip(*of_ranks, strict=True)]
            columns.append(statistics_of(values))
        return Row(label, tuple(columns), size_bytes)

    def before_turn(self) -> None:
        """What happens between two turns: the bar moves on, then all ranks start together."""
        self.progress.advance()
        self.world.Barrier()

    def warmup(self, count: int) -> int:
        """Uncounted operations in front of ``count``."""
        return max(1, count // 10) if self.options.warmup is None else self.options.warmup

    def turn_count(self, measure: Callable[[int], Any], most: int) -> int:
        """Operations of one turn: as asked for, else as many as fit into the turn; collective."""
        if self.options.iterations is not None:
            return self.options.iterations
        pilot = max(1, most // 100)
        self.world.Barrier()
        start = perf_counter()
        measure(pilot)
        each_seconds = (perf_counter() - start) / pilot
        return int(self.world.bcast(count_in(TURN_SECONDS, each_seconds, min(5, most), most)))
