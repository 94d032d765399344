"""The verbs lane on real queue pairs: messages arrive once and whole, also while cables are pulled."""

from __future__ import annotations

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
def test_a_cable_that_is_pulled_in_mid_message_costs_nothing_and_is_used_again(comm):
    rank = comm.Get_rank()
    nbytes = 3 << 20
    exchange(comm, 8, 500)
    for turn, rail in enumerate((0, 1)):
        data = pattern(600 + turn, nbytes)
        if rank == 0:
            request = comm.Isend(data, 1, turn)
            time.sleep(0.05)
            change_rail("down", rail)
            request.Wait()
        else:
            received = np.zeros(nbytes, np.uint8)
            comm.Recv(received, 0, turn)
            assert np.array_equal(received, data)
        exchange(comm, 100_000, 700 + 10 * turn)
        if rank == 0:
            change_rail("up", rail)
        exchange(comm, 8, 800 + 10 * turn)
        time.sleep(3)  # both ends connect this rail again before the other one goes
        exchange(comm, 100_000, 900 + 10 * turn)
