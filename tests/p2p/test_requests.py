"""Requests: every way to wait and test, alone and mixed with the MPI library's own."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, library, quiet_barrier, ring_of, wait_until


def exchange(comm, count, size=64):
    """``count`` messages to the right, tags 0.., and the buffers and requests of both directions."""
    dest, source = ring_of(comm)
    into = [np.zeros(size, np.uint8) for _ in range(count)]
    receives = [comm.Irecv(array, source, tag) for tag, array in enumerate(into)]
    sends = [comm.Isend(pattern(size, tag), dest, tag) for tag in range(count)]
    return into, receives, sends


def assert_received(into):
    for tag, array in enumerate(into):
        assert is_pattern(array, tag)


@pytest.mark.parametrize("size", [8, 200_000])
def test_waitall_completes_all_and_makes_them_null(comm, size):
    into, receives, sends = exchange(comm, 10, size)
    assert MPI.Request.Waitall(receives) is True
    assert_received(into)
    assert not any(receives)
    assert all(request == MPI.REQUEST_NULL for request in receives)
    assert MPI.Request.Waitall(sends) is True
    assert MPI.Request.Waitall([]) is True


def test_waitany_gives_each_index_once_then_undefined(comm):
    into, receives, sends = exchange(comm, 6)
    status = MPI.Status()
    seen = set()
    for _ in range(6):
        index = MPI.Request.Waitany(receives, status)
        assert status.tag == index
        assert not receives[index]
        seen.add(index)
    assert seen == set(range(6))
    assert_received(into)
    assert MPI.Request.Waitany(receives) == MPI.UNDEFINED
    MPI.Request.Waitall(sends)


def test_waitsome_gives_each_index_once_then_none(comm):
    into, receives, sends = exchange(comm, 6)
    seen = []
    while len(seen) < 6:
        indices = MPI.Request.Waitsome(receives)
        assert indices
        seen += indices
    assert sorted(seen) == list(range(6))
    assert_received(into)
    assert MPI.Request.Waitsome(receives) is None
    MPI.Request.Waitall(sends)


def test_testall_is_all_or_nothing(comm):
    dest, source = ring_of(comm)
    into = [np.zeros(64, np.uint8) for _ in range(3)]
    receives = [comm.Irecv(array, source, tag) for tag, array in enumerate(into)]
    sends = [comm.Isend(pattern(64, tag), dest, tag) for tag in (0, 1)]
    MPI.Request.Waitall(sends)
    quiet_barrier()
    for _ in range(20):
        assert MPI.Request.Testall(receives) is False
    assert all(receives)
    quiet_barrier()
    last = comm.Isend(pattern(64, 2), dest, 2)
    wait_until(lambda: MPI.Request.Testall(receives))
    assert not any(receives)
    assert_received(into)
    last.Wait()


def test_testany_and_testsome_find_what_has_come(comm):
    dest, source = ring_of(comm)
    into = [np.zeros(64, np.uint8) for _ in range(4)]
    receives = [comm.Irecv(array, source, tag) for tag, array in enumerate(into)]
    quiet_barrier()
    assert MPI.Request.Testany(receives) == (MPI.UNDEFINED, False)
    assert MPI.Request.Testsome(receives) == []
    quiet_barrier()
    send = comm.Isend(pattern(64, 2), dest, 2)
    outcomes = []
    wait_until(lambda: outcomes.append(MPI.Request.Testany(receives)) or outcomes[-1][1])
    assert outcomes[-1] == (2, True)
    send.Wait()
    quiet_barrier()
    sends = [comm.Isend(pattern(64, tag), dest, tag) for tag in (0, 1, 3)]
    seen = []
    wait_until(lambda: seen.extend(MPI.Request.Testsome(receives)) or len(seen) == 3)
    assert sorted(seen) == [0, 1, 3]
    assert MPI.Request.Testany(receives) == (MPI.UNDEFINED, True)
    assert MPI.Request.Testsome(receives) is None
    assert_received(into)
    MPI.Request.Waitall(sends)


def test_a_request_waited_twice_is_complete_both_times(comm):
    dest, source = ring_of(comm)
    into = np.zeros(8, np.uint8)
    receive = comm.Irecv(into, source, 0)
    send = comm.Isend(pattern(8), dest, 0)
    assert receive.Wait() is True
    status = MPI.Status()
    assert receive.Wait(status) is True
    assert (status.source, status.tag) == (MPI.ANY_SOURCE, MPI.ANY_TAG)
    assert receive.Test() is True
    send.Wait()
    assert send.Test() is True


def test_requests_compare_with_the_null_request(comm):
    dest, source = ring_of(comm)
    receive = comm.Irecv(bytearray(1), source, 0)
    send = comm.Isend(bytearray(1), dest, 0)
    assert receive
    assert receive != MPI.REQUEST_NULL
    assert isinstance(receive, MPI.Request)
    MPI.Request.Waitall([receive, send])
    assert receive == MPI.REQUEST_NULL
    assert not MPI.REQUEST_NULL


def test_a_freed_send_request_is_null_and_its_message_still_arrives(comm):
    dest, source = ring_of(comm)
    out = [pattern(100, 1), pattern(300_000, 2)]
    requests = [comm.Isend(array, dest, tag) for tag, array in enumerate(out)]
    for request in requests:
        request.Free()
        assert request == MPI.REQUEST_NULL
    for tag, array in enumerate(out):
        into = np.zeros(array.size, np.uint8)
        comm.Recv(into, source, tag)
        assert is_pattern(into, tag + 1)
    quiet_barrier()


@pytest.mark.parametrize("size", [8, 200_000])
def test_waitall_takes_our_requests_and_the_librarys_together(comm, size):
    into, receives, sends = exchange(comm, 5, size)
    barrier = comm.Ibarrier()
    requests = [*receives, barrier, MPI.REQUEST_NULL, *sends]
    statuses = [MPI.Status() for _ in requests]
    assert MPI.Request.Waitall(requests, statuses) is True
    assert_received(into)
    assert [status.tag for status in statuses[:5]] == list(range(5))
    assert not any(requests)


def test_waitany_waitsome_and_tests_take_mixed_lists(comm):
    into, receives, sends = exchange(comm, 4)
    requests = [comm.Ibarrier(), *receives]
    seen = {MPI.Request.Waitany(requests)}
    while len(seen) < 5:
        seen.update(MPI.Request.Waitsome(requests))
    assert seen == set(range(5))
    assert_received(into)
    assert MPI.Request.Waitany(requests) == MPI.UNDEFINED
    MPI.Request.Waitall(sends)

    into, receives, sends = exchange(comm, 4)
    requests = [*receives, comm.Ibarrier(), *sends]
    wait_until(lambda: MPI.Request.Testall(requests))
    assert_received(into)

    into, receives, sends = exchange(comm, 4)
    requests = [comm.Ibarrier(), *receives]
    seen = set()

    def drain():
        index, flag = MPI.Request.Testany(requests)
        if flag and index != MPI.UNDEFINED:
            seen.add(index)
        seen.update(MPI.Request.Testsome(requests) or [])
        return len(seen) == 5

    wait_until(drain)
    assert_received(into)
    MPI.Request.Waitall(sends)


def test_a_mixed_wait_ends_when_ours_completes_though_the_librarys_has_not(comm):
    dest, source = ring_of(comm)
    into = np.zeros(8, np.uint8)
    duplicate = library.COMM_WORLD.Dup()
    # Completes only after every rank has left Waitany.
    pending = duplicate.Ibarrier() if comm.rank else None
    requests = [comm.Irecv(into, source, 0)]
    if pending is not None:
        requests.append(pending)
    send = comm.Isend(pattern(8, 4), dest, 0)
    assert MPI.Request.Waitany(requests) == 0
    assert is_pattern(into, 4)
    send.Wait()
    quiet_barrier()
    if pending is None:
        pending = duplicate.Ibarrier()
    pending.Wait()
    duplicate.Free()


@pytest.mark.ours
@pytest.mark.parametrize("call", ["Waitall", "Waitany", "Waitsome", "Testall"])
def test_mpi4pys_own_request_class_never_calls_ours_complete_too_early(comm, call):
    dest, source = ring_of(comm)
    into = np.zeros(100, np.uint8)
    receive = comm.Irecv(into, source, 0)
    quiet_barrier()
    later = threading.Timer(0.1, lambda: comm.Send(pattern(100, 1), dest, 0))
    later.start()
    try:
        outcome = getattr(library.Request, call)([receive])
    except (TypeError, MPI.Exception):
        outcome = None
    if call == "Testall":
        assert not outcome or is_pattern(into, 1)
    else:
        assert outcome is None or is_pattern(into, 1)
    later.join()
    receive.Wait()
    assert is_pattern(into, 1)


@pytest.mark.mpi(min_size=2)
def test_progress_of_a_large_send_needs_no_call_at_the_sender_once_it_waits_elsewhere(comm):
    """The MPI library's barrier is entered while our transfer is pending; it must still end."""
    if comm.rank == 0:
        request = comm.Isend(pattern(3_000_000, 1), 1, 0)
        comm.Recv(bytearray(1), 1, 1)
        request.Wait()
    elif comm.rank == 1:
        time.sleep(0.05)
        into = np.zeros(3_000_000, np.uint8)
        comm.Recv(into, 0, 0)
        assert is_pattern(into, 1)
        comm.Send(bytearray(1), 0, 1)


