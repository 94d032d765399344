"""An error goes to the error handler of its communicator, once, before it is raised."""

from __future__ import annotations

import numpy as np
import pytest
from payload import pattern
from subject import AGAINST_MPI, MPI, library, quiet_barrier, ring_of, wait_until
from test_errors import BAD

CALLS = []


@pytest.fixture(scope="module")
def handler():
    """Notes its calls. Of such handlers mpi4py can make a small number only."""
    # what it raised would end the job
    made = MPI.Comm.Create_errhandler(
        lambda whose, code: CALLS.append((whose.handle, MPI.Get_error_class(code)))
    )
    yield made
    made.Free()


class Heard:
    """What the handler was called for since it was last asked."""

    def __init__(self, comm):
        self.comm = comm
        CALLS.clear()

    def __call__(self, comm=None):
        """The error classes; every call has named ``comm``."""
        calls = CALLS[:]
        CALLS.clear()
        assert all(whose == (comm or self.comm).handle for whose, _ in calls)
        return [error_class for _, error_class in calls]


@pytest.fixture
def heard(comm, handler):
    """The error classes that the handler of ``comm`` was called for."""
    comm.Set_errhandler(handler)
    yield Heard(comm)
    comm.Set_errhandler(MPI.ERRORS_RETURN)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_call(comm, heard, name):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of which class test_errors says
        BAD[name](comm)
    error = raised.value
    if type(error).__module__ == "mpi4py.MPI" and hasattr(error, "Get_error_class"):
        expected = [error.Get_error_class()]
        # Plain mpi4py asks the library about datatypes, of no communicator.
        assert heard() == expected or (AGAINST_MPI and "datatype" in name)
    else:
        assert heard() == []


def truncated(comm, post):
    """The request of a receive, or ``post``'s outcome, whose message is longer than the buffer."""
    dest, source = ring_of(comm)
    send = comm.Isend(pattern(300_000, 1), dest, 5)
    quiet_barrier()
    try:
        return post(bytearray(10), source)
    finally:
        send.Wait()
        quiet_barrier()


def until_tested(request):
    """Test until it is complete."""
    wait_until(lambda: request.test()[0])


ENDS = {
    "Recv": lambda comm, buf, source: comm.Recv(buf, source, 5),
    "Irecv": lambda comm, buf, source: comm.Irecv(buf, source, 5).Wait(),
    "wait": lambda comm, buf, source: comm.Irecv(buf, source, 5).wait(),
    "irecv": lambda comm, buf, source: comm.irecv(buf, source, 5).wait(),
    "Test": lambda comm, buf, source: wait_until(comm.Irecv(buf, source, 5).Test),
    "test": lambda comm, buf, source: until_tested(comm.Irecv(buf, source, 5)),
    "Mprobe": lambda comm, buf, source: comm.Mprobe(source, 5).Recv(buf),
    "Message.Irecv": lambda comm, buf, source: comm.Mprobe(source, 5).Irecv(buf).Wait(),
    "Sendrecv": lambda comm, buf, source: comm.Sendrecv(b"", MPI.PROC_NULL, 5, buf, source, 5),
    "Isendrecv": lambda comm, buf, source: comm.Isendrecv(
        b"", MPI.PROC_NULL, 5, buf, source, 5
    ).Wait(),
    "Sendrecv_replace": lambda comm, buf, source: comm.Sendrecv_replace(
        buf, MPI.PROC_NULL, 5, source, 5
    ),
    "Waitany": lambda comm, buf, source: MPI.Request.Waitany([comm.Irecv(buf, source, 5)]),
    "copy": lambda comm, buf, source: MPI.Request(comm.Irecv(buf, source, 5)).Wait(),
}
ENDS_OF_SEVERAL = {
    "Waitall": lambda request: MPI.Request.Waitall([MPI.Request(), request]),
    "Waitall, statuses": lambda request: MPI.Request.Waitall([request], [MPI.Status()]),
    "waitall": lambda request: MPI.Request.waitall([request]),
    "Waitsome": lambda request: MPI.Request.Waitsome([request]),
    "Testall": lambda request: wait_until(lambda: MPI.Request.Testall([request])),
}


@pytest.mark.broken_in("Open MPI")  # writes past the buffer
@pytest.mark.parametrize("name", ENDS)
def test_a_truncated_message(comm, heard, name):
    with pytest.raises(MPI.Exception) as raised:
        truncated(comm, lambda buf, source: ENDS[name](comm, buf, source))
    assert raised.value.Get_error_class() == MPI.ERR_TRUNCATE
    assert heard() == [MPI.ERR_TRUNCATE]


@pytest.mark.broken_in("Open MPI", "MPICH")  # tells COMM_WORLD's, or nobody
@pytest.mark.parametrize("name", ENDS_OF_SEVERAL)
def test_one_request_of_several(comm, heard, name):
    with pytest.raises(MPI.Exception) as raised:
        truncated(comm, lambda buf, source: ENDS_OF_SEVERAL[name](comm.Irecv(buf, source, 5)))
    assert raised.value.Get_error_class() == MPI.ERR_IN_STATUS
    assert heard() == [MPI.ERR_TRUNCATE], "the error of the request, at its communicator"


@pytest.mark.broken_in("Open MPI", "MPICH")  # as above
def test_a_persistent_receive(comm, heard):
    dest, source = ring_of(comm)
    receive = comm.Recv_init(bytearray(10), source, 5)
    for _ in range(2):
        receive.Start()
        with pytest.raises(MPI.Exception):
            receive.Start()
        assert len(heard()) == 1
        comm.Send(bytearray(5), dest, 5)
        receive.Wait()
    receive.Free()


def test_a_derived_communicator_has_the_handler_that_mpi4py_gives_it(comm, heard):
    duplicate, expected = comm.Dup(), library.COMM_WORLD.Dup()
    assert duplicate.Get_errhandler() == expected.Get_errhandler() == MPI.ERRORS_RETURN
    with pytest.raises(MPI.Exception):
        duplicate.Send(bytearray(1), 1000)
    assert heard() == []
    duplicate.Free()
    expected.Free()


@pytest.mark.parametrize("act", ["Send", "isend", "Irecv"])
def test_what_errors_return_leaves_is_the_exception(comm, act):
    comm.Set_errhandler(MPI.ERRORS_RETURN)
    with pytest.raises(MPI.Exception) as raised:
        getattr(comm, act)(np.zeros(1), comm.size + 3)
    assert raised.value.Get_error_class() == MPI.ERR_RANK
