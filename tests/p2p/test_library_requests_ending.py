"""Requests that mpi4py takes for its own: all that ends requests ends them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from subject import AGAINST_MPI, library, ring_of, wait_until

Request, Status = library.Request, library.Status


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
