"""Every buffer method delivers the bytes, to itself, to a neighbour, in each mode."""

from __future__ import annotations

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of, wait_until

SIZES = [0, 1, 8, 1000, 70_000, 1_500_000]
NONBLOCKING_SENDS = ["Isend", "Issend", "Ibsend", "Irsend"]
BLOCKING_SENDS = ["Send", "Ssend", "Bsend", "Rsend"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NONBLOCKING_SENDS)
def test_a_nonblocking_send_reaches_a_receive_posted_before(comm, attached, name, size):
    dest, source = ring_of(comm)
    into = np.zeros(size, np.uint8)
    receive = comm.Irecv(into, source, 3)
    quiet_barrier()
    send = getattr(comm, name)(pattern(size, comm.rank), dest, 3)
    assert send.Wait() is True
    assert receive.Wait() is True
    assert is_pattern(into, source)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["Isend", "Issend", "Ibsend"])
def test_a_nonblocking_send_waits_for_a_receive_posted_after(comm, attached, name, size):
    dest, source = ring_of(comm)
    send = getattr(comm, name)(pattern(size, comm.rank), dest, 3)
    quiet_barrier()
    into = np.zeros(size, np.uint8)
    assert comm.Recv(into, source, 3) is None
    send.Wait()
    assert is_pattern(into, source)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", BLOCKING_SENDS)
def test_a_blocking_send_reaches_a_receive_posted_before(comm, attached, name, size):
    dest, source = ring_of(comm)
    into = np.zeros(size, np.uint8)
    receive = comm.Irecv(into, source, 3)
    quiet_barrier()
    assert getattr(comm, name)(pattern(size, comm.rank), dest, 3) is None
    receive.Wait()
    assert is_pattern(into, source)


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["Send", "Ssend", "Bsend"])
def test_a_blocking_send_meets_a_blocking_receive(comm, attached, name, size):
    if comm.rank == 0:
        getattr(comm, name)(pattern(size, 7), 1, 3)
        into = np.zeros(size, np.uint8)
        comm.Recv(into, 1, 4)
        assert is_pattern(into, 8)
    elif comm.rank == 1:
        into = np.zeros(size, np.uint8)
        comm.Recv(into, 0, 3)
        assert is_pattern(into, 7)
        getattr(comm, name)(pattern(size, 8), 0, 4)


@pytest.mark.parametrize("size", SIZES)
def test_sendrecv_exchanges_in_a_ring_without_deadlock(comm, size):
    dest, source = ring_of(comm)
    into = np.zeros(size, np.uint8)
    comm.Sendrecv(pattern(size, comm.rank), dest, 1, into, source, 1)
    assert is_pattern(into, source)


@pytest.mark.parametrize("size", SIZES)
def test_sendrecv_replace_puts_the_neighbours_bytes_in_the_same_buffer(comm, size):
    dest, source = ring_of(comm)
    buffer = pattern(size, comm.rank)
    comm.Sendrecv_replace(buffer, dest, 1, source, 1)
    assert is_pattern(buffer, source)


@pytest.mark.parametrize("size", SIZES)
def test_isendrecv_completes_when_both_directions_have(comm, size):
    dest, source = ring_of(comm)
    into = np.zeros(size, np.uint8)
    request = comm.Isendrecv(pattern(size, comm.rank), dest, 1, into, source, 1)
    request.Wait()
    assert is_pattern(into, source)


@pytest.mark.parametrize("size", SIZES)
def test_isendrecv_replace_completes_with_the_neighbours_bytes(comm, size):
    dest, source = ring_of(comm)
    buffer = pattern(size, comm.rank)
    request = comm.Isendrecv_replace(buffer, dest, 1, source, 1)
    request.Wait()
    assert is_pattern(buffer, source)


def test_sendrecv_with_different_sizes_both_ways(comm):
    dest, source = ring_of(comm)
    status = MPI.Status()
    into = np.zeros(200_000, np.uint8)
    size = 10 if comm.rank % 2 == 0 else 150_000
    expected = 10 if source % 2 == 0 else 150_000
    comm.Sendrecv(pattern(size, comm.rank), dest, 1, into, source, 1, status)
    assert status.Get_count(MPI.BYTE) == expected
    assert is_pattern(into[:expected], source)
    assert not into[expected:].any()


