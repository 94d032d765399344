"""Requests of a communicator that was wrapped by hand are mpi4py's own too: what it has by class takes them."""

from __future__ import annotations

import pickle
import time
from weakref import ref

import numpy as np
import pytest
from subject import AGAINST_MPI, library, ring_of, wait_until

import mooncake_mpi

MPICH = library.get_vendor()[0] == "MPICH"
OLD_MPICH = MPICH and library.get_vendor()[1] < (4, 1)
Request, Prequest, Status = library.Request, library.Prequest, library.Status
Message = library.Message


class Thing:
    """An object that can be referred to weakly."""


class Counted:
    """An object that was received, and counts those that are there."""

    living = 0

    def __setstate__(self, state):
        type(self).living += 1
        self.__dict__.update(state, received=True)

    def __getstate__(self):
        return {"sent": True}

    def __del__(self):
        type(self).living -= "received" in self.__dict__


CALLS = []


@pytest.fixture(scope="module")
def made_handler():
    """Of such handlers mpi4py can make a small number only."""
    made = library.Comm.Create_errhandler(
        lambda whose, code: CALLS.append((whose.handle, library.Get_error_class(code)))
    )
    yield made
    made.Free()


@pytest.fixture
def handler(made_handler):
    """An error handler that notes its calls."""
    yield made_handler
    CALLS.clear()


@pytest.fixture
def wrapped(comm):
    world = library.COMM_WORLD if AGAINST_MPI else mooncake_mpi.Intracomm(library.COMM_WORLD)
    duplicate = world.Dup()
    yield duplicate
    library.COMM_WORLD.Barrier()
    duplicate.Free()


def each_any(ask):
    """Ask for any one until all have ended: statuses by index."""

    def end(requests):
        found = {}
        while len(found) < len(requests):
            status = Status()
            index = ask(requests, status)
            if index is not None:
                assert index not in found
                found[index] = status
        return [found[index] for index in range(len(requests))]

    return end


def each_some(ask):
    def end(requests):
        found = {}
        while len(found) < len(requests):
            statuses = [Status() for _ in requests]
            indices = ask(requests, statuses)
            found.update(zip(indices, statuses, strict=False))
        return [found[index] for index in range(len(requests))]

    return end


def each_all(ask):
    def end(requests):
        statuses = [Status() for _ in requests]
        while not ask(requests, statuses):
            pass
        return statuses

    return end


def one_by_one(ask):
    def end(requests):
        statuses = [Status() for _ in requests]
        for request, status in zip(requests, statuses, strict=True):
            while not ask(request, status):
                pass
        return statuses

    return end


def found_any(requests, status):
    index, flag = Request.Testany(requests, status)
    return index if flag else None


def looked_at(request, status):
    return Request.Get_status(request, status) and request.Wait()


ENDS = {
    "Waitall": each_all(Request.Waitall),
    "waitall": each_all(Request.waitall),
    "Testall": each_all(Request.Testall),
    "testall": each_all(lambda requests, statuses: Request.testall(requests, statuses)[0]),
    "Waitany": each_any(Request.Waitany),
    "waitany": each_any(lambda requests, status: Request.waitany(requests, status)[0]),
    "Testany": each_any(found_any),
    "Waitsome": each_some(Request.Waitsome),
    "Testsome": each_some(Request.Testsome),
    "Wait": one_by_one(Request.Wait),
    "wait": one_by_one(lambda request, status: [Request.wait(request, status)]),
    "Test": one_by_one(Request.Test),
    "test": one_by_one(lambda request, status: Request.test(request, status)[0]),
    "its own Wait": one_by_one(lambda request, status: request.Wait(status)),
    "its own Test": one_by_one(lambda request, status: request.Test(status)),
    "its own test": one_by_one(lambda request, status: request.test(status)[0]),
}
# MPICH 4 does not ask extended generalized requests there.
if library.get_vendor()[0] != "MPICH" or library.get_vendor()[1] >= (5, 0, 0):
    ENDS["Get_status"] = one_by_one(looked_at)


