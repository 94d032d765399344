"""What every other test here stands on: two rails whose packets cross a cable that can be pulled.

Rank 0 sits at end a of both rails, rank 1 at end b.
"""

from __future__ import annotations

import pytest
from barrier import quiet_barrier
from hosts import RAILS, RANK, bytes_sent, change_rail, device_names
from mpi4py import MPI
from pyverbs import enums
from queue_pair import SUCCESS, QueuePair, exchange

pytestmark = [pytest.mark.lab, pytest.mark.mpi(min_size=2)]
WORLD = MPI.COMM_WORLD
SIZE = 50_000


@pytest.fixture
def connect():
    """Makes a queue pair on a rail and connects it with that of the other rank."""
    made = []

    def make(rail):
        pair = QueuePair(device_names(RANK)[rail], SIZE)
        made.append(pair)
        return pair, exchange(WORLD, pair, 1 - RANK)

    yield make
    for pair in made:
        pair.close()
    quiet_barrier()


def send_across(pair, byte):
    """Rank 0 sends, rank 1 checks what arrived; each rank's completion status."""
    if RANK == 0:
        pair.memory.write(byte * SIZE, SIZE)
        quiet_barrier()
        pair.post(enums.IBV_WR_SEND, SIZE)
        return pair.completion()
    pair.receive(SIZE)
    quiet_barrier()
    assert pair.arrival() == (0, SIZE)
    assert pair.memory.read(SIZE, 0) == byte * SIZE
    return SUCCESS


@pytest.mark.parametrize("rail", RAILS)
def test_a_message_crosses_its_own_rail(connect, rail):
    pair, _ = connect(rail)
    before = {each: bytes_sent(each, "a") for each in RAILS}
    assert send_across(pair, b"\x5a") == SUCCESS
    quiet_barrier()
    assert bytes_sent(rail, "a") - before[rail] >= SIZE
    assert bytes_sent(1 - rail, "a") - before[1 - rail] < SIZE


@pytest.mark.parametrize("rail", RAILS)
def test_memory_of_the_other_side_is_written_and_read(connect, rail):
    pair, peer = connect(rail)
    pair.memory.write(bytes([65 + RANK]) * SIZE, SIZE)
    quiet_barrier()
    if RANK == 0:
        pair.post(enums.IBV_WR_RDMA_READ, SIZE, peer)
        assert pair.completion() == SUCCESS
        assert pair.memory.read(SIZE, 0) == b"B" * SIZE
        pair.memory.write(b"C" * SIZE, SIZE)
        pair.post(enums.IBV_WR_RDMA_WRITE, SIZE, peer)
        assert pair.completion() == SUCCESS
    quiet_barrier()
    assert pair.memory.read(SIZE, 0) == b"C" * SIZE


def test_a_wrong_key_is_refused_and_the_memory_stays(connect):
    pair, peer = connect(0)
    other, _ = connect(0)
    pair.memory.write(b"k" * SIZE, SIZE)
    quiet_barrier()
    if RANK == 0:
        pair.post(enums.IBV_WR_RDMA_WRITE, SIZE, remote=(peer.memory, peer.rkey ^ 0x5500))
        assert pair.completion() == enums.IBV_WC_REM_ACCESS_ERR
    quiet_barrier()
    assert pair.memory.read(SIZE, 0) == b"k" * SIZE
    assert send_across(other, b"\x33") == SUCCESS


def test_a_rail_that_is_down_loses_its_own_messages_only(connect):
    broken, peer = connect(1)
    whole, _ = connect(0)
    if RANK == 0:
        change_rail("down", 1)
    try:
        quiet_barrier()
        if RANK == 0:
            broken.post(enums.IBV_WR_RDMA_WRITE, SIZE, peer)
            assert broken.completion() != SUCCESS
        assert send_across(whole, b"\x11") == SUCCESS
    finally:
        if RANK == 0:
            change_rail("up", 1)
        quiet_barrier()
    again, _ = connect(1)
    assert send_across(again, b"\x22") == SUCCESS


def test_a_rail_that_loses_packets_still_delivers(connect):
    pair, _ = connect(0)
    if RANK == 0:
        change_rail("netem", 0, "loss", "2%")
    try:
        assert send_across(pair, b"\x77") == SUCCESS
    finally:
        if RANK == 0:
            change_rail("netem", 0, "off")
        quiet_barrier()