def test_keyword_arguments_have_mpi4pys_names(comm):
    dest, source = ring_of(comm)
    status = MPI.Status()
    into = np.zeros(4, np.uint8)
    request = comm.Isend(buf=pattern(4, 1), dest=dest, tag=5)
    comm.Recv(buf=into, source=source, tag=5, status=status)
    request.Wait(status=None)
    assert is_pattern(into, 1)
    assert status.tag == 5
    comm.Sendrecv(
        sendbuf=pattern(4, 2),
        dest=dest,
        sendtag=6,
        recvbuf=into,
        source=source,
        recvtag=6,
        status=None,
    )
    assert is_pattern(into, 2)
    comm.Sendrecv_replace(buf=into, dest=dest, sendtag=7, source=source, recvtag=7, status=None)
    assert is_pattern(into, 2)


def test_the_default_tag_of_a_send_is_zero_and_a_receive_takes_any(comm):
    dest, source = ring_of(comm)
    status = MPI.Status()
    into = np.zeros(4, np.uint8)
    request = comm.Isend(pattern(4), dest)
    comm.Recv(into, status=status)
    request.Wait()
    assert (status.source, status.tag) == (source, 0)
    request = comm.Isend(pattern(4), dest, 9)
    comm.Irecv(into).Wait(status)
    request.Wait()
    assert (status.source, status.tag) == (source, 9)


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("size", [0, 8, 1_000_000])
def test_a_synchronous_send_completes_only_after_its_receive_started(comm, size):
    if comm.rank == 0:
        request = comm.Issend(pattern(size), 1, 1)
        for _ in range(50):
            assert not request.Test()
        comm.Send(bytearray(1), 1, 2)
        request.Wait()
    elif comm.rank == 1:
        comm.Recv(bytearray(1), 0, 2)
        into = np.zeros(size, np.uint8)
        comm.Recv(into, 0, 1)
        assert is_pattern(into)


@pytest.mark.mpi(min_size=2)
def test_a_buffered_send_returns_before_any_receive_and_copies_its_buffer(comm, attached):
    size = 1_000_000
    if comm.rank == 0:
        first, second = pattern(size, 1), pattern(size, 2)
        comm.Bsend(first, 1, 1)
        request = comm.Ibsend(second, 1, 2)
        request.Wait()
        first[:] = 0
        second[:] = 0
        comm.Send(bytearray(1), 1, 3)
    elif comm.rank == 1:
        comm.Recv(bytearray(1), 0, 3)
        into = np.zeros(size, np.uint8)
        comm.Recv(into, 0, 1)
        assert is_pattern(into, 1)
        comm.Recv(into, 0, 2)
        assert is_pattern(into, 2)


def test_every_rank_talks_to_every_rank_at_once(comm):
    size, rank = comm.size, comm.rank
    into = [np.zeros(3000 + 10 * source, np.uint8) for source in range(size)]
    requests = [comm.Irecv(into[source], source, rank) for source in range(size)]
    requests += [comm.Isend(pattern(3000 + 10 * rank, rank * 16 + d), d, d) for d in range(size)]
    assert MPI.Request.Waitall(requests) is True
    for source in range(size):
        assert is_pattern(into[source], source * 16 + rank)


@pytest.mark.parametrize("size", [8, 100_000])
def test_the_sender_may_reuse_its_buffer_after_completion(comm, size):
    dest, source = ring_of(comm)
    buffer = np.zeros(size, np.uint8)
    into = np.zeros((20, size), np.uint8)
    receives = [comm.Irecv(into[turn], source, 0) for turn in range(20)]
    for turn in range(20):
        buffer[:] = turn
        comm.Isend(buffer, dest, 0).Wait()
    buffer[:] = 255
    MPI.Request.Waitall(receives)
    assert [int(row[0]) for row in into] == list(range(20))
    assert (into == np.arange(20, dtype=np.uint8)[:, None]).all()


def test_test_becomes_true_without_wait(comm):
    dest, source = ring_of(comm)
    into = np.zeros(300_000, np.uint8)
    receive = comm.Irecv(into, source, 0)
    send = comm.Isend(pattern(into.size, 3), dest, 0)
    wait_until(receive.Test)
    wait_until(send.Test)
    assert is_pattern(into, 3)
