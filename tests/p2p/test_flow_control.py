"""Senders that are faster than their receiver are slowed down; nothing is lost and nothing deadlocks."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import AGAINST_MPI, MPI, quiet_barrier, ring_of

PAGE_BYTES = 4096


def resident_bytes():
    """Private memory of this process: shared rings do not count as the receiver's."""
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * PAGE_BYTES


@pytest.mark.mpi(min_size=2)
def test_a_flood_to_a_sleeping_receiver_arrives_in_order_with_bounded_memory(comm):
    count, payload = 200_000, 256
    if comm.rank == 0:
        message = np.zeros(payload // 8, np.int64)
        send = comm.Send
        for turn in range(count):
            message[0] = turn
            send(message, 1, 5)
    elif comm.rank == 1:
        into = np.zeros(payload // 8, np.int64)
        before = resident_bytes()
        time.sleep(0.5)
        comm.Probe(0, 5)
        time.sleep(0.5)
        grown = resident_bytes() - before
        recv = comm.Recv
        for turn in range(count):
            recv(into, 0, 5)
            assert into[0] == turn
        if not AGAINST_MPI:
            assert grown < 32 << 20, f"{grown >> 20} MiB for a flood of {count * payload >> 20} MiB"
            assert resident_bytes() - before < 48 << 20


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("size", [8, 3000])
def test_many_isends_are_received_in_reverse_order_of_their_tags(comm, size):
    count = 10_000
    if comm.rank == 0:
        messages = np.zeros((count, size), np.uint8)
        messages[:, :4] = np.arange(count, dtype=np.uint32).view(np.uint8).reshape(count, 4)
        MPI.Request.Waitall([comm.Isend(messages[tag], 1, tag) for tag in range(count)])
    elif comm.rank == 1:
        into = np.zeros(size, np.uint8)
        for tag in reversed(range(count)):
            comm.Recv(into, 0, tag)
            assert int(into[:4].view(np.uint32)[0]) == tag


@pytest.mark.mpi(min_size=2)
def test_the_last_of_a_flood_can_be_received_first(comm):
    count = 20_000
    if comm.rank == 0:
        requests = [comm.Isend(np.full(50, turn), 1, 1) for turn in range(count)]
        requests.append(comm.Isend(np.full(50, -1), 1, 2))
        MPI.Request.Waitall(requests)
    elif comm.rank == 1:
        into = np.zeros(50, np.int64)
        comm.Recv(into, 0, 2)
        assert into[0] == -1
        for turn in range(count):
            comm.Recv(into, 0, 1)
            assert into[0] == turn


def test_all_ranks_flood_each_other_and_then_receive(comm):
    each = 2000
    sends = [
        comm.Isend(np.full(30, turn), dest, comm.rank)
        for turn in range(each)
        for dest in range(comm.size)
    ]
    into = np.zeros(30, np.int64)
    for source in reversed(range(comm.size)):
        for turn in range(each):
            comm.Recv(into, source, source)
            assert into[0] == turn
    MPI.Request.Waitall(sends)


def test_rendezvous_messages_pile_up_without_deadlock(comm):
    dest, source = ring_of(comm)
    count, size = 300, 100_000
    out = pattern(size, 1)
    sends = [comm.Isend(out, dest, turn) for turn in range(count)]
    into = np.zeros(size, np.uint8)
    for turn in reversed(range(count)):
        comm.Recv(into, source, turn)
        assert is_pattern(into, 1)
    MPI.Request.Waitall(sends)


@pytest.mark.mpi(min_size=2)
def test_a_flood_of_buffers_does_not_stop_messages_from_other_ranks(comm):
    if comm.rank == 0:
        for turn in range(5000):
            comm.Send(np.full(100, turn), 1, 1)
    if comm.rank == comm.size - 1:
        comm.Send(np.full(1, 42), 1, 2) if comm.rank != 1 else None
    if comm.rank == 1:
        into = np.zeros(100, np.int64)
        if comm.size > 2:
            comm.Recv(into, comm.size - 1, 2)
            assert into[0] == 42
        for turn in range(5000):
            comm.Recv(into, 0, 1)
            assert into[0] == turn


@pytest.mark.ours
@pytest.mark.mpi(min_size=2)
def test_after_a_flood_the_receivers_memory_does_not_keep_growing(comm):
    def flood():
        if comm.rank == 0:
            for turn in range(20_000):
                comm.Send(np.full(64, turn), 1, 1)
        elif comm.rank == 1:
            time.sleep(0.1)
            into = np.zeros(64, np.int64)
            for _ in range(20_000):
                comm.Recv(into, 0, 1)

    flood()
    quiet_barrier()
    before = resident_bytes()
    for _ in range(3):
        flood()
        quiet_barrier()
    assert resident_bytes() - before < 8 << 20
