"""Where an error handler says so, an error of the engine ends the job, and says what it was."""

from __future__ import annotations

import pytest
from jobs import is_open_mpi, run

ERRORS = {
    "Send": ("comm.Send(bytearray(1), 77)", "ERR_RANK"),
    "isend": ("comm.isend(1, other, -3)", "ERR_TAG"),
    "Wait": ("receive.Wait()", "ERR_TRUNCATE"),
    "wait of an object": ("comm.irecv(bytearray(3), other, 5).wait()", "ERR_TRUNCATE"),
    "Waitall": ("MPI.Request.Waitall([receive])", "ERR_TRUNCATE"),
    "Message.recv": (
        "message = comm.mprobe(other, 5); message.recv(); message.recv()",
        "ERR_REQUEST",
    ),
    "a null request": ("MPI.Request().Free()", "ERR_REQUEST"),
}
BODY = """
if comm.rank == 0:
    comm.Barrier()
    time.sleep(40)
comm.Barrier()
receive = comm.Irecv(bytearray(2), 0, 4)
try:
    {call}
except MPI.Exception:
    pass
print("went on")
"""
SENT = """
import os, time
if comm.rank == 0:
    comm.Send(bytearray(3), 1, 4)
    comm.send("object", 1, 5)
"""


@pytest.mark.parametrize(
    ("name", "handler"),
    [(name, "ERRORS_ARE_FATAL") for name in ERRORS]
    + [("Send", "ERRORS_ABORT"), ("Wait", "mpi4py.rc.errors")],
)
def test_an_error_that_is_fatal_ends_the_job(program, name, handler):
    call, error_class = ERRORS[name]
    first = "import mpi4py\nmpi4py.rc.errors = 'fatal'\n" if "rc" in handler else ""
    text = first + "from mooncake_mpi import MPI\ncomm = MPI.COMM_WORLD\nother = 1 - comm.rank\n"
    if not first:
        text += f"for each in (comm, MPI.COMM_SELF): each.Set_errhandler(MPI.{handler})\n"
    outcome = run(2, program(text + SENT + BODY.format(call=call)))
    assert outcome.returncode != 0
    assert "went on" not in outcome.output
    # MPICH may lose what a process wrote before it ended the job; a null request is the library's.
    if name != "a null request" and is_open_mpi():
        assert "mooncake_mpi: rank 1: " in outcome.output
        assert error_class in outcome.output


def test_what_the_package_expects_of_its_own_messages_is_not_fatal(program):
    outcome = run(
        2,
        program("""
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
other = 1 - comm.rank
for each in (comm, MPI.COMM_SELF):
    each.Set_errhandler(MPI.ERRORS_ARE_FATAL)
receive = comm.Precv_init(bytearray(8), 2, other, 1)
receive.Free()
comm.Isendrecv(bytearray(4), other, 2, bytearray(4), other, 2).Free()
request = comm.Irecv(bytearray(4), other, 3)
request.Cancel()
request.Wait()
comm.Agree(1)
comm.Barrier()
comm.Dup().Free()
"""),
    )
    assert outcome.returncode == 0, outcome.output
    assert outcome.output == ""


@pytest.mark.parametrize("name", ["Waitall", "Waitany", "Waitsome"])
def test_an_error_that_the_library_finds_in_a_wrapped_communicator_s_request_is_fatal(
    program, name
):
    first = """
from mpi4py import MPI
import mooncake_mpi
comm = mooncake_mpi.Intracomm(MPI.COMM_WORLD).Dup()
comm.Set_errhandler(MPI.ERRORS_ARE_FATAL)
"""
    call = f"MPI.Request.{name}([receive])"
    outcome = run(2, program(first + SENT + BODY.format(call=call)))
    assert outcome.returncode != 0
    assert "went on" not in outcome.output
    if is_open_mpi():
        assert "mooncake_mpi: rank 1: " in outcome.output
        assert "ERR_TRUNCATE" in outcome.output