@pytest.mark.parametrize("nbytes", [0, 80, 1 << 20])
@pytest.mark.parametrize("sender_is_late", [False, True])
@pytest.mark.parametrize("how", ENDS)
def test_everything_that_ends_requests_of_mpi4py_ends_them(wrapped, how, sender_is_late, nbytes):
    right, left = ring_of(wrapped)
    received, sent = np.full(nbytes, 255, "B"), np.full(nbytes, wrapped.rank, "B")
    if sender_is_late:
        receive = wrapped.Irecv(received, left, 7)
        time.sleep(0.002)
        send = wrapped.Isend(sent, right, 7)
    else:
        send = wrapped.Isend(sent, right, 7)
        time.sleep(0.002)
        receive = wrapped.Irecv(received, left, 7)
    for request in (receive, send):
        assert isinstance(request, Request)
        assert request
    status, _ = ENDS[how]([receive, send])
    assert (received == left).all()
    assert (status.Get_source(), status.Get_tag()) == (left, 7)
    assert status.Get_count(library.BYTE) == nbytes
    assert status.Get_error() == library.SUCCESS
    assert not receive
    assert not send


def test_they_stand_beside_the_library_s_own_requests(wrapped):
    right, left = ring_of(wrapped)
    array = np.zeros(3)
    barrier = library.COMM_WORLD.Ibarrier()
    requests = [barrier, wrapped.Irecv(array, left), Request(), wrapped.Isend(np.ones(3), right)]
    Request.Waitall(requests)
    assert (array == 1).all()
    assert not any(requests)


@pytest.mark.ours
def test_null_requests_may_stand_among_them(wrapped):
    right, left = ring_of(wrapped)
    array = np.zeros(1)
    for wait in (Request.Waitall, Request.waitall):
        receive = wrapped.Irecv(array, left, 2)
        library.COMM_WORLD.Barrier()
        send = wrapped.Issend(np.ones(1), right, 2)
        wait([Request(), receive, Request(), send, library.REQUEST_NULL])
        assert array[0] == 1


@pytest.mark.parametrize("late", [False, True])
def test_objects_come_out_of_what_mpi4py_waits_for(wrapped, late):
    right, left = ring_of(wrapped)
    thing = {"from": wrapped.rank, "data": np.arange(20_000)}
    for end in (
        lambda receive, send: Request.waitall([receive, send])[0],
        lambda receive, send: (Request.wait(receive), Request.wait(send))[0],
        lambda receive, send: (receive.wait(), send.wait())[0],
        lambda receive, send: (send.Wait(), Request.waitany([receive])[1])[1],
        lambda receive, send: (send.Wait(), Request.waitsome([receive])[1][0])[1],
    ):
        receive = wrapped.irecv(source=left, tag=3) if late else None
        send = wrapped.isend(thing if not AGAINST_MPI else {"from": wrapped.rank}, right, 3)
        receive = receive or wrapped.irecv(source=left, tag=3)
        assert end(receive, send)["from"] == left


