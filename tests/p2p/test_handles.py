"""Handles: copies show the same operation, and an address is that of a handle which C code may use."""

from __future__ import annotations

import copy
import ctypes
import pickle

import numpy as np
import pytest
from subject import MPI, library, ring_of, wait_until

WORD = ctypes.c_void_p


def posted(comm, tag):
    """A receive from the left and its array, and what makes it complete."""
    right, left = ring_of(comm)
    array = np.full(2, -1)
    request = comm.Irecv(array, left, tag)
    return request, array, lambda: comm.Send(np.full(2, comm.rank), right, tag)


def test_a_copy_of_a_request_completes_the_same_operation(comm):
    request, array, send = posted(comm, 1)
    other = MPI.Request(request)
    assert type(other) is MPI.Request
    assert other is not request
    assert other == request
    assert other
    send()
    status = MPI.Status()
    other.Wait(status)
    assert status.Get_source() == ring_of(comm)[1]
    assert status.Get_count(MPI.BYTE) == array.nbytes
    assert not other
    assert (array == ring_of(comm)[1]).all()


@pytest.mark.ours  # mpi4py's copy keeps a handle that was freed
def test_the_other_copies_are_null_after_it(comm):
    request, _, send = posted(comm, 1)
    copies = [MPI.Request(request), MPI.Request(MPI.Request(request))]
    send()
    copies[1].Wait()
    status = MPI.Status()
    for one in (request, *copies):
        assert not one
        assert one.Wait(status)
        assert status.Get_source() == MPI.ANY_SOURCE
    assert MPI.Request.Waitany([request, *copies]) == MPI.UNDEFINED


@pytest.mark.ours
@pytest.mark.parametrize("how", ["Waitall", "waitall", "Testall", "Waitsome", "Waitany"])
def test_a_request_and_its_copy_may_stand_in_one_list(comm, how):
    request, array, send = posted(comm, 2)
    send()
    getattr(MPI.Request, how)([MPI.Request(request), request])
    request.Wait()
    assert (array == ring_of(comm)[1]).all()


def test_a_copy_gives_the_object(comm):
    right, left = ring_of(comm)
    request = comm.irecv(source=left, tag=3)
    comm.send({"from": comm.rank}, right, 3)
    assert MPI.Request(request).wait() == {"from": left}


def test_a_copy_of_a_persistent_request_starts_it(comm):
    right, left = ring_of(comm)
    array = np.zeros(2)
    request = comm.Recv_init(array, left, 4)
    other = MPI.Prequest(request)
    assert type(other) is MPI.Prequest
    assert other == request
    for number in (1, 2):
        other.Start()
        comm.Send(np.full(2, float(number)), right, 4)
        request.Wait()
        assert (array == number).all()
    MPI.Prequest.Startall([other])
    comm.Send(np.full(2, 3.0), right, 4)
    MPI.Request(request).Wait()
    assert (array == 3).all()
    request.Free()


@pytest.mark.ours  # Open MPI's partitioned module needs other progress
def test_a_copy_of_a_partitioned_request_has_its_partitions(comm):
    right, left = ring_of(comm)
    sent, received = np.arange(4.0), np.zeros(4)
    receive = MPI.Prequest(comm.Precv_init(received, 2, left, 5))
    send = MPI.Prequest(comm.Psend_init(sent, 2, right, 5))
    MPI.Prequest.Startall([receive, send])
    send.Pready_range(0, 1)
    send.Wait()
    receive.Wait()
    assert (received == sent).all()
    send.Free()
    receive.Free()


@pytest.mark.ours  # as above
@pytest.mark.parametrize("wait", [MPI.Request.Waitall, MPI.Request.Waitsome])
def test_copies_of_partitioned_requests_are_waited_for_together(comm, wait):
    right, left = ring_of(comm)
    sent, received = np.arange(4.0), np.zeros(4)
    made = [comm.Precv_init(received, 2, left, 5), comm.Psend_init(sent, 2, right, 5)]
    copies = [MPI.Prequest(request) for request in made]
    for _ in range(2):
        received[:] = 0
        MPI.Prequest.Startall(copies)
        made[1].Pready_range(0, 1)
        wait(copies)
        MPI.Request.Waitall(copies)
        assert (received == sent).all()
    for request in made:
        request.Free()


