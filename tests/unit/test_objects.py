"""Objects travel between a process and itself."""

from __future__ import annotations

import pickle
import signal
from functools import partial

import numpy as np
import pytest

from mooncake_mpi import MPI

LARGE = {"array": np.arange(300_000.0), "more": [np.ones((500, 500), "f4"), "text"]}
OBJECTS = [None, 0, "text", b"", [1, {"a": (2.5, None)}], np.arange(5), LARGE, b"x" * 3_000_000]


@pytest.fixture
def comm():
    comm = MPI.COMM_SELF.Dup()
    yield comm
    comm.Free()


def equal(left, right):
    if isinstance(left, bytes):
        return left == right
    np.testing.assert_equal(left, right)
    return True


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: type(obj).__name__)
def test_every_kind_of_send_meets_every_kind_of_receive(comm, obj):
    request = comm.irecv(source=0, tag=3)
    comm.send(obj, 0, 3)
    assert equal(request.wait(), obj)
    for start in (comm.isend, comm.issend, comm.ibsend):
        request = start(obj, 0, 3)
        status = MPI.Status()
        assert equal(comm.recv(source=0, tag=3, status=status), obj)
        assert (status.source, status.tag) == (0, 3)
        assert request.wait() is None
    request = comm.irecv()
    comm.ssend(obj, 0)
    assert equal(request.wait(), obj)
    comm.bsend(obj, 0, 3)
    assert equal(comm.recv(), obj)
    assert equal(comm.sendrecv(obj, 0, 1, None, 0, 1), obj)


def test_a_blocked_send_of_a_large_object_meets_a_receive_that_nobody_waits_for(comm):
    request = comm.irecv(source=0)
    comm.ssend(LARGE, 0)
    assert equal(request.wait(), LARGE)


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: type(obj).__name__)
def test_a_matched_message_is_received_as_an_object(comm, obj):
    for receive in ("recv", "irecv"):
        request = comm.isend(obj, 0, 5)
        assert comm.probe(0, 5) is True
        assert comm.iprobe(0, 5) is True
        message = comm.mprobe(0, 5) if receive == "recv" else comm.improbe(0, 5)
        got = message.recv() if receive == "recv" else message.irecv().wait()
        assert equal(got, obj)
        request.wait()


def test_a_pickle_stream_is_received_with_a_buffer_call(comm):
    request = comm.isend({"a": 1}, 0)
    into = bytearray(100)
    comm.Recv(into, 0)
    request.wait()
    assert pickle.loads(into) == {"a": 1}  # noqa: S301


def test_a_pickle_stream_sent_with_a_buffer_call_is_an_object(comm):
    request = comm.Isend(pickle.dumps({"a": 1}), 0)
    assert comm.recv() == {"a": 1}
    request.Wait()


def test_an_empty_message_is_none(comm):
    request = comm.Isend(b"", 0)
    assert comm.recv() is None
    request.Wait()


def test_objects_and_buffers_keep_their_order(comm):
    requests = [comm.isend("first", 0), comm.Isend(pickle.dumps("second"), 0), comm.isend(3, 0)]
    assert [comm.recv() for _ in requests] == ["first", "second", 3]
    MPI.Request.waitall(requests)


class Unpickled:
    """Calls a function, once, while it is unpickled."""

    on_load = None

    def __init__(self, data=b""):
        self.data = data

    def __setstate__(self, state):
        function, Unpickled.on_load = Unpickled.on_load, None
        if function is not None:
            function()
        self.__dict__.update(state)


class LeftError(Exception):
    """What a signal's handler raises, or an object."""


class Leaver:
    """Handlers of signals."""

    def method(self, *_):
        raise LeftError

    def __call__(self, *_):
        raise LeftError


def leave(*_):
    """Another."""
    raise LeftError


