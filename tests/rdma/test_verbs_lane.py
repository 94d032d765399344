"""The verbs lane on real queue pairs: messages arrive once and whole, also while cables are pulled."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hosts import change_rail
from subject import MPI

from mooncake_mpi import _native


def pattern(seed: int, nbytes: int) -> np.ndarray:
    """Bytes that no other seed has."""
    return np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)


def exchange(comm, nbytes: int, seed: int) -> None:
    """Both ranks send and receive at once, and every byte is compared."""
    rank = comm.Get_rank()
    peer = 1 - rank
    received = np.zeros(nbytes + 8, np.uint8)
    comm.Sendrecv(pattern(seed + rank, nbytes), peer, seed, received[:nbytes], peer, seed)
    assert np.array_equal(received[:nbytes], pattern(seed + peer, nbytes))
    assert not received[nbytes:].any()


@pytest.mark.mpi(min_size=2)
def test_messages_of_every_size_arrive_whole_and_large_ones_are_read(comm):
    before = _native.stats()["remote_reads"]
    for seed, nbytes in enumerate((0, 1, 8, 85, 4096, 8192, 8193, 300_001, 1 << 20)):
        exchange(comm, nbytes, 10 * seed)
    assert _native.stats()["remote_reads"] - before >= 3
    assert not _native.verbs_trouble()


@pytest.mark.mpi(min_size=2)
def test_many_messages_are_under_way_in_both_directions(comm):
    rank = comm.Get_rank()
    peer = 1 - rank
    sizes = [16, 5000, 20_000] * 20
    received = [np.zeros(size, np.uint8) for size in sizes]
    requests = [comm.Irecv(array, peer, tag) for tag, array in enumerate(received)]
    sent = [pattern(1000 * rank + tag, size) for tag, size in enumerate(sizes)]
    requests += [comm.Isend(array, peer, tag) for tag, array in enumerate(sent)]
    MPI.Request.Waitall(requests)
    for tag, array in enumerate(received):
        assert np.array_equal(array, pattern(1000 * peer + tag, array.size)), tag


@pytest.mark.lab
@pytest.mark.mpi(min_size=2)
def test_a_cable_that_is_pulled_among_messages_costs_nothing_and_is_used_again(comm):
    exchange(comm, 8, 500)
    for rail in (0, 1):
        exchange_during(comm, "down", rail, 600 + 100 * rail)
        exchange_during(comm, "up", rail, 650 + 100 * rail)
        time.sleep(3)  # both ends connect this rail again before the other one goes


def exchange_during(comm, verb: str, rail: int, seed: int) -> None:
    """Large messages both ways from before a rail changes until after it has."""
    change = threading.Thread(target=change_rail, args=(verb, rail))
    over = np.zeros(1, np.uint8)
    turn = 0
    while not over[0]:
        exchange(comm, 300_000, seed + turn)
        turn += 1
        if comm.Get_rank() == 0:
            if turn == 1:
                change.start()
            over[0] = turn > 1 and not change.is_alive()
            comm.Send(over, 1)
        else:
            comm.Recv(over, 0)
    assert turn > 1
    exchange(comm, 100_000, seed + turn)