def test_only_a_persistent_request_becomes_one(comm):
    request, _, send = posted(comm, 6)
    with pytest.raises(TypeError):
        MPI.Prequest(request)
    with pytest.raises(TypeError):
        MPI.Request(7)
    with pytest.raises(TypeError):
        MPI.Message(7)
    send()
    request.Wait()


@pytest.mark.ours
def test_a_request_of_the_library_is_copied_too(comm):
    grequest = library.Grequest.Start()
    other = MPI.Request(grequest)
    assert type(other) is MPI.Request
    assert other == grequest
    assert MPI._addressof(other) == MPI._addressof(grequest)
    assert not other.Test()
    assert not MPI.Request.Testall([other])
    grequest.Complete()
    assert MPI.Request.Waitany([other]) == 0
    assert not other

    barrier = library.COMM_WORLD.Ibarrier()
    MPI.Request.Waitall([MPI.Request(barrier), MPI.Request()])
    request = library.COMM_SELF.irecv(source=0, tag=7)
    library.COMM_SELF.send("mine", 0, 7)
    assert MPI.Request.waitall([MPI.Request(request)]) == ["mine"]


def test_a_subclass_shares_the_operation_it_is_given(comm):
    class Named(MPI.Request):
        name = "mine"

    request, array, send = posted(comm, 8)
    mine = Named(request)
    send()
    MPI.Request.Waitall([mine])
    assert mine.name == "mine"
    assert (array == ring_of(comm)[1]).all()
    assert not Named()


@pytest.mark.ours  # mpi4py's copy of the handle stays after the message was received
def test_a_copy_of_a_message_receives_it(comm):
    right, left = ring_of(comm)
    request = comm.isend("words", right, 9)
    message = comm.mprobe(left, 9)
    other = MPI.Message(message)
    assert type(other) is MPI.Message
    assert other == message
    assert other.recv() == "words"
    assert not other
    assert not message
    with pytest.raises(MPI.Exception):
        message.recv()
    request.wait()


@pytest.mark.ours
def test_a_message_of_the_library_is_copied_too(comm):
    request = library.COMM_SELF.isend("words", 0, 9)
    message = library.COMM_SELF.mprobe(0, 9)
    other = MPI.Message(message)
    assert other == message
    assert other.irecv().wait() == "words"
    assert not message
    request.wait()
    MPI.Message(MPI.MESSAGE_NO_PROC).Recv(bytearray(1))
    assert MPI.MESSAGE_NO_PROC


def test_a_handle_makes_the_request_or_message_again(comm):
    right, left = ring_of(comm)
    request = comm.Recv_init(bytearray(5), left, 10)
    assert MPI.Prequest.fromhandle(request.handle) == request
    assert type(MPI.Prequest.fromhandle(request.handle)) is MPI.Prequest
    request.Free()
    send = comm.isend(1, right, 11)
    message = comm.mprobe(left, 11)
    assert MPI.Message.fromhandle(message.handle) == message
    assert message.recv() == 1
    send.wait()


@pytest.mark.parametrize("kind", ["new", "completed", "subclass", "copy"])
def test_c_code_may_fill_a_request_that_has_no_operation(comm, kind):
    request = MPI.Request()
    if kind == "completed":
        request, _, send = posted(comm, 12)
        send()
        request.Wait()
    elif kind == "subclass":
        request = type("Mine", (MPI.Request,), {})()
    elif kind == "copy":
        request = MPI.Request(MPI.REQUEST_NULL)
    array = np.full(1, -1, "i")
    mpi, where = ctypes.CDLL(MPI.__file__), WORD(MPI._addressof(request))
    self_, int_ = WORD(library._handleof(library.COMM_SELF)), WORD(library._handleof(library.INT))
    assert mpi.MPI_Irecv(array.ctypes.data_as(WORD), 1, int_, 0, 12, self_, where) == 0
    assert request
    assert not request.Test()
    library.COMM_SELF.Send(np.full(1, 7, "i"), 0, 12)
    assert MPI.Request.Waitall([request])
    assert array[0] == 7
    assert not MPI.REQUEST_NULL
    assert not request


def test_c_code_may_fill_a_message_that_has_none(comm):
    message = MPI.Message()
    mpi, where = ctypes.CDLL(MPI.__file__), WORD(MPI._addressof(message))
    send = library.COMM_SELF.Isend(np.full(1, 7, "i"), 0, 13)
    self_, status = WORD(library._handleof(library.COMM_SELF)), MPI.Status()
    assert mpi.MPI_Mprobe(0, 13, self_, where, WORD(MPI._addressof(status))) == 0
    array = np.zeros(1, "i")
    message.Recv(array)
    assert array[0] == 7
    send.Wait()