@pytest.mark.ours
def test_a_truncated_message_raises_with_its_class(wrapped, capfd):
    right, left = ring_of(wrapped)
    for end, expected in (
        (lambda request, status: Request.Waitall([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.Testall([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.Waitsome([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.Testsome([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.waitall([request], [status]), library.ERR_IN_STATUS),
        (lambda request, status: Request.Waitany([request], status), library.ERR_TRUNCATE),
        (lambda request, status: Request.Testany([request], status), library.ERR_TRUNCATE),
        (lambda request, _: Request.Testany([request]), library.ERR_TRUNCATE),
        (lambda request, _: Request.Wait(request), library.ERR_TRUNCATE),
        (Request.Test, library.ERR_TRUNCATE),
        (Request.Wait, library.ERR_TRUNCATE),
        (lambda request, status: request.Wait(status), library.ERR_TRUNCATE),
        (lambda request, status: request.Test(status), library.ERR_TRUNCATE),
    ):
        send = wrapped.Isend(np.zeros(3), right, 4)
        wrapped.Probe(left, 4)
        array, status = np.full(2, -1.0), Status()
        receive = wrapped.Irecv(array[:1], left, 4)
        with pytest.raises(library.Exception) as caught:
            end(receive, status)
        found = caught.value.Get_error_class()
        if expected == library.ERR_IN_STATUS:
            assert found == expected
            found = library.Get_error_class(status.Get_error())
        # MPICH makes one class of all errors of generalized requests.
        own = isinstance(caught.value, mooncake_mpi.Error)
        assert found == library.ERR_TRUNCATE or (MPICH and not own and found == library.ERR_OTHER)
        assert array[1] == -1
        assert not receive
        send.Wait()


@pytest.mark.ours
@pytest.mark.parametrize(
    ("by_library", "end"),
    [
        (True, lambda request: Request.Waitall([request])),
        (True, lambda request: Request.Waitany([request])),
        (True, lambda request: Request.Waitsome([request])),
        (True, lambda request: Request.Testall([request])),
        (True, Request.Wait),
        (False, lambda request: request.Wait()),
        (False, lambda request: request.Test()),
    ],
)
def test_an_error_goes_to_the_handler_of_its_communicator_once(wrapped, handler, by_library, end):
    right, left = ring_of(wrapped)
    send = wrapped.Isend(np.zeros(3), right, 4)
    wrapped.Probe(left, 4)
    receive = wrapped.Irecv(np.zeros(2), left, 4)
    wrapped.Set_errhandler(handler)
    with pytest.raises(library.Exception):
        end(receive)
    # an old MPICH bears no call within its own
    times = 0 if by_library and OLD_MPICH else 1
    assert [(wrapped.handle, library.ERR_TRUNCATE)] * times == CALLS
    send.Wait()
    failed = []
    for _ in range(2):  # one that the program does not end tells nobody
        send = wrapped.Isend(np.zeros(3), right, 4)
        wrapped.Probe(left, 4)
        failed.append(wrapped.Irecv(np.zeros(2), left, 4))
        wait_until(failed[-1].Get_status)
        send.Wait()
    failed.pop().Free()
    assert len(CALLS) == times


@pytest.mark.ours
def test_cancel_and_free(wrapped):
    right, left = ring_of(wrapped)
    array = np.zeros(2)
    for cancel, end in (
        (Request.Cancel, Request.Wait),
        (lambda r: r.Cancel(), lambda r, s: r.Wait(s)),
    ):
        status = Status()
        receive = wrapped.Irecv(array, left, 5)
        cancel(receive)
        end(receive, status)
        assert status.Is_cancelled()
    receive = wrapped.Irecv(array, left, 6)
    receive.Free()
    assert not receive
    wrapped.Send(np.full(2, 9.0), right, 6)
    wait_until(lambda: array[1] == 9)


def test_persistent_requests(wrapped):
    right, left = ring_of(wrapped)
    array = np.zeros(2)
    receive, send = wrapped.Recv_init(array, left, 8), wrapped.Send_init(np.full(2, 3.0), right, 8)
    assert receive != send
    for request in (receive, send):
        assert isinstance(request, Prequest)
        assert request != library.REQUEST_NULL
        assert request
        assert Request.Test(request)
    for _ in range(3):
        array[:] = 0
        receive.Start()
        send.Start()
        statuses = [Status(), Status()]
        Request.Waitall([receive, send], statuses)
        assert statuses[0].Get_source() == left
        assert (array == 3).all()
        assert receive
    type(receive).Startall([receive, send])
    receive.Wait()
    send.Wait()
    receive.Free()
    send.Free()
    assert not receive


@pytest.mark.ours
def test_what_the_library_cannot_start_raises(wrapped):
    request = wrapped.Recv_init(bytearray(1), ring_of(wrapped)[1], 8)
    with pytest.raises(library.Exception):
        Prequest.Startall([request])
    with pytest.raises(library.Exception):
        Prequest.Start(request)
    request.Free()
    with pytest.raises(library.Exception):
        request.Start()


@pytest.mark.ours
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("kind", ["mpi4py's", "its own"])
def test_a_copy_shares_the_operation(wrapped, kind, first):
    right, left = ring_of(wrapped)
    array = np.zeros(1)
    request = wrapped.Irecv(array, left, 9)
    copy = Request(request) if kind == "mpi4py's" else type(request)(request)
    assert copy == request
    both = [request, copy]
    send = wrapped.Isend(np.ones(1), right, 9)
    both[first].Wait()
    assert array[0] == 1
    other = both[1 - first]
    if (
        kind == "its own" or first == 1
    ):  # otherwise a handle that mpi4py keeps, as it does of its own
        assert not other
        assert other.Wait()
        assert other.Test()
    send.Wait()


@pytest.mark.ours
def test_a_copy_gives_the_object(wrapped):
    right, left = ring_of(wrapped)
    for end in (
        lambda receive: Request(receive).wait(),
        lambda receive: type(receive)(receive).wait(),
        lambda receive: Request.wait(Request(receive)),
        lambda receive: Request.waitall([Request(receive)])[0],
        lambda receive: Request.waitany([type(receive)(receive)])[1],
    ):
        receive = wrapped.irecv(source=left, tag=16)
        send = wrapped.isend([wrapped.rank], right, 16)
        assert end(receive) == [left]
        assert not receive
        assert receive.wait() is None
        send.wait()
    receive = wrapped.irecv(source=left, tag=17)
    receive.Cancel()
    assert Request.wait(receive) is None


@pytest.mark.ours
def test_an_object_goes_with_its_last_holder(wrapped):
    right, left = ring_of(wrapped)
    receive = wrapped.irecv(source=left, tag=18)
    send = wrapped.isend(Thing(), right, 18)
    thing = ref(Request.waitall([receive, send])[0])
    del receive
    wait_until(lambda: thing() is None)


@pytest.mark.ours
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_an_object_that_nobody_can_ask_for_any_more_goes(wrapped, late, copied):
    right, left = ring_of(wrapped)
    receive = wrapped.irecv(source=left, tag=19)
    if not late:
        send = wrapped.isend(Counted(), right, 19)
        wait_until(receive.Get_status)
        assert Counted.living == 1
    copy = Request(receive) if copied else None
    del receive
    if late:
        send = wrapped.isend(Counted(), right, 19)
        send.wait()
        wrapped.sendrecv(None, right, 20, None, left, 20)  # behind the other message
        time.sleep(0.05)
    if copied:
        assert isinstance(Request.wait(copy), Counted)
        del copy
    wait_until(lambda: Counted.living == 0)
    if not late:
        send.wait()


def test_requests_of_every_other_kind(wrapped):
    right, left = ring_of(wrapped)
    mine, array = np.full(2, float(wrapped.rank)), np.zeros(2)
    Request.Waitall([wrapped.Isendrecv(mine, right, 1, array, left, 1)])
    assert (array == left).all()
    Request.Waitall([wrapped.Isendrecv_replace(array, right, 1, left, 1)])
    wrapped.Sendrecv_replace(array, right, 1, left, 1)
    send = wrapped.Issend(mine, right, 2)
    Request.Waitall([wrapped.Mprobe(left, 2).Irecv(array), send])
    assert (array == left).all()
    send = wrapped.isend("object", right, 2)
    assert Request.waitall([wrapped.mprobe(left, 2).irecv(), send]) == ["object", None]
    Request.Waitall(
        [wrapped.Ibsend(b"", library.PROC_NULL), wrapped.Irecv(array, library.PROC_NULL)]
    )
    duplicate, request = wrapped.Idup()
    Request.Waitall([request])
    Request.Waitall([duplicate.Irecv(array, left), duplicate.Isend(mine, right)])
    duplicate.Free()
    ring = wrapped.Create_cart([wrapped.size], [True])
    Request.Waitall([ring.Irecv(array, left), ring.Isend(mine, right)])
    ring.Free()


@pytest.mark.ours
def test_matched_messages_are_mpi4py_s_too(wrapped):
    right, left = ring_of(wrapped)
    into = np.zeros(3)
    for probe, receive in (
        (wrapped.Mprobe, lambda message: message.Recv(into)),
        (wrapped.Improbe, lambda message: message.Irecv(into).Wait()),
        (wrapped.Improbe, lambda message: Request.Waitall([message.Irecv(into)])),
        (wrapped.mprobe, lambda message: type(message)(message).Recv(into)),
        (wrapped.improbe, lambda message: Message(message) or message.Recv(into)),
    ):
        into[:] = 0
        send = wrapped.Isend(np.arange(3.0), right, 21)
        wrapped.Probe(left, 21)
        message = probe(left, 21)
        assert isinstance(message, Message)
        assert message
        assert message != library.MESSAGE_NULL
        with pytest.raises(ValueError, match=r"cannot (serialize|pickle)"):
            pickle.dumps(message)
        receive(message)
        assert into.tolist() == [0, 1, 2]
        send.Wait()
    for receive in (lambda message: message.recv(), lambda message: message.irecv().wait()):
        send = wrapped.isend([wrapped.rank], right, 22)
        message = wrapped.mprobe(left, 22)
        assert receive(message) == [left]
        assert not message
        assert message == library.MESSAGE_NULL
        send.wait()
    nothing = wrapped.Mprobe(library.PROC_NULL)
    assert nothing == library.MESSAGE_NO_PROC
    nothing.Recv(into)
    assert wrapped.improbe(left, 23) is None


@pytest.mark.ours
def test_partitioned_requests(wrapped):
    right, left = ring_of(wrapped)
    array = np.zeros(4)
    send = wrapped.Psend_init(np.arange(4.0), 2, right, 13)
    receive = wrapped.Precv_init(array, 2, left, 13)
    assert isinstance(send, Prequest)
    for _ in range(2):
        type(send).Startall([send, receive])
        send.Pready_list([1, 0])
        Request.Waitall([send, receive])
        assert (array == np.arange(4.0)).all()
    send.Free()
    receive.Free()


@pytest.mark.ours
def test_scattered_datatypes_are_unpacked_before_the_wait_returns(wrapped):
    right, left = ring_of(wrapped)
    every_other = library.DOUBLE.Create_vector(4, 1, 2).Commit()
    array = np.zeros(8)
    receive = wrapped.Irecv([array, 1, every_other], left, 14)
    Request.Waitall([receive, wrapped.Isend(np.ones(4), right, 14)])
    assert (array == [1, 0] * 4).all()
    every_other.Free()


@pytest.mark.ours
def test_they_look_like_mpi4py_s(wrapped):
    request = wrapped.Irecv(bytearray(1), ring_of(wrapped)[1], 15)
    assert repr(request).startswith("<mpi4py.MPI.Request object at ")
    assert library._addressof(request)
    with pytest.raises(ValueError, match="cannot pickle"):
        pickle.dumps(request)
    with pytest.raises(library.Exception):
        request.Complete()
    request.Cancel()
    request.Wait()
    assert request == library.REQUEST_NULL
    assert not pickle.loads(pickle.dumps(request))  # noqa: S301


@pytest.mark.ours
def test_a_communicator_of_the_drop_in_keeps_the_engine_s_requests(comm):
    for given in (comm, comm.Dup(), comm.Split(0, 0)):
        request = given.Irecv(bytearray(1), 0, 16)
        assert not isinstance(request, Request)
        request.Cancel()
        request.Wait()
        if given is not comm:
            given.Free()