HANDLERS = {
    "KeyboardInterrupt": signal.default_int_handler,
    "function": leave,
    "method": Leaver().method,
    "object": Leaver(),
    "partial": partial(leave, 1),
}
RECEIVES = {
    "recv": lambda comm: comm.recv(),
    "with a status": lambda comm: comm.recv(None, 0, 7, MPI.Status()),
    "sendrecv": lambda comm: comm.sendrecv(None, MPI.PROC_NULL),
    "matched": lambda comm: comm.mprobe().recv(),
}
ENDS = {
    "wait": lambda request: request.wait(),
    "test": lambda request: request.test()[1],
    "waitall": lambda request: MPI.Request.waitall([MPI.REQUEST_NULL, request])[1],
    "waitany": lambda request: MPI.Request.waitany([request])[1],
    "testall": lambda request: MPI.Request.testall([request])[1][0],
    "waitsome": lambda request: MPI.Request.waitsome([request])[1][0],
    "a copy's wait": lambda request: MPI.Request(request).wait(),
}


@pytest.mark.parametrize("nbytes", [10, 1_000_000])
@pytest.mark.parametrize("receive", RECEIVES.values(), ids=RECEIVES)
@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_a_signal_that_interrupts_unpickling_leaves_the_message_in_the_queue(
    comm, monkeypatch, handler, receive, nbytes
):
    previous = signal.signal(signal.SIGINT, handler)
    data = np.arange(nbytes, dtype="u1")
    requests = [comm.isend(Unpickled(data), 0, 7), comm.isend("second", 0, 7)]
    try:
        monkeypatch.setattr(Unpickled, "on_load", lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises((KeyboardInterrupt, LeftError)):
            receive(comm)
    finally:
        signal.signal(signal.SIGINT, previous)
    status = MPI.Status()
    comm.probe(status=status)
    assert (status.source, status.tag) == (0, 7)
    assert status.Get_count(MPI.BYTE) > nbytes
    assert (comm.recv().data == data).all()
    assert comm.recv() == "second"
    MPI.Request.waitall(requests)


@pytest.mark.parametrize("nbytes", [10, 1_000_000])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("buf", [None, 2_000_000], ids=["", "buffer"])
@pytest.mark.parametrize("matched", [False, True], ids=["", "matched"])
def test_a_request_whose_unpickling_a_signal_interrupts_keeps_its_message(
    comm, monkeypatch, end, nbytes, buf, matched
):
    data = np.arange(nbytes, dtype="u1")
    send = comm.isend(Unpickled(data), 0, 7)
    receive = comm.mprobe(0, 7).irecv() if matched else comm.irecv(buf, 0, 7)
    send.wait()
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(Unpickled, "on_load", lambda: signal.raise_signal(signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                end(receive)
        assert receive
    status = MPI.Status()
    assert receive.Get_status(status)
    assert (status.source, status.tag) == (0, 7)
    assert (end(receive).data == data).all()
    assert not receive


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_request_whose_object_raises_has_ended(comm, monkeypatch, end):
    send = comm.isend(Unpickled(), 0, 7)
    receive = comm.irecv(None, 0, 7)
    monkeypatch.setattr(Unpickled, "on_load", leave)
    with pytest.raises(LeftError):
        end(receive)
    assert not receive
    send.wait()


def test_a_request_that_was_interrupted_and_dropped_frees_its_message(comm, monkeypatch):
    send = comm.isend(Unpickled(np.zeros(1_000_000, "u1")), 0, 7)
    receive = comm.irecv(None, 0, 7)
    monkeypatch.setattr(Unpickled, "on_load", lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        receive.wait()
    receive.Free()
    assert not receive
    send.wait()


@pytest.mark.parametrize("receive", RECEIVES.values(), ids=RECEIVES)
def test_a_message_whose_object_raises_has_been_received(comm, monkeypatch, receive):
    monkeypatch.setattr(Unpickled, "on_load", leave)
    requests = [comm.isend(Unpickled(), 0, 7), comm.isend("second", 0, 7)]
    with pytest.raises(LeftError):
        receive(comm)
    assert comm.recv() == "second"
    assert not comm.iprobe()
    MPI.Request.waitall(requests)


def test_a_communicator_freed_by_an_interrupted_unpickling_is_no_place_for_the_message(
    comm, monkeypatch
):
    def free_and_interrupt():
        own.Free()
        signal.raise_signal(signal.SIGINT)

    own = comm.Dup()
    request = own.isend(Unpickled(), 0)
    monkeypatch.setattr(Unpickled, "on_load", free_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        own.recv()
    request.wait()


def test_proc_null_gives_none_and_pickles_nothing(comm):
    comm.send(lambda: None, MPI.PROC_NULL)
    assert comm.isend(lambda: None, MPI.PROC_NULL).wait() is None
    status = MPI.Status()
    assert comm.recv(source=MPI.PROC_NULL, status=status) is None
    assert (status.source, status.tag) == (MPI.PROC_NULL, MPI.ANY_TAG)
    assert comm.irecv(source=MPI.PROC_NULL).wait() is None
    assert comm.sendrecv(1, MPI.PROC_NULL, source=MPI.PROC_NULL) is None


def test_waitall_gives_the_objects_in_order(comm):
    receives = [comm.irecv(source=0, tag=tag) for tag in range(4)]
    sends = [comm.isend([tag] * 1000, 0, tag) for tag in (2, 0, 3, 1)]
    assert MPI.Request.waitall(receives + sends) == [[tag] * 1000 for tag in range(4)] + [None] * 4


def test_the_deprecated_buffer_limits_the_message_and_warns(comm):
    for buf in (1000, bytearray(1000)):
        request = comm.isend("short", 0)
        with pytest.warns(UserWarning, match="'buf' argument is deprecated"):
            assert comm.recv(buf) == "short"
        request.wait()
        request = comm.irecv(buf)
        comm.send("short", 0)
        assert request.wait() == "short"


def test_a_message_longer_than_the_given_buffer_is_an_error_and_nothing_else_is_lost(comm):
    request = comm.irecv(10)
    comm.send("a text of more than ten bytes", 0)
    with pytest.raises(MPI.Exception) as caught:
        request.wait()
    assert caught.value.Get_error_class() == MPI.ERR_TRUNCATE
    request = comm.irecv()
    comm.send("next", 0)
    assert request.wait() == "next"


def test_an_object_does_not_change_with_the_buffer_that_it_was_received_in(comm):
    into = bytearray(4_000_000)
    request = comm.irecv(into)
    comm.send(LARGE["array"], 0)
    array = request.wait()
    into[:] = bytes(len(into))
    assert equal(array, LARGE["array"])


def test_a_message_that_is_no_pickle_says_so_and_the_next_one_works(comm):
    request = comm.Isend(b"\xffno pickle", 0)
    with pytest.raises(pickle.UnpicklingError, match="invalid load key"):
        comm.recv()
    request.Wait()
    request = comm.isend(1, 0)
    assert comm.recv() == 1
    request.wait()


@pytest.mark.parametrize(("dest", "tag", "error"), [(7, 0, MPI.ERR_RANK), (0, -7, MPI.ERR_TAG)])
def test_a_wrong_rank_or_tag_is_mpi_s_error(comm, dest, tag, error):
    for send in (comm.send, comm.isend, comm.ssend, comm.bsend):
        with pytest.raises(MPI.Exception) as caught:
            send("x", dest, tag)
        assert caught.value.Get_error_class() == error


def test_a_freed_communicator_is_an_err_comm():
    comm = MPI.COMM_SELF.Dup()
    comm.Free()
    for call in (lambda: comm.send(1, 0), comm.irecv, comm.recv):
        with pytest.raises(MPI.Exception) as caught:
            call()
        assert caught.value.Get_error_class() == MPI.ERR_COMM