@pytest.mark.ours
@pytest.mark.mpi(min_size=2)
def test_a_pending_send_completes_while_its_rank_sleeps_or_sits_in_the_mpi_library(comm):
    if comm.rank == 0:
        request = comm.Isend(pattern(3_000_000, 1), 1, 0)
        quiet_barrier()  # no call of ours until the receiver has everything
        assert request.Test()
    else:
        if comm.rank == 1:
            into = np.zeros(3_000_000, np.uint8)
            comm.Recv(into, 0, 0)
            assert is_pattern(into, 1)
        quiet_barrier()


WALKED_ONCE = {
    "filter": lambda requests: filter(None, requests),
    "generator": lambda requests: (request for request in requests),
    "iter": iter,
    "map": lambda requests: (request for request in requests),
    "tuple": tuple,
    "object array": lambda requests: np.array([*requests, None], object)[:-1],
}
ENDS = {
    "Waitall": MPI.Request.Waitall,
    "waitall": MPI.Request.waitall,
    "Waitall with statuses": lambda requests: MPI.Request.Waitall(requests, []),
    "Waitany": lambda requests: MPI.Request.Waitany(requests) == 0,
    "waitany": lambda requests: MPI.Request.waitany(requests)[0] == 0,
    "Waitsome": MPI.Request.Waitsome,
    "waitsome": lambda requests: MPI.Request.waitsome(requests)[0],
}
LOOKS = {
    "Testall": MPI.Request.Testall,
    "testall": lambda requests: MPI.Request.testall(requests)[0],
    "Testany": lambda requests: MPI.Request.Testany(requests)[1],
    "testany": lambda requests: MPI.Request.testany(requests)[1],
    "Testsome": MPI.Request.Testsome,
    "testsome": lambda requests: MPI.Request.testsome(requests)[0],
    "Get_status_all": MPI.Request.Get_status_all,
    "Get_status_any": lambda requests: MPI.Request.Get_status_any(requests)[1],
    "Get_status_some": MPI.Request.Get_status_some,
}


