"""A message longer than its buffer is an error of the receive, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of

# received, sent: eager, on the way to rendezvous, and beyond
CASES = [(0, 1), (4, 8), (100, 200), (1000, 100_000), (100_000, 100_001), (300_000, 2_000_000)]
GUARD = 4096

# Open MPI writes past the buffer once a message goes by rendezvous.
pytestmark = pytest.mark.broken_in("Open MPI")


def guarded(size):
    memory = np.full(size + GUARD, 0x5A, np.uint8)
    return memory, memory[:size]


def assert_truncated(raised):
    assert raised.value.Get_error_class() == MPI.ERR_TRUNCATE


def assert_next_is_intact(comm, dest, source, sent):
    into = np.zeros(sent, np.uint8)
    status = MPI.Status()
    request = comm.Isend(pattern(sent, 2), dest, 1)
    comm.Recv(into, source, 1, status)
    request.Wait()
    assert is_pattern(into, 2)
    assert status.count == sent


@pytest.mark.parametrize(("size", "sent"), CASES)
def test_a_longer_send_raises_at_recv_and_leaves_bytes_past_the_buffer_untouched(comm, size, sent):
    dest, source = ring_of(comm)
    memory, window = guarded(size)
    request = comm.Isend(pattern(sent, 1), dest, 1)
    quiet_barrier()
    with pytest.raises(MPI.Exception) as raised:
        comm.Recv(window, source, 1)
    assert_truncated(raised)
    assert (memory[size:] == 0x5A).all()
    request.Wait()
    assert_next_is_intact(comm, dest, source, sent)
    assert (memory[size:] == 0x5A).all()


@pytest.mark.parametrize(("size", "sent"), CASES)
def test_a_longer_send_raises_at_the_wait_of_a_posted_receive(comm, size, sent):
    dest, source = ring_of(comm)
    memory, window = guarded(size)
    receive = comm.Irecv(window, source, 1)
    quiet_barrier()
    request = comm.Isend(pattern(sent, 1), dest, 1)
    with pytest.raises(MPI.Exception) as raised:
        receive.Wait()
    assert_truncated(raised)
    request.Wait()
    assert_next_is_intact(comm, dest, source, sent)
    assert (memory[size:] == 0x5A).all()
    assert not receive


@pytest.mark.parametrize(("size", "sent"), CASES)
def test_a_matched_message_longer_than_its_buffer_raises(comm, size, sent):
    dest, source = ring_of(comm)
    memory, window = guarded(size)
    request = comm.Isend(pattern(sent, 1), dest, 1)
    message = comm.Mprobe(source, 1)
    with pytest.raises(MPI.Exception) as raised:
        message.Recv(window)
    assert_truncated(raised)
    assert (memory[size:] == 0x5A).all()
    request.Wait()
    assert_next_is_intact(comm, dest, source, sent)


@pytest.mark.parametrize(("size", "sent"), CASES)
def test_sendrecv_raises_when_what_it_receives_is_longer(comm, size, sent):
    dest, source = ring_of(comm)
    memory, window = guarded(size)
    with pytest.raises(MPI.Exception) as raised:
        comm.Sendrecv(pattern(sent, 1), dest, 1, window, source, 1)
    assert_truncated(raised)
    assert (memory[size:] == 0x5A).all()
    quiet_barrier()
    assert_next_is_intact(comm, dest, source, sent)


@pytest.mark.parametrize("sent", [200, 500_000])
def test_messages_behind_a_truncated_one_arrive_intact_in_posted_receives(comm, sent):
    dest, source = ring_of(comm)
    memory, window = guarded(10)
    into = np.zeros((3, sent), np.uint8)
    receives = [comm.Irecv(into[0], source, 1), comm.Irecv(window, source, 1)]
    receives += [comm.Irecv(into[turn], source, 1) for turn in (1, 2)]
    quiet_barrier()
    sends = [comm.Isend(pattern(sent, turn), dest, 1) for turn in range(4)]
    receives[0].Wait()
    with pytest.raises(MPI.Exception) as raised:
        receives[1].Wait()
    assert_truncated(raised)
    MPI.Request.Waitall(receives[2:])
    MPI.Request.Waitall(sends)
    assert is_pattern(into[0], 0)
    assert is_pattern(into[1], 2)
    assert is_pattern(into[2], 3)
    assert (memory[10:] == 0x5A).all()


def test_waitall_reports_the_truncated_one_in_its_status_and_completes_the_rest(comm):
    dest, source = ring_of(comm)
    into = [np.zeros(size, np.uint8) for size in (100, 10, 100)]
    receives = [comm.Irecv(array, source, tag) for tag, array in enumerate(into)]
    quiet_barrier()
    sends = [comm.Isend(pattern(100, tag), dest, tag) for tag in range(3)]
    MPI.Request.Waitall(sends)
    statuses = [MPI.Status() for _ in receives]
    with pytest.raises(MPI.Exception) as raised:
        MPI.Request.Waitall(receives, statuses)
    assert raised.value.Get_error_class() == MPI.ERR_IN_STATUS
    assert MPI.Get_error_class(statuses[1].Get_error()) == MPI.ERR_TRUNCATE
    for tag in (0, 2):
        receives[tag].Wait()
        assert is_pattern(into[tag], tag)


def test_a_truncated_derived_receive_writes_only_its_own_elements(comm):
    dest, source = ring_of(comm)
    column = MPI.INT32_T.Create_vector(4, 1, 2).Commit()
    into = np.full(20, -1, np.int32)
    request = comm.Isend(np.arange(10, dtype=np.int32), dest, 1)
    with pytest.raises(MPI.Exception) as raised:
        comm.Recv([into, 1, column], source, 1)
    assert_truncated(raised)
    assert (into[1::2] == -1).all()
    assert (into[8:] == -1).all()
    request.Wait()
    assert_next_is_intact(comm, dest, source, 40)
    column.Free()
