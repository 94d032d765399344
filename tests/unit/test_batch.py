"""Several operations that are started as one: Startall, Isendrecv, and the package's own batches."""

from __future__ import annotations

import sys
from threading import Event, Thread

import numpy as np
import pytest

from mooncake_mpi import MPI, _native

SEND, RECEIVE = True, False


@pytest.fixture
def comm():
    new = MPI.COMM_SELF.Dup()
    MPI.Comm.Set_errhandler(new, MPI.ERRORS_RETURN)
    yield new
    new.Free()


@pytest.fixture
def revoked():
    new = MPI.COMM_SELF.Dup()
    new.Revoke()
    yield new
    new.Free()


def error_of(call, *args):
    with pytest.raises(MPI.Exception) as raised:
        call(*args)
    return raised.value


def test_a_batch_starts_sends_and_receives_in_order(comm):
    out, into = np.arange(8.0).reshape(4, 2), np.zeros((4, 2))
    late = np.zeros(2)
    requests = _native.post_batch(
        comm._communicator,
        [
            (RECEIVE, into[0], 0, 1),
            (SEND, out[0], 0, 1),
            (RECEIVE, [into[1], MPI.DOUBLE], MPI.ANY_SOURCE, MPI.ANY_TAG),
            (RECEIVE, None, MPI.PROC_NULL, 0),
            (SEND, out[1], 0, 1),
            (SEND, out[2], 0, 1),
            (SEND, out[3], np.int64(0), 2.0),
            (RECEIVE, late, 0, 1),
            (RECEIVE, into[3], 0, 2),
        ],
    )
    assert [type(request) for request in requests] == [MPI.Request] * 9
    MPI.Request.Waitall(requests)
    into[2] = late
    assert np.array_equal(into, out)
    assert _native.post_batch(comm._communicator, ()) == []


def test_a_batch_unpacks_what_it_received_and_sends_what_it_packed(comm):
    column = MPI.DOUBLE.Create_vector(4, 1, 3).Commit()
    out, into = np.arange(12.0).reshape(4, 3), np.zeros((4, 3))
    requests = _native.post_batch(
        comm._communicator, [(RECEIVE, [into, 1, column], 0, 1), (SEND, [out, 1, column], 0, 1)]
    )
    MPI.Request.Waitall(requests)
    assert np.array_equal(into[:, 0], out[:, 0])
    assert not into[:, 1:].any()
    column.Free()


@pytest.mark.parametrize(
    "wrong",
    [(SEND, b"x", 7, 1), (RECEIVE, bytearray(1), 0, -9), (RECEIVE, b"x", 0, 1), (SEND, b"x")],
)
def test_nothing_of_a_batch_is_posted_where_an_argument_is_wrong(comm, wrong):
    with pytest.raises(Exception, match=r".+"):
        _native.post_batch(comm._communicator, [(SEND, b"first", 0, 1), wrong])
    assert not comm.Iprobe()


def test_what_cannot_be_started_is_complete_with_its_error(revoked):
    requests = _native.post_batch(
        revoked._communicator, [(SEND, b"x", 0, 1), (RECEIVE, bytearray(1), 0, 1)]
    )
    assert all(request.Get_status() for request in requests)
    assert error_of(MPI.Request.Waitall, requests).Get_error_class() == MPI.ERR_IN_STATUS
    send, receive = _native.post_batch(
        revoked._communicator, [(SEND, b"x", 0, 1), (RECEIVE, bytearray(1), 0, 1)]
    )
    for request in (send, receive):
        error = error_of(request.Wait)
        assert (error.name, "the communicator was revoked" in str(error)) == ("ERR_REVOKED", True)
        assert not request


def test_a_batch_keeps_its_buffers_until_it_is_done(comm):
    before = sys.getrefcount(into := np.zeros(100_000))
    requests = _native.post_batch(
        comm._communicator, [(RECEIVE, into, 0, 1), (SEND, np.ones(100_000), 0, 1)]
    )
    assert sys.getrefcount(into) > before
    MPI.Request.Waitall(requests)
    assert sys.getrefcount(into) == before
    assert (into == 1).all()


