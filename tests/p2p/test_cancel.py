"""A receive that has not matched can be cancelled; one that has cannot."""

from __future__ import annotations

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of


@pytest.mark.parametrize("wildcard", [False, True])
def test_a_cancelled_receive_says_so_and_leaves_the_next_message_to_others(comm, wildcard):
    dest, source = ring_of(comm)
    first, second = np.zeros(8, np.uint8), np.zeros(8, np.uint8)
    arguments = (MPI.ANY_SOURCE, MPI.ANY_TAG) if wildcard else (source, 1)
    cancelled = comm.Irecv(first, *arguments)
    kept = comm.Irecv(second, *arguments)
    cancelled.Cancel()
    status = MPI.Status()
    cancelled.Wait(status)
    assert status.Is_cancelled() is True
    quiet_barrier()
    send = comm.Isend(pattern(8, 2), dest, 1)
    kept.Wait(status)
    assert status.Is_cancelled() is False
    assert is_pattern(second, 2)
    assert not first.any()
    send.Wait()


def test_cancelling_a_matched_receive_changes_nothing(comm):
    dest, source = ring_of(comm)
    into = np.zeros(8, np.uint8)
    receive = comm.Irecv(into, source, 1)
    send = comm.Isend(pattern(8, 1), dest, 1)
    while not receive.Get_status():
        pass
    receive.Cancel()
    status = MPI.Status()
    receive.Wait(status)
    assert status.Is_cancelled() is False
    assert is_pattern(into, 1)
    send.Wait()


def test_the_middle_of_many_receives_can_be_cancelled(comm):
    dest, source = ring_of(comm)
    into = np.zeros((100, 8), np.uint8)
    receives = [comm.Irecv(row, source, 1) for row in into]
    for receive in receives[1::2]:
        receive.Cancel()
    statuses = [MPI.Status() for _ in receives[1::2]]
    MPI.Request.Waitall(receives[1::2], statuses)
    assert all(status.Is_cancelled() for status in statuses)
    quiet_barrier()
    sends = [comm.Isend(np.full(8, turn, np.uint8), dest, 1) for turn in range(50)]
    MPI.Request.Waitall(receives[0::2])
    assert (into[0::2] == np.arange(50, dtype=np.uint8)[:, None]).all()
    assert not into[1::2].any()
    MPI.Request.Waitall(sends)


@pytest.mark.parametrize("size", [8, 300_000])
def test_cancelling_a_send_still_delivers_or_withdraws_it_whole(comm, size):
    """MPI-4 deprecates it: either outcome is right, half of one is not."""
    dest, source = ring_of(comm)
    request = comm.Isend(pattern(size, 1), dest, 1)
    request.Cancel()
    quiet_barrier()
    following = comm.Isend(pattern(size, 2), dest, 1)
    into = np.zeros(size, np.uint8)
    comm.Recv(into, source, 1)
    if is_pattern(into, 1):
        comm.Recv(into, source, 1)
    assert is_pattern(into, 2)
    MPI.Request.Waitall([request, following])


def test_an_object_receive_can_be_cancelled(comm):
    dest, source = ring_of(comm)
    receive = comm.irecv(source=source, tag=1)
    receive.cancel()
    status = MPI.Status()
    receive.Wait(status)
    assert status.Is_cancelled()
    quiet_barrier()
    send = comm.isend("next", dest, 1)
    assert comm.recv(source=source, tag=1) == "next"
    send.wait()


@pytest.mark.ours
@pytest.mark.parametrize("size", [8, 1_000_000])
@pytest.mark.parametrize("method", ["Isend", "Issend"])
def test_a_cancelled_send_to_oneself_ends(comm, method, size):
    request = getattr(comm, method)(pattern(size, 1), comm.rank, 1)
    request.Cancel()
    status = MPI.Status()
    request.Wait(status)
    if not status.Is_cancelled():  # sent after all: then it is there
        comm.Recv(np.zeros(size, np.uint8), comm.rank, 1)
    assert not comm.Iprobe(comm.rank, 1)