@pytest.mark.ours
@pytest.mark.parametrize("form", WALKED_ONCE)
@pytest.mark.parametrize("call", ENDS)
def test_requests_that_can_be_walked_once_only_are_waited_for(comm, call, form):
    dest, source = ring_of(comm)
    into = np.zeros(64, np.uint8)
    receive = comm.Irecv(into, source, 1)
    later = threading.Timer(0.02, lambda: comm.Send(pattern(64, 1), dest, 1))
    later.start()
    assert ENDS[call](WALKED_ONCE[form]([receive]))
    assert is_pattern(into, 1)
    assert not receive
    later.join()


@pytest.mark.ours
@pytest.mark.parametrize("call", LOOKS)
def test_a_look_at_requests_that_can_be_walked_once_only_finds_them_active(comm, call):
    dest, source = ring_of(comm)
    into = np.zeros(64, np.uint8)
    receive = comm.Irecv(into, source, 1)
    assert not LOOKS[call](iter([receive]))
    quiet_barrier()
    comm.Send(pattern(64, 1), dest, 1)
    wait_until(lambda: LOOKS[call](iter([receive])))
    receive.Wait()
    assert is_pattern(into, 1)


@pytest.mark.ours
def test_statuses_that_cannot_be_indexed_are_refused_before_anything_is_ended(comm):
    dest, source = ring_of(comm)
    receive = comm.Irecv(np.zeros(64, np.uint8), source, 1)
    comm.Send(pattern(64, 1), dest, 1)
    wait_until(receive.Get_status)
    for call in (MPI.Request.Waitall, MPI.Request.Waitsome, MPI.Request.Testall):
        with pytest.raises(TypeError):
            call([receive], iter([MPI.Status()]))
    assert receive
    receive.Wait()


@pytest.mark.ours
def test_persistent_requests_start_from_an_iterator_and_nothing_starts_beside_a_stranger(comm):
    dest, source = ring_of(comm)
    into = np.zeros(64, np.uint8)
    requests = [comm.Recv_init(into, source, 1), comm.Send_init(pattern(64, 1), dest, 1)]
    with pytest.raises(TypeError):
        MPI.Prequest.Startall([*requests, None])
    MPI.Prequest.Startall(iter(requests))
    MPI.Request.Waitall(requests)
    assert is_pattern(into, 1)
    for request in requests:
        request.Free()
