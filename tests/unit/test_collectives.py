"""The schedules of collective operations, among threads that pass arrays, at every number of ranks."""

from __future__ import annotations

import sys
from queue import Queue
from threading import Thread

import numpy as np
import pytest

from mooncake_mpi.collectives.all_gather import all_gather
from mooncake_mpi.collectives.all_reduce import all_reduce
from mooncake_mpi.collectives.all_to_all import all_to_all
from mooncake_mpi.collectives.barrier import barrier
from mooncake_mpi.collectives.broadcast import broadcast
from mooncake_mpi.collectives.gather import gather
from mooncake_mpi.collectives.reduce import reduce
from mooncake_mpi.collectives.reduce_scatter import reduce_scatter
from mooncake_mpi.collectives.scatter import scatter
from mooncake_mpi.collectives.tree import parent_and_children

RANKS = [1, 2, 3, 4, 5, 6, 7, 8, 9]
LENGTHS = [0, 1, 2, 7, 1000, 200_000]
SECONDS = 30


class ThreadPort:
    """Messages are copies in queues, a queue for each pair of ranks."""

    quick = False

    def __init__(self, rank, size, queues):
        self.rank, self.size, self._queues = rank, size, queues

    def send(self, part, peer):
        self._queues[self.rank, peer].put(None if part is None else part.copy())

    def recv(self, part, peer):
        return part, peer

    def wait(self, requests):
        for request in filter(None, requests):
            part, peer = request
            came = self._queues[peer, self.rank].get(timeout=SECONDS)
            if part is None:
                assert came is None
            else:
                assert came.shape == part.shape
                part[...] = came

    def empty_like(self, part):
        return np.full_like(part, 99)

    def copy(self, into, source):
        into[...] = source

    def small_bytes(self, part):
        return 32 << 10

    def reduces_quickly(self, part):
        return self.quick

    def nbytes(self, part):
        return part.nbytes


def run(size, body):
    """What ``body(port)`` gives at each rank; nothing is left in the queues."""
    queues = {(one, other): Queue() for one in range(size) for other in range(size)}
    results, failures = [None] * size, []

    def at_rank(rank):
        try:
            results[rank] = body(ThreadPort(rank, size, queues))
        except Exception as error:  # noqa: BLE001 - raised below
            failures.append((rank, repr(error)))

    threads = [Thread(target=at_rank, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * SECONDS)
    assert not failures
    assert all(queue.empty() for queue in queues.values())
    return results


def values(rank, length):
    return np.arange(length, dtype=np.int64) * (rank + 1) + rank


def add(into, other):
    into += other


def total(size, length):
    return sum(values(rank, length) for rank in range(size))


@pytest.mark.parametrize("size", RANKS)
def test_everybody_leaves_a_barrier_after_everybody_entered(size):
    entered = []

    def body(port):
        entered.append(port.rank)
        barrier(port)
        return len(entered)

    assert run(size, body) == [size] * size


@pytest.mark.parametrize("size", RANKS)
def test_the_tree_reaches_everybody_once(size):
    for root in range(size):
        edges = {rank: parent_and_children(rank, size, root) for rank in range(size)}
        assert edges[root][0] is None
        children = [child for _, given in edges.values() for child in given]
        assert sorted([*children, root]) == list(range(size))
        assert all(edges[child][0] == rank for rank in edges for child in edges[rank][1])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("size", RANKS)
def test_all_reduce_gives_all_the_sum(size, length):
    def body(port):
        part = values(port.rank, length)
        all_reduce(port, part, add)
        return part

    assert all(np.array_equal(part, total(size, length)) for part in run(size, body))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("pieces", [1, 3, 4, 5, 13])
def test_two_ranks_with_quick_reductions_exchange_pieces(length, pieces, monkeypatch):
    monkeypatch.setattr(ThreadPort, "quick", True)
    piece = max(8, 8 * length // pieces)
    monkeypatch.setattr("mooncake_mpi.collectives.all_reduce._PIECE_BYTES", piece)

    def body(port):
        part = values(port.rank, length)
        all_reduce(port, part, add)
        return part

    assert all(np.array_equal(part, total(2, length)) for part in run(2, body))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("size", RANKS)
def test_rooted_operations_move_what_they_say(size, length):
    root = size - 1

    def body(port):
        told = values(port.rank, length)
        broadcast(port, told, root)
        summed = values(port.rank, length)
        reduce(port, summed, add, root)
        parts = [np.zeros(length + rank, np.int64) for rank in range(size)]
        gather(
            port, parts if port.rank == root else [], values(port.rank, length + port.rank), root
        )
        mine = np.zeros(length + port.rank, np.int64)
        scatter(port, mine, parts, root)
        return told, summed, parts, mine

    results = run(size, body)
    assert all(np.array_equal(told, values(root, length)) for told, *_ in results)
    assert np.array_equal(results[root][1], total(size, length))
    for rank in range(size):
        assert np.array_equal(results[root][2][rank], values(rank, length + rank))
        assert np.array_equal(results[rank][3], values(rank, length + rank))


@pytest.mark.parametrize("length", LENGTHS[:-1])
@pytest.mark.parametrize("size", RANKS)
def test_operations_among_all_move_what_they_say(size, length):
    def body(port):
        rank = port.rank
        gathered = [np.zeros(length + other, np.int64) for other in range(size)]
        all_gather(port, gathered, values(rank, length + rank))
        swapped = [np.zeros(length, np.int64) for _ in range(size)]
        all_to_all(port, swapped, [values(rank * size + other, length) for other in range(size)])
        share = np.zeros(length, np.int64)
        reduce_scatter(port, share, [values(rank + other, length) for other in range(size)], add)
        return gathered, swapped, share

    for rank, (gathered, swapped, share) in enumerate(run(size, body)):
        for other in range(size):
            assert np.array_equal(gathered[other], values(other, length + other))
            assert np.array_equal(swapped[other], values(other * size + rank, length))
        assert np.array_equal(share, sum(values(rank + other, length) for other in range(size)))


def test_the_schedules_need_no_torch():
    names = [name for name in sys.modules if name.startswith("mooncake_mpi.collectives")]
    assert names
    assert not any(hasattr(sys.modules[name], "torch") for name in names)
