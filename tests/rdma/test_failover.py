"""Rails that fail and come back while messages are under way."""

from __future__ import annotations

import subprocess
import time

import numpy as np
import pytest
from barrier import quiet_barrier
from hosts import RAILS, RANK, RDMA_LAB, bytes_sent, change_rail
from mpi4py import MPI

from mooncake_mpi import errors

pytestmark = [pytest.mark.lab, pytest.mark.mpi(min_size=2)]
LARGE = 1 << 20
STOP = 9


def pattern(size, seed):
    return np.random.default_rng(seed).integers(0, 256, size, "u1")


def exchange_until(comm, finished):
    """Both ranks send each other messages, every byte checked, until rank 0 says that it is over.

    The number of messages each way.
    """
    other, count, over = 1 - RANK, 0, False
    while not over:
        size = (0, 17, 5_000, 70_000, LARGE)[count % 5]
        buffer = np.zeros(size, "u1")
        receive = comm.Irecv(buffer, other, 1)
        comm.Send(pattern(size, 2 * count + RANK), other, 1)
        receive.Wait()
        assert (buffer == pattern(size, 2 * count + other)).all(), count
        count += 1
        if RANK == 0:
            over = finished()
            comm.send(over, 1, STOP)
        else:
            over = comm.recv(source=0, tag=STOP)
    return count


def rail_is_used(comm, rail):
    """Whether a large message takes this rail too."""
    before = bytes_sent(rail, "a")
    exchange_until(comm, lambda: True)
    for _ in range(4):
        if RANK == 0:
            comm.Send(np.ones(LARGE, "u1"), 1, 2)
        else:
            comm.Recv(np.zeros(LARGE, "u1"), 0, 2)
    quiet_barrier()
    return comm.bcast(bytes_sent(rail, "a") - before > LARGE // 2)


@pytest.mark.parametrize("rail", RAILS)
def test_no_byte_is_lost_when_a_rail_fails_and_it_is_used_again_afterwards(comm, rail):
    assert rail_is_used(comm, rail)
    flapping = None
    if RANK == 0:
        commands = f"'{RDMA_LAB}' down {rail} && sleep 1 && '{RDMA_LAB}' up {rail} && sleep 1"
        flapping = subprocess.Popen(["/bin/bash", "-c", commands])
    assert exchange_until(comm, lambda: flapping.poll() is not None) > 0
    if RANK == 0:
        assert flapping.returncode == 0
    deadline = time.monotonic() + 60
    while not rail_is_used(comm, rail):
        assert time.monotonic() < deadline, "the rail is up and not used"


def test_lost_packets_are_sent_again(comm):
    if RANK == 0:
        change_rail("netem", 0, "loss", "1%")
    try:
        quiet_barrier()
        ends = time.monotonic() + 3
        exchange_until(comm, lambda: time.monotonic() > ends)
    finally:
        quiet_barrier()
        if RANK == 0:
            change_rail("netem", 0, "off")


@pytest.mark.last
def test_without_any_rail_pending_requests_fail_and_name_the_peer(comm):
    exchange_until(comm, lambda: True)
    quiet_barrier()
    if RANK == 0:
        change_rail("down", 0)
        change_rail("down", 1)
    pending = comm.Irecv(np.zeros(8, "u1"), 1 - RANK, 1)
    with pytest.raises(MPI.Exception, match=f"rank {1 - RANK} .*no path") as caught:
        pending.Wait()
    assert caught.value.Get_error_class() == errors.error_class("ERR_PROC_FAILED")
    with pytest.raises(MPI.Exception):
        comm.Send(np.zeros(LARGE, "u1"), 1 - RANK, 1)
    # to itself, a rank still sends
    comm.sendrecv("me", RANK, source=RANK)
    if RANK == 0:
        change_rail("up", 0)
        change_rail("up", 1)
