"""Probes see messages without taking them; matched probes take them for one receive alone."""

from __future__ import annotations

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of, wait_until

SIZES = [0, 8, 3000, 500_000]


@pytest.mark.parametrize("size", SIZES)
def test_probe_tells_source_tag_and_size_and_leaves_the_message(comm, size):
    dest, source = ring_of(comm)
    request = comm.Isend(pattern(size, 1), dest, 6)
    status = MPI.Status()
    for source_given in (source, MPI.ANY_SOURCE):
        for tag_given in (6, MPI.ANY_TAG):
            assert comm.Probe(source_given, tag_given, status) is True
            assert (status.source, status.tag) == (source, 6)
            assert status.Get_count(MPI.BYTE) == size
    into = np.zeros(status.Get_count(MPI.BYTE), np.uint8)
    comm.Recv(into, status.source, status.tag)
    assert is_pattern(into, 1)
    request.Wait()


def test_iprobe_is_false_until_a_matching_message_is_there(comm):
    dest, source = ring_of(comm)
    assert comm.Iprobe() is False
    assert comm.Iprobe(source, 1) is False
    quiet_barrier()
    request = comm.Isend(pattern(8), dest, 2)
    status = MPI.Status()
    wait_until(lambda: comm.Iprobe(source, 2, status))
    assert status.Get_count(MPI.BYTE) == 8
    assert comm.Iprobe(source, 1) is False
    comm.Recv(bytearray(8), source, 2)
    assert comm.Iprobe() is False
    request.Wait()


@pytest.mark.parametrize("size", SIZES)
def test_a_matched_message_is_invisible_to_other_receives(comm, size):
    dest, source = ring_of(comm)
    requests = [comm.Isend(pattern(size, turn), dest, 3) for turn in range(2)]
    status = MPI.Status()
    message = comm.Mprobe(source, 3, status)
    assert message
    assert status.Get_count(MPI.BYTE) == size
    into = np.zeros(size, np.uint8)
    comm.Recv(into, source, 3)
    assert is_pattern(into, 1)
    message.Recv(into, status)
    assert is_pattern(into, 0)
    assert (status.source, status.tag, status.Get_count(MPI.BYTE)) == (source, 3, size)
    assert not message
    assert message == MPI.MESSAGE_NULL
    MPI.Request.Waitall(requests)


@pytest.mark.parametrize("size", SIZES)
def test_improbe_is_none_until_a_message_matches_and_its_irecv_completes(comm, size):
    dest, source = ring_of(comm)
    assert comm.Improbe(source, 1) is None
    quiet_barrier()
    request = comm.Isend(pattern(size, 5), dest, 1)
    found = []
    wait_until(lambda: found.append(comm.Improbe(MPI.ANY_SOURCE, MPI.ANY_TAG)) or found[-1])
    message = found[-1]
    assert isinstance(message, MPI.Message)
    into = np.zeros(size, np.uint8)
    receive = message.Irecv(into)
    assert not message
    receive.Wait()
    assert is_pattern(into, 5)
    assert comm.Improbe() is None
    request.Wait()


def test_messages_matched_in_order_may_be_received_in_any_order(comm):
    dest, source = ring_of(comm)
    sends = [comm.Isend(pattern(1000 * (turn + 1), turn), dest, 1) for turn in range(10)]
    messages = [comm.Mprobe(source, 1) for _ in range(10)]
    for turn in (9, 0, 5, 4, 8, 1, 7, 2, 6, 3):
        into = np.zeros(1000 * (turn + 1), np.uint8)
        messages[turn].Recv(into)
        assert is_pattern(into, turn)
    MPI.Request.Waitall(sends)


def test_the_message_classes_own_probes_work(comm):
    dest, source = ring_of(comm)
    assert MPI.Message.Iprobe(comm) is None
    quiet_barrier()
    sends = [comm.Isend(pattern(10, turn), dest, turn) for turn in range(4)]
    into = np.zeros(10, np.uint8)
    MPI.Message.Probe(comm, source, 0).Recv(into)
    assert is_pattern(into, 0)
    found = []
    wait_until(lambda: found.append(MPI.Message.Iprobe(comm, source, 1)) or found[-1])
    found[-1].Irecv(into).Wait()
    assert is_pattern(into, 1)
    MPI.Message.probe(comm, source, 2).Recv(into)
    assert is_pattern(into, 2)
    found.clear()
    wait_until(lambda: found.append(MPI.Message.iprobe(comm, source, 3)) or found[-1])
    found[-1].Recv(into)
    assert is_pattern(into, 3)
    MPI.Request.Waitall(sends)


def test_probing_process_null_gives_an_empty_message(comm):
    status = MPI.Status()
    assert comm.Probe(MPI.PROC_NULL, 1, status) is True
    assert (status.source, status.tag) == (MPI.PROC_NULL, MPI.ANY_TAG)
    assert status.Get_count(MPI.BYTE) == 0
    assert comm.Iprobe(MPI.PROC_NULL, 1) is True
    message = comm.Mprobe(MPI.PROC_NULL, 1)
    assert message == MPI.MESSAGE_NO_PROC
    into = bytearray(b"kept")
    message.Recv(into, status)
    assert into == b"kept"
    assert status.source == MPI.PROC_NULL
    message = comm.Improbe(MPI.PROC_NULL)
    message.Irecv(into).Wait()
    assert into == b"kept"


def test_no_process_message_stays_usable(comm):
    assert MPI.MESSAGE_NO_PROC
    assert not MPI.MESSAGE_NULL
    assert MPI.Message() == MPI.MESSAGE_NULL
    MPI.MESSAGE_NO_PROC.Recv(None)
    MPI.MESSAGE_NO_PROC.Irecv(None).Wait()
    assert MPI.MESSAGE_NO_PROC
    assert MPI.MESSAGE_NO_PROC != MPI.MESSAGE_NULL


@pytest.mark.mpi(min_size=2)
def test_a_blocking_probe_wakes_when_the_message_comes(comm):
    if comm.rank == 0:
        quiet = np.zeros(1, np.uint8)
        comm.Recv(quiet, 1, 1)
        comm.Send(pattern(100), 1, 2)
    elif comm.rank == 1:
        assert comm.Iprobe(0, 2) is False
        comm.Send(bytearray(1), 0, 1)
        comm.Probe(0, 2)
        into = np.zeros(100, np.uint8)
        comm.Mprobe(0, 2).Recv(into)
        assert is_pattern(into)


def test_a_probe_while_a_receive_is_posted_does_not_see_its_message(comm):
    dest, source = ring_of(comm)
    into = np.zeros(8, np.uint8)
    receive = comm.Irecv(into, source, 1)
    quiet_barrier()
    sends = [comm.Isend(pattern(8, 1), dest, 1), comm.Isend(pattern(9, 2), dest, 1)]
    status = MPI.Status()
    comm.Probe(source, 1, status)
    assert status.Get_count(MPI.BYTE) == 9
    receive.Wait()
    comm.Recv(bytearray(9), source, 1)
    MPI.Request.Waitall(sends)


def test_a_matched_message_stays_where_its_buffer_is_refused(comm):
    request = comm.Isend(bytearray(b"abc"), comm.rank, 1)
    message = comm.Mprobe(comm.rank, 1)
    for receive in (message.Recv, message.Irecv):
        with pytest.raises((BufferError, ValueError)):
            receive(b"constant")
        assert message
    into = bytearray(3)
    message.Recv(into)
    request.Wait()
    assert into == b"abc"
    assert not message
