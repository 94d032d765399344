"""Messages to nobody and to oneself."""

from __future__ import annotations

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, wait_until


@pytest.mark.parametrize("name", ["Send", "Ssend", "Bsend", "Rsend"])
def test_a_blocking_send_to_process_null_returns(comm, attached, name):
    assert getattr(comm, name)(None, MPI.PROC_NULL) is None
    assert getattr(comm, name)(bytearray(10), MPI.PROC_NULL, 5) is None


@pytest.mark.parametrize("name", ["Isend", "Issend", "Ibsend", "Irsend"])
def test_a_nonblocking_send_to_process_null_completes(comm, attached, name):
    request = getattr(comm, name)(None, MPI.PROC_NULL)
    assert request.Wait() is True
    assert getattr(comm, name)(bytearray(10), MPI.PROC_NULL, 5).Test() is True


def test_a_receive_from_process_null_leaves_its_buffer(comm):
    buffer = bytearray(b"kept")
    comm.Recv(buffer, MPI.PROC_NULL)
    comm.Irecv(buffer, MPI.PROC_NULL).Wait()
    comm.Recv(None, MPI.PROC_NULL)
    comm.Sendrecv(None, MPI.PROC_NULL, 0, buffer, MPI.PROC_NULL, 0)
    comm.Sendrecv_replace(buffer, MPI.PROC_NULL, 0, MPI.PROC_NULL, 0)
    comm.Isendrecv(b"", MPI.PROC_NULL, 0, buffer, MPI.PROC_NULL, 0).Wait()
    comm.Isendrecv_replace(buffer, MPI.PROC_NULL, 0, MPI.PROC_NULL, 0).Wait()
    assert buffer == b"kept"


def test_a_shift_with_open_ends_passes_process_null_on_both_sides(comm):
    rank, size = comm.rank, comm.size
    dest = rank + 1 if rank + 1 < size else MPI.PROC_NULL
    source = rank - 1 if rank else MPI.PROC_NULL
    into = np.full(100, 9, np.uint8)
    comm.Sendrecv(pattern(100, rank), dest, 0, into, source, 0)
    if rank:
        assert is_pattern(into, rank - 1)
    else:
        assert (into == 9).all()


@pytest.mark.parametrize("size", [0, 1, 8, 10_000, 2_000_000])
@pytest.mark.parametrize("name", ["Isend", "Issend", "Ibsend"])
def test_a_message_to_oneself_arrives(comm, attached, name, size):
    rank = comm.rank
    into = np.zeros(size, np.uint8)
    send = getattr(comm, name)(pattern(size, 3), rank, 1)
    comm.Recv(into, rank, 1)
    send.Wait()
    assert is_pattern(into, 3)
    into[:] = 0
    receive = comm.Irecv(into, MPI.ANY_SOURCE, MPI.ANY_TAG)
    send = getattr(comm, name)(pattern(size, 4), rank, 1)
    MPI.Request.Waitall([send, receive])
    assert is_pattern(into, 4)


def test_a_blocking_send_to_oneself_completes_when_the_receive_is_posted(comm):
    rank = comm.rank
    for size in (8, 1_000_000):
        into = np.zeros(size, np.uint8)
        receive = comm.Irecv(into, rank, 1)
        comm.Send(pattern(size, 1), rank, 1)
        receive.Wait()
        assert is_pattern(into, 1)
        receive = comm.Irecv(into, rank, 1)
        comm.Ssend(pattern(size, 2), rank, 1)
        receive.Wait()
        assert is_pattern(into, 2)


def test_sendrecv_with_oneself_works(comm):
    into = np.zeros(1_000_000, np.uint8)
    comm.Sendrecv(pattern(into.size, 1), comm.rank, 0, into, comm.rank, 0)
    assert is_pattern(into, 1)
    comm.Sendrecv_replace(into, comm.rank, 0, comm.rank, 0)
    assert is_pattern(into, 1)


def test_a_synchronous_message_to_oneself_waits_for_its_receive(comm):
    send = comm.Issend(pattern(8), comm.rank, 1)
    for _ in range(20):
        assert not send.Test()
    comm.Recv(bytearray(8), comm.rank, 1)
    wait_until(send.Test)


def test_messages_to_oneself_keep_order_and_tags(comm):
    rank = comm.rank
    sends = [comm.Isend(np.full(2, turn), rank, turn % 3) for turn in range(30)]
    into = np.zeros(2, np.int64)
    for tag in (2, 0, 1):
        for turn in range(tag, 30, 3):
            comm.Recv(into, rank, tag)
            assert into[0] == turn
    MPI.Request.Waitall(sends)


def test_the_self_communicator_works(comm):
    alone = MPI.COMM_SELF.Dup()
    into = np.zeros(100_000, np.uint8)
    send = alone.Isend(pattern(into.size, 6), 0, 2)
    status = MPI.Status()
    alone.Recv(into, MPI.ANY_SOURCE, MPI.ANY_TAG, status)
    send.Wait()
    assert is_pattern(into, 6)
    assert (status.source, status.tag) == (0, 2)
    alone.Free()
    request = MPI.COMM_SELF.isend("to myself", 0)
    assert MPI.COMM_SELF.recv() == "to myself"
    request.wait()