@pytest.mark.parametrize("late", [False, True])
def test_c_code_may_wait_for_a_request(comm, late):
    right, left = ring_of(comm)
    request, array, send = posted(comm, 14)
    if not late:
        send()
    mpi, status = ctypes.CDLL(MPI.__file__), MPI.Status()
    where = WORD(MPI._addressof(request))
    assert MPI._handleof(request) == request.handle
    assert request
    if late:
        sending = comm.Isend(np.full(2, comm.rank), right, 14)
    assert mpi.MPI_Wait(where, WORD(MPI._addressof(status))) == 0
    assert (array == left).all()
    assert (status.Get_source(), status.Get_tag()) == (left, 14)
    assert status.Get_count(MPI.BYTE) == array.nbytes
    assert not request
    if late:
        sending.Wait()


@pytest.mark.ours  # mpi4py's copy keeps a handle that was freed
def test_a_request_whose_address_was_asked_for_is_a_request(comm):
    for end in (
        lambda request: request.wait(),
        lambda request: request.test()[1],
        lambda request: MPI.Request.waitall([request])[0],
        lambda request: MPI.Request.wait(MPI.Request(request)),
    ):
        right, left = ring_of(comm)
        request = comm.irecv(source=left, tag=15)
        assert MPI._addressof(request) == MPI._addressof(request)
        send = comm.isend(comm.rank, right, 15)
        comm.Barrier()
        wait_until(request.Get_status)
        assert end(request) == left
        assert not request
        send.wait()


@pytest.mark.ours
def test_an_operation_without_a_handle_has_no_address(comm):
    right, left = ring_of(comm)
    request = comm.Recv_init(bytearray(5), left, 14)
    send = comm.isend(1, right, 15)
    message = comm.mprobe(left, 15)
    for one in (request, message):
        for ask in (MPI._addressof, MPI._handleof):
            with pytest.raises(MPI.Exception) as caught:
                ask(one)
            assert caught.value.Get_error_class() == MPI.ERR_REQUEST
    assert message.recv() == 1
    request.Free()
    send.wait()


@pytest.mark.ours
def test_requests_and_messages_carry_mpi4py_s_names(comm):
    right, left = ring_of(comm)
    one_of_each = [
        posted(comm, 16)[0],
        comm.Isendrecv(bytearray(1), right, 17, bytearray(1), left, 17),
        comm.Recv_init(bytearray(1), left, 18),
        comm.Precv_init(bytearray(2), 1, left, 19),
    ]
    comm.Send(np.zeros(2, int), right, 16)
    for request in one_of_each[:2]:
        request.Wait()
    for request in one_of_each:
        name = "Prequest" if isinstance(request, MPI.Prequest) else "Request"
        assert repr(request).startswith(f"<mpi4py.MPI.{name} object at ")
        assert type(request).__module__ == "mpi4py.MPI"
        assert type(request).__name__ == name
    for request in one_of_each[2:]:
        request.Free()
    send = comm.isend(1, right, 20)
    message = comm.mprobe(left, 20)
    assert repr(message).startswith("<mpi4py.MPI.Message object at ")
    message.recv()
    send.wait()


def test_classes_and_null_handles_are_pickled(comm):
    for kind in (kind for kind in vars(MPI).values() if isinstance(kind, type)):
        assert pickle.loads(pickle.dumps(kind)) is kind  # noqa: S301
        assert copy.copy(kind) is kind
    done = comm.isend(1, MPI.PROC_NULL)
    done.wait()
    for null in (done, MPI.Request(), MPI.Prequest(), MPI.Message()):
        assert not pickle.loads(pickle.dumps(null))  # noqa: S301
    assert pickle.loads(pickle.dumps(MPI.REQUEST_NULL)) is MPI.REQUEST_NULL  # noqa: S301
    request, _, send = posted(comm, 21)
    with pytest.raises(ValueError, match=r"cannot (serialize|pickle)"):
        pickle.dumps(request)
    send()
    request.Wait()


@pytest.mark.ours
def test_the_library_s_classes_count_as_subclasses(comm):
    assert issubclass(library.Request, MPI.Request)
    assert issubclass(library.Prequest, MPI.Prequest)
    assert issubclass(library.Message, MPI.Message)
    assert not issubclass(library.Request, MPI.Prequest)
    assert not issubclass(library.Comm, MPI.Request)