def test_startall_takes_requests_of_every_kind(comm):
    column = MPI.DOUBLE.Create_vector(4, 1, 3).Commit()
    out, into = np.zeros((6, 12)), np.zeros((6, 12))
    requests = [
        comm.Recv_init(into[0], 0, 0),
        comm.Psend_init(out[1], 2, 0, 1),
        comm.Send_init(out[0], 0, 0),
        MPI.COMM_SELF._library.Send_init(comm, b"library", MPI.PROC_NULL),
        comm.Recv_init([into[2], 1, column], 0, 2),
        comm.Precv_init(into[1], 2, 0, 1),
        MPI.Prequest(comm.Ssend_init([out[2], 1, column], 0, 2)),
        comm.Recv_init(into[3], MPI.PROC_NULL, 3),
        comm.Recv_init(into[4], MPI.ANY_SOURCE, MPI.ANY_TAG),
        comm.Rsend_init(out[4], 0, 4),
    ]
    for turn in range(1, 4):
        out[:] = np.arange(12) * turn
        MPI.Prequest.Startall(requests)
        requests[1].Pready_range(0, 1)
        MPI.Request.Waitall(requests)
        assert (into[[0, 1, 4]] == out[[0, 1, 4]]).all()
        assert (into[2, ::3] == out[2, ::3]).all()
        assert not into[3].any()
    for request in requests:
        request.Free()
    column.Free()


@pytest.mark.parametrize("wrong", ["active", "twice", "freed"])
def test_startall_starts_nothing_beside_one_that_cannot_be_started(comm, wrong):
    into = np.zeros((3, 1))
    first, second, third = (comm.Recv_init(into[i], 0, i) for i in range(3))
    requests = [first, second, first if wrong == "twice" else third]
    if wrong == "active":
        third.Start()
    elif wrong == "freed":
        third.Free()
    assert error_of(MPI.Prequest.Startall, requests).name == "ERR_REQUEST"
    assert (first._state, second._state) == ("inactive", "inactive")
    first.Start()
    comm.Send(np.ones(1), 0, 0)
    first.Wait()
    assert into[0, 0] == 1
    if wrong == "active":
        third.Cancel()
        third.Wait()


def test_a_send_that_fails_in_the_middle_of_a_startall_leaves_the_others_started(comm, revoked):
    out, into = np.ones((2, 4)), np.zeros((2, 4))
    bad = revoked.Send_init(out[0], 0, 0)
    requests = [
        comm.Recv_init(into[0], 0, 0),
        bad,
        comm.Recv_init(into[1], 0, 1),
        comm.Send_init(out[0], 0, 0),
        comm.Send_init(out[1], 0, 1),
    ]
    error = error_of(MPI.Prequest.Startall, requests)
    assert error.name == "ERR_REVOKED"
    assert error.context == revoked._communicator.number
    assert [request._state for request in requests] == ["active", "inactive", *["active"] * 3]
    MPI.Request.Waitall(requests)
    assert (into == 1).all()


@pytest.mark.parametrize("name", ["Sendrecv", "Isendrecv"])
def test_nothing_is_left_of_a_send_and_receive_that_cannot_be_posted(revoked, name):
    before = _native.stats()["operations"]
    error = error_of(getattr(revoked, name), np.ones(4), 0, 1, np.zeros(4), 0, 1)
    assert error.name == "ERR_REVOKED"
    assert _native.stats()["operations"] == before


def test_batches_of_two_threads_do_not_mix(comm):
    ready = Event()
    failed = []

    def run(tag):
        out, into = np.full((16, 4), float(tag)), np.zeros((16, 4))
        parts = [(RECEIVE, row, 0, tag) for row in into] + [(SEND, row, 0, tag) for row in out]
        ready.wait()
        for turn in range(100):
            out[:] = np.arange(16)[:, None] + 100 * turn
            MPI.Request.Waitall(_native.post_batch(comm._communicator, parts))
            if not np.array_equal(into, out):
                failed.append((tag, turn))

    threads = [Thread(target=run, args=(tag,)) for tag in (1, 2)]
    for thread in threads:
        thread.start()
    ready.set()
    for thread in threads:
        thread.join()
    assert not failed
