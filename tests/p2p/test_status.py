"""Status fields say who sent what, how much, and how it ended."""

from __future__ import annotations

import numpy as np
import pytest
from payload import pattern
from subject import MPI, quiet_barrier, ring_of, wait_until


def check(status, source, tag, count):
    assert status.Get_source() == status.source == source
    assert status.Get_tag() == status.tag == tag
    assert status.Get_error() == status.error == MPI.SUCCESS
    assert status.Get_count() == status.count == count
    assert status.Get_count(MPI.BYTE) == count
    assert status.Is_cancelled() is status.cancelled is False


@pytest.mark.parametrize("size", [0, 1, 100, 300_000])
def test_a_receive_fills_its_status(comm, size):
    dest, source = ring_of(comm)
    into = np.zeros(size + 8, np.uint8)
    status = MPI.Status()
    send = comm.Isend(pattern(size), dest, 12)
    comm.Recv(into, MPI.ANY_SOURCE, MPI.ANY_TAG, status)
    check(status, source, 12, size)
    send.Wait()
    send = comm.Isend(pattern(size), dest, 13)
    status = MPI.Status()
    comm.Irecv(into, MPI.ANY_SOURCE, MPI.ANY_TAG).Wait(status)
    check(status, source, 13, size)
    send.Wait()
    status = MPI.Status()
    comm.Sendrecv(pattern(size), dest, 14, into, MPI.ANY_SOURCE, MPI.ANY_TAG, status)
    check(status, source, 14, size)


def test_counts_are_in_units_of_the_datatype_that_is_asked(comm):
    dest, source = ring_of(comm)
    status = MPI.Status()
    send = comm.Isend(np.arange(12, dtype=np.float64), dest)
    comm.Recv(np.zeros(20), source, 0, status)
    assert status.Get_count(MPI.DOUBLE) == 12
    assert status.Get_count(MPI.FLOAT) == 24
    assert status.Get_elements(MPI.DOUBLE) == 12
    pair = MPI.DOUBLE.Create_contiguous(5).Commit()
    assert status.Get_count(pair) == MPI.UNDEFINED
    assert status.Get_elements(pair) == 12
    pair.Free()
    send.Wait()


def test_a_list_of_statuses_is_filled_in_request_order(comm):
    dest, source = ring_of(comm)
    into = [np.zeros(100, np.uint8) for _ in range(5)]
    receives = [comm.Irecv(array, source, tag) for tag, array in enumerate(into)]
    sends = [comm.Isend(pattern(tag * 10), dest, tag) for tag in range(5)]
    statuses = [MPI.Status() for _ in range(5)]
    MPI.Request.Waitall(receives, statuses)
    for tag, status in enumerate(statuses):
        check(status, source, tag, tag * 10)
    MPI.Request.Waitall(sends)


def test_an_empty_status_list_is_filled(comm):
    dest, source = ring_of(comm)
    receives = [comm.Irecv(bytearray(4), source, tag) for tag in range(3)]
    sends = [comm.Isend(bytearray(4), dest, tag) for tag in range(3)]
    statuses = []
    MPI.Request.Waitall(receives, statuses)
    assert [status.tag for status in statuses] == [0, 1, 2]
    MPI.Request.Waitall(sends)


def test_receiving_from_process_null_gives_the_empty_status(comm):
    status = MPI.Status()
    comm.Recv(bytearray(4), MPI.PROC_NULL, 3, status)
    assert (status.source, status.tag, status.count) == (MPI.PROC_NULL, MPI.ANY_TAG, 0)
    status = MPI.Status()
    comm.Irecv(bytearray(4), MPI.PROC_NULL, 3).Wait(status)
    assert (status.source, status.tag, status.count) == (MPI.PROC_NULL, MPI.ANY_TAG, 0)


def test_waiting_on_a_null_request_gives_the_empty_status(comm):
    status = MPI.Status()
    status.source, status.tag = 5, 5
    assert MPI.Request(MPI.REQUEST_NULL).Wait(status) is True
    assert (status.source, status.tag) == (MPI.ANY_SOURCE, MPI.ANY_TAG)


def test_get_status_tells_without_completing_the_request(comm):
    dest, source = ring_of(comm)
    into = np.zeros(16, np.uint8)
    receive = comm.Irecv(into, source, 4)
    quiet_barrier()
    status = MPI.Status()
    assert receive.Get_status(status) is False
    quiet_barrier()
    send = comm.Isend(pattern(16), dest, 4)
    while not receive.Get_status(status):
        pass
    check(status, source, 4, 16)
    assert receive
    assert receive.Get_status() is True
    status = MPI.Status()
    assert receive.Wait(status) is True
    check(status, source, 4, 16)
    assert not receive
    send.Wait()


def test_a_status_object_is_reused_without_leftovers(comm):
    dest, source = ring_of(comm)
    status = MPI.Status()
    into = np.zeros(64, np.uint8)
    for turn in range(4):
        send = comm.Isend(pattern(turn), dest, turn)
        comm.Recv(into, source, turn, status)
        check(status, source, turn, turn)
        send.Wait()


def composites(comm):
    """Requests of several parts, complete soon, with the status that each has to tell."""
    dest, source = ring_of(comm)
    out, into, both = np.zeros(40, np.uint8), np.zeros(80, np.uint8), np.zeros(40, np.uint8)
    yield comm.Isendrecv(out, dest, 1, into, source, 1), (source, 1, 40)
    yield comm.Isendrecv_replace(both, dest, 2, source, 2), (source, 2, 40)
    receive = comm.Precv_init([into, 20, MPI.BYTE], 2, source, 3)
    send = comm.Psend_init([out, 10, MPI.BYTE], 4, dest, 3)
    MPI.Prequest.Startall([receive, send])
    send.Pready_range(0, 3)
    yield receive, (source, 3, 40)
    send.Wait()
    send.Free()


@pytest.mark.ours
def test_a_look_at_a_composite_tells_the_status_that_its_end_tells(comm):
    for request, expected in composites(comm):
        looked, ended = MPI.Status(), MPI.Status()
        wait_until(lambda request=request, looked=looked: request.Get_status(looked))
        several, some = MPI.Status(), [MPI.Status()]
        assert MPI.Request.Get_status_any([request], several) == (0, True)
        assert MPI.Request.Get_status_some([request], some) == [0]
        request.Wait(ended)
        for status in (looked, several, some[0], ended):
            assert (status.source, status.tag, status.Get_count(MPI.BYTE)) == expected
        if request:
            request.Free()


@pytest.mark.ours
@pytest.mark.parametrize("nbytes", [2**31 - 1, 2**31, 3 * 2**30 + 8, 5 * 2**40])
def test_counts_beyond_an_int_are_right(nbytes):
    status = MPI.Status()
    from mooncake_mpi.requests import statuses

    statuses.fill_status(status, 0, 1, 0, nbytes, cancelled=False)
    assert status.Get_count(MPI.BYTE) == nbytes
    assert status.Get_elements(MPI.BYTE) == nbytes
    assert status.count == nbytes
    if nbytes % 8 == 0:
        assert status.Get_count(MPI.DOUBLE) == nbytes // 8
