"""Bad input raises what mpi4py raises, and the next correct call works.

Each bad call is made on the MPI library's communicator too: the exception must be of the same class and, where
it is an MPI error, of the same error class.
"""

from __future__ import annotations

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, library, ring_of


def read_only():
    array = np.zeros(8, np.uint8)
    array.setflags(write=False)
    return array


def strided():
    return np.zeros((8, 8), np.uint8)[:, ::2]


SENDING = {
    "rank too large": lambda comm: comm.Send(bytearray(1), comm.size),
    "rank negative": lambda comm: comm.Send(bytearray(1), -77),
    "nonblocking, rank too large": lambda comm: comm.Isend(bytearray(1), comm.size + 5),
    "persistent, rank too large": lambda comm: comm.Send_init(bytearray(1), comm.size),
    "tag negative": lambda comm: comm.Send(bytearray(1), 0, -5),
    "tag wildcard": lambda comm: comm.Isend(bytearray(1), 0, MPI.ANY_TAG),
    "destination wildcard": lambda comm: comm.Isend(bytearray(1), MPI.ANY_SOURCE),
    "count negative": lambda comm: comm.Send([bytearray(8), -1, MPI.BYTE], 0),
    "displacement past the buffer": lambda comm: comm.Send([bytearray(8), 1, 9, MPI.BYTE], 0),
    "null datatype": lambda comm: comm.Send([bytearray(8), 8, MPI.DATATYPE_NULL], 0),
    "unknown datatype letter": lambda comm: comm.Send([bytearray(8), "no such type"], 0),
    "datatype of another class": lambda comm: comm.Send([bytearray(8), 8, 3.5], 0),
    "strided array": lambda comm: comm.Send(strided(), 0),
    "strided array in a spec": lambda comm: comm.Isend([strided(), MPI.BYTE], 0),
    "not a buffer": lambda comm: comm.Send(object(), 0),
    "a number": lambda comm: comm.Send(5, 0),
    "a string": lambda comm: comm.Send("text", 0),
    "empty spec": lambda comm: comm.Send([], 0),
    "spec too long": lambda comm: comm.Send([bytearray(1), 1, 0, MPI.BYTE, 0], 0),
    "array of objects": lambda comm: comm.Send(np.array([None, {}]), 0),
    "rank of another class": lambda comm: comm.Send(bytearray(1), "0"),
    "tag of another class": lambda comm: comm.Send(bytearray(1), 0, "1"),
    "no destination": lambda comm: comm.Send(bytearray(1)),
    "unknown keyword": lambda comm: comm.Send(bytearray(1), 0, colour=1),
    "too many arguments": lambda comm: comm.Send(bytearray(1), 0, 0, None),
    "object, rank too large": lambda comm: comm.send(1, comm.size),
    "object, tag negative": lambda comm: comm.isend(1, 0, -3),
}
RECEIVING = {
    "rank too large": lambda comm: comm.Recv(bytearray(1), comm.size),
    "rank negative": lambda comm: comm.Irecv(bytearray(1), -77),
    "persistent, rank too large": lambda comm: comm.Recv_init(bytearray(1), comm.size),
    "tag negative": lambda comm: comm.Recv(bytearray(1), 0, -7),
    "count negative": lambda comm: comm.Recv([bytearray(8), -1, MPI.BYTE], 0),
    "null datatype": lambda comm: comm.Recv([bytearray(8), 8, MPI.DATATYPE_NULL], 0),
    "bytes": lambda comm: comm.Recv(b"12345678", 0),
    "bytes in a spec": lambda comm: comm.Recv([b"12345678", MPI.BYTE], 0),
    "read-only array": lambda comm: comm.Recv(read_only(), 0),
    "read-only view": lambda comm: comm.Irecv(memoryview(bytearray(8)).toreadonly(), 0),
    "strided array": lambda comm: comm.Recv(strided(), 0),
    "not a buffer": lambda comm: comm.Irecv(object(), 0),
    "no buffer": lambda comm: comm.Recv(),
    "status of another class": lambda comm: comm.Recv(bytearray(1), 0, 0, 5),
    "probe, rank too large": lambda comm: comm.Probe(comm.size),
    "iprobe, rank negative": lambda comm: comm.Iprobe(-9),
    "mprobe, tag negative": lambda comm: comm.Mprobe(0, -9),
    "improbe, rank too large": lambda comm: comm.Improbe(comm.size),
    "object, rank too large": lambda comm: comm.recv(source=comm.size),
    "object, tag negative": lambda comm: comm.irecv(source=0, tag=-9),
    "object probe, rank too large": lambda comm: comm.iprobe(comm.size),
    "exchange, dest too large": lambda comm: comm.Sendrecv(b"1", comm.size, 0, bytearray(1), 0),
    "exchange, source too large": lambda comm: comm.Sendrecv(b"1", 0, 0, bytearray(1), comm.size),
    "replace, read-only": lambda comm: comm.Sendrecv_replace(b"1", 0, 0, 0),
}
BAD = {f"send: {name}": call for name, call in SENDING.items()}
BAD |= {f"receive: {name}": call for name, call in RECEIVING.items()}
# What one of the MPI libraries answers with another class, a crash or not at all: the standard's answer.
FIXED = {
    "send: tag wildcard": MPI.ERR_TAG,
    "send: destination wildcard": MPI.ERR_RANK,
    "send: null datatype": MPI.ERR_TYPE,
    "receive: null datatype": MPI.ERR_TYPE,
    "receive: mprobe, tag negative": MPI.ERR_TAG,
    "receive: tag negative": MPI.ERR_TAG,
    "receive: object, tag negative": MPI.ERR_TAG,
}


