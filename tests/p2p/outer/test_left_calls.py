"""A call that the handler of a signal leaves in mid-transfer loses nothing."""

from __future__ import annotations

import pytest
from jobs import run

LEFT = """
import signal, time, warnings
import numpy as np
import mooncake_mpi
warnings.simplefilter("ignore")  # of receives of objects into a buffer
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
N = 3_000_000

class Left(Exception):
    pass

def leave(*_):
    raise Left

def is_left(call, *args):
    signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        call(*args)
    except Left:
        return
    raise AssertionError("it was not left")
"""

RECEIVED = (
    LEFT
    + """
first, second = np.full(N, 1, "u1"), np.full(N, 2, "u1")
if comm.rank == 0:
    requests = [comm.Isend(first, 1, 1), comm.Isend(second, 1, 1), comm.isend(first, 1, 2)]
    comm.recv(source=1, tag=9)
    time.sleep(0.1)
    for request in requests:
        {poll}
    time.sleep(0.6)
    MPI.Request.Waitall(requests[:2])
    requests[2].wait()
else:
    comm.send("begin", 0, 9)
    time.sleep(0.05)
    into, room = np.zeros(N, "u1"), np.zeros(N + 1000, "u1")
    is_left({call})
    seen = into.copy(), room.copy()
    time.sleep(0.8)
    assert (into == seen[0]).all() and (room == seen[1]).all()
    status = MPI.Status()
    comm.Probe(0, 1, status)
    assert status.Get_count() == N
    for expected in (first, second):
        comm.Recv(into, 0, 1)
        assert (into == expected).all()
    assert (comm.recv(source=0, tag=2) == first).all()
    print("whole")
"""
)


@pytest.mark.parametrize(
    ("call", "poll"),
    [
        ("comm.Recv, into, 0, 1", "pass"),  # nothing has arrived
        ("comm.Recv, into, 0, 1", "request.Test()"),  # a part has
        ("comm.Sendrecv, b'', MPI.PROC_NULL, 0, into, 0, 1", "request.Test()"),
        ("comm.Sendrecv_replace, into, MPI.PROC_NULL, 0, 0, 1", "request.Test()"),
        ("comm.Mprobe(0, 1).Recv, into", "request.Test()"),
        ("lambda: comm.recv(source=0, tag=2)", "request.Test()"),
        ("comm.recv, room, 0, 2", "pass"),
        ("comm.recv, room, 0, 2", "request.Test()"),
        ("comm.sendrecv, 1, MPI.PROC_NULL, 0, room, 0, 2", "pass"),
        ("comm.sendrecv, 1, MPI.PROC_NULL, 0, room, 0, 2", "request.Test()"),
        ("comm.sendrecv, 1, MPI.PROC_NULL, 0, None, 0, 2", "request.Test()"),
    ],
)
def test_a_receive_that_is_left_in_mid_transfer_gives_its_message_back(program, call, poll):
    settings = {"MOONCAKE_MPI_CMA": "0", "MOONCAKE_MPI_PROGRESS_THREAD": "0"}
    outcome = run(2, program(RECEIVED.format(call=call, poll=poll)), environment=settings)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.strip() == "whole"


SENT = (
    LEFT
    + """
data = {memory}
data[:] = 1
if comm.rank == 0:
    is_left({call})
    data[:] = 2
    comm.send("left", 1, 9)
    comm.recv(source=1, tag=9)
else:
    comm.recv(source=0, tag=9)
    into = np.zeros(N, "u1")
    comm.Recv(into, 0, 1)
    assert (into == 1).all(), into[:10]
    comm.send("over", 0, 9)
    print("as it was")
"""
)


ORDINARY, MAPPED = "np.zeros(N, 'u1')", "mooncake_mpi.zeros(N, 'u1')"


@pytest.mark.parametrize(
    ("call", "memory", "cma"),
    [
        ("comm.Send, data, 1, 1", ORDINARY, "0"),
        ("comm.Send, data, 1, 1", ORDINARY, "1"),
        ("comm.Ssend, data, 1, 1", MAPPED, "0"),
        ("comm.Ssend, data, 1, 1", MAPPED, "1"),
    ],
)
def test_a_send_that_is_left_delivers_what_its_buffer_held_then(program, call, memory, cma):
    path = program(SENT.format(call=call, memory=memory))
    outcome = run(2, path, environment={"MOONCAKE_MPI_CMA": cma})
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.strip() == "as it was"


SENT_OBJECT = (
    LEFT
    + """
data = np.full(N, 1, "u1")
if comm.rank == 0:
    is_left({call})
    data[:] = 2
    comm.send("left", 1, 9)
    assert comm.recv(source=1, tag=8) == "kept"
    comm.recv(source=1, tag=9)
else:
    comm.send("kept", 0, 8)
    comm.recv(source=0, tag=9)
    into = comm.recv(source=0, tag=1)
    assert (into == 1).all(), into[:10]
    comm.send("over", 0, 9)
    print("as it was")
"""
)


@pytest.mark.parametrize("cma", ["0", "1"])
@pytest.mark.parametrize(
    "call",
    [
        "comm.send, data, 1, 1",
        "comm.ssend, data, 1, 1",
        "comm.sendrecv, data, 1, 1, None, 1, 7",  # no such message
        "comm.sendrecv, data, 1, 1, None, 1, 8",  # it has come, and is not lost
        "comm.sendrecv, data, 1, 1, bytearray(100), 1, 8",
    ],
)
def test_an_object_whose_send_is_left_arrives_as_it_was_then(program, call, cma):
    path = program(SENT_OBJECT.format(call=call))
    outcome = run(2, path, environment={"MOONCAKE_MPI_CMA": cma})
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.strip() == "as it was"
