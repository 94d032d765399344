"""Requests that mpi4py takes for its own: persistent, matched, partitioned and others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from subject import library, ring_of

Request, Prequest, Status = library.Request, library.Prequest, library.Status
Message = library.Message


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