def outcome(call, comm):
    """The exception that a call raises."""
    with pytest.raises(Exception) as raised:  # noqa: PT011
        call(comm)
    return raised.value


@pytest.mark.parametrize("name", BAD)
def test_a_bad_call_raises_as_mpi4py_does_and_the_next_call_works(comm, name):
    ours = outcome(BAD[name], comm)
    if name in FIXED:
        assert isinstance(ours, MPI.Exception)
        assert ours.Get_error_class() == FIXED[name]
    else:
        theirs = outcome(BAD[name], library.COMM_WORLD)
        assert isinstance(ours, type(theirs)), f"{ours!r} instead of {theirs!r}"
        if isinstance(theirs, library.Exception):
            assert ours.Get_error_class() == theirs.Get_error_class()
    dest, source = ring_of(comm)
    into = np.zeros(100, np.uint8)
    request = comm.Isend(pattern(100, 1), dest, 1)
    comm.Recv(into, source, 1)
    request.Wait()
    assert is_pattern(into, 1)


@pytest.mark.broken_in("Open MPI")  # ends the job
def test_a_bad_partitioned_call_raises_and_the_next_call_works(comm):
    for call, error_class in (
        (lambda: comm.Psend_init(bytearray(4), 2, comm.size), MPI.ERR_RANK),
        (lambda: comm.Precv_init(bytearray(4), 2, comm.size, 0), MPI.ERR_RANK),
        (lambda: comm.Psend_init(bytearray(4), -1, 0), MPI.ERR_ARG),
        (lambda: comm.Psend_init(bytearray(4), 2, 0, -5), MPI.ERR_TAG),
    ):
        with pytest.raises(MPI.Exception) as raised:
            call()
        assert raised.value.Get_error_class() == error_class
    dest, source = ring_of(comm)
    request = comm.isend("fine", dest)
    assert comm.recv(source=source) == "fine"
    request.wait()


def test_a_tag_above_the_upper_bound_is_a_tag_error(comm):
    upper = comm.Get_attr(MPI.TAG_UB)
    if upper == 2**31 - 1:
        return  # every tag that the argument can carry is valid
    for call in (comm.Send, comm.Isend):
        with pytest.raises(MPI.Exception) as raised:
            call(bytearray(1), 0, upper + 1)
        assert raised.value.Get_error_class() == MPI.ERR_TAG


def test_numbers_that_do_not_fit_raise_overflow(comm):
    for call in (
        lambda: comm.Send(bytearray(1), 2**40),
        lambda: comm.Send(bytearray(1), 0, 2**40),
        lambda: comm.Recv(bytearray(1), -(2**40)),
    ):
        with pytest.raises(OverflowError):
            call()


def test_a_bad_call_that_fails_loses_no_pending_message(comm):
    dest, source = ring_of(comm)
    into = [np.zeros(50, np.uint8) for _ in range(2)]
    receive = comm.Irecv(into[0], source, 1)
    for call in BAD.values():
        outcome(call, comm)
    sends = [comm.Isend(pattern(50, tag), dest, tag) for tag in (1, 2)]
    for call in BAD.values():
        outcome(call, comm)
    receive.Wait()
    comm.Recv(into[1], source, 2)
    assert is_pattern(into[0], 1)
    assert is_pattern(into[1], 2)
    MPI.Request.Waitall(sends)


@pytest.mark.ours
def test_the_message_names_the_argument_and_its_value(comm):
    with pytest.raises(MPI.Exception, match=rf"dest.*{comm.size + 3}"):
        comm.Send(bytearray(1), comm.size + 3)
    with pytest.raises(MPI.Exception, match=rf"source.*{comm.size + 3}"):
        comm.Recv(bytearray(1), comm.size + 3)
    with pytest.raises(MPI.Exception, match=r"tag.*-5"):
        comm.Send(bytearray(1), 0, -5)
    dest, source = ring_of(comm)
    request = comm.Isend(bytearray(64), dest, 1)
    with pytest.raises(MPI.Exception, match=r"64.*16|16.*64"):
        comm.Recv(bytearray(16), source, 1)
    request.Wait()


@pytest.mark.broken_in("Open MPI")  # ends the job
@pytest.mark.parametrize(
    "name",
    [
        "Send",
        "Isend",
        "Recv",
        "Irecv",
        "Probe",
        "Iprobe",
        "Mprobe",
        "Send_init",
        "recv",
        "send",
        "irecv",
    ],
)
def test_calls_on_a_freed_communicator_raise_a_communicator_error(comm, name):
    freed = comm.Dup()
    method = getattr(freed, name)
    freed.Free()
    arguments = {
        "Probe": (0,),
        "Iprobe": (0,),
        "Mprobe": (0,),
        "Recv": (bytearray(1), 0),
        "Irecv": (bytearray(1), 0),
        "recv": (None, 0),
        "irecv": (None, 0),
    }.get(name, (bytearray(1), 0))
    for call in (method, getattr(freed, name)):
        with pytest.raises(MPI.Exception) as raised:
            call(*arguments)
        assert raised.value.Get_error_class() == MPI.ERR_COMM
    dest, source = ring_of(comm)
    request = comm.isend("alive", dest)
    assert comm.recv(source=source) == "alive"
    request.wait()


def test_error_classes_are_the_standards_and_their_text_names_them(comm):
    with pytest.raises(MPI.Exception) as raised:
        comm.Send(bytearray(1), comm.size)
    error = raised.value
    assert error.Get_error_class() == error.error_class == MPI.ERR_RANK
    assert error.Get_error_code() == error.error_code
    assert "MPI_ERR_RANK" in str(error) or "rank" in str(error)
    assert isinstance(error, library.Exception)
    assert isinstance(error, RuntimeError)


@pytest.mark.broken_in("Open MPI")  # ends the job
def test_using_a_received_message_twice_raises(comm):
    dest, source = ring_of(comm)
    request = comm.Isend(bytearray(4), dest, 1)
    message = comm.Mprobe(source, 1)
    message.Recv(bytearray(4))
    with pytest.raises(MPI.Exception):
        message.Recv(bytearray(4))
    request.Wait()
