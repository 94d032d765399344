"""Jobs end cleanly however their processes do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from jobs import kill_all, run, start

EXCHANGE = """
import sys, time
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
into = np.zeros(300_000)
send = comm.Isend(np.full(into.size, float(rank)), (rank + 1) % size, 1)
comm.Recv(into, (rank - 1) % size, 1)
send.Wait()
assert (into == (rank - 1) % size).all()
"""

ENDINGS = {
    "end of the program": "",
    "Finalize": "MPI.Finalize()",
    "sys.exit": "sys.exit(0)",
    "SystemExit of None": "raise SystemExit",
    "a freed duplicate": "comm.Dup().Free()",
    "a duplicate that is not freed": "kept = comm.Dup()",
    "a pending receive": "request = comm.Irecv(into, rank, 77)",
    "a pending persistent request": "p = comm.Recv_init(into, rank, 7); p.Start()",
    "a message that nobody receives": "comm.Isend(np.zeros(3), (rank + 1) % size, 55)",
    "a daemon thread that waits": (
        "import threading; threading.Thread(target=comm.Recv, args=(into, rank, 9), daemon=True).start();"
        "time.sleep(0.05)"
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("way", ["script", "run"])
def test_a_job_ends_with_status_zero_and_says_nothing(program, way, ending):
    path = program(EXCHANGE + ENDINGS[ending] + "\n")
    arguments = ["-m", "mooncake_mpi", "run", path] if way == "run" else [path]
    outcome = run(3, *arguments)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output == ""


WAITING_THREADS = """
import threading, time
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
peer = (comm.rank + 1) % comm.size

def receive():
    return comm.Irecv(np.zeros(8), peer, 9)

def started(request):
    request.Start()
    return request

CALLS = [
    lambda: comm.Recv(np.zeros(8), peer, 9),
    lambda: comm.recv(source=peer, tag=9),
    lambda: comm.Send(np.zeros(300_000), peer, 10),
    lambda: comm.Ssend(np.zeros(8), peer, 10),
    lambda: comm.send(np.zeros(300_000), peer, 10),
    lambda: comm.ssend("object", peer, 10),
    lambda: comm.Sendrecv(np.zeros(8), peer, 10, np.zeros(8), peer, 9),
    lambda: comm.sendrecv("object", peer, 10, source=peer, recvtag=9),
    lambda: comm.Sendrecv_replace(np.zeros(8), peer, 10, peer, 9),
    lambda: comm.Isendrecv(np.zeros(8), peer, 10, np.zeros(8), peer, 9).Wait(),
    lambda: comm.Probe(peer, 9),
    lambda: comm.probe(peer, 9),
    lambda: comm.Mprobe(peer, 9),
    lambda: comm.mprobe(peer, 9),
    lambda: receive().Wait(),
    lambda: comm.irecv(source=peer, tag=9).wait(),
    lambda: comm.issend("object", peer, 10).wait(),
    lambda: MPI.Request.Waitall([receive(), receive()]),
    lambda: MPI.Request.Waitall([receive()], [MPI.Status()]),
    lambda: MPI.Request.Waitany([receive(), receive()]),
    lambda: MPI.Request.Waitsome([receive(), receive()]),
    lambda: MPI.Request.waitall([comm.irecv(source=peer, tag=9)]),
    lambda: MPI.Request.waitany([comm.irecv(source=peer, tag=9)]),
    lambda: started(comm.Recv_init(np.zeros(8), peer, 9)).Wait(),
    lambda: started(comm.Precv_init(np.zeros(8), 2, peer, 9)).Wait(),
]
for call in CALLS:
    threading.Thread(target=call, daemon=True).start()
time.sleep(0.3)
"""


def test_daemon_threads_in_every_call_that_waits_leave_the_end_alone(program):
    outcome = run(2, program(WAITING_THREADS))
    assert outcome.returncode == 0, outcome.output
    assert outcome.output == ""


def test_messages_sent_just_before_the_end_arrive(program):
    path = program("""
import sys, time
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
if comm.rank == 0:
    for turn in range(1000):
        comm.Send(np.full(30, turn), 1, 1)
    comm.send({"last": list(range(1000))}, 1, 2)
    sys.exit(0)
time.sleep(0.5)
into = np.zeros(30, int)
for turn in range(1000):
    comm.Recv(into, 0, 1)
    assert (into == turn).all()
assert comm.recv(source=0, tag=2) == {"last": list(range(1000))}
print("received")
""")
    outcome = run(2, path)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.strip() == "received"


def test_a_large_isend_that_was_not_waited_for_is_finished_by_finalize(program):
    path = program("""
import time
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
if comm.rank == 0:
    comm.Isend(np.arange(1_000_000), 1, 1)
else:
    time.sleep(0.3)
    into = np.zeros(1_000_000, int)
    comm.Recv(into, 0, 1)
    assert (into == np.arange(1_000_000)).all()
    print("received")
""")
    outcome = run(2, path)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.strip() == "received"


DELIVERED = """
import os, sys, time
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
data = np.arange(400_000)
if comm.rank == 0:
    comm.Bsend(data, 1, 1)
    comm.Isend(data, 1, 2).Free()
    comm.Isend(data, 1, 3)
    kept = comm.Isend(data, 1, 4)
    comm.isend({{"data": data}}, 1, 5)
    del data
    {ending}
else:
    {beginning}
    into = np.zeros_like(data)
    for tag in (4, 3, 2, 1):
        comm.Recv(into, 0, tag)
        assert (into == data).all()
        into[:] = 0
    assert (comm.recv(source=0, tag=5)["data"] == data).all()
    print("received")
"""


@pytest.mark.parametrize("cma", ["0", "1"])
@pytest.mark.parametrize("ending", ["", "MPI.Finalize()", "sys.exit(0)"])
def test_the_end_delivers_what_was_sent(program, ending, cma):
    path = program(DELIVERED.format(ending=ending, beginning="time.sleep(0.5)"))
    outcome = run(2, path, environment={"MOONCAKE_MPI_CMA": cma})
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.strip() == "received"


def test_the_end_says_what_it_waits_for(program):
    path = program(DELIVERED.format(ending="", beginning="time.sleep(6)"))
    outcome = run(2, path, environment={"MOONCAKE_MPI_CMA": "0"})
    assert outcome.returncode == 0, outcome.output
    assert "ends when its messages have been received" in outcome.output
    assert "to rank 1, tag 1, 3200000 bytes" in outcome.output
    assert "received" in outcome.output.splitlines()


def test_a_setting_limits_how_long_the_end_waits(program, tmp_path):
    path = program(f"""
import os, time
import numpy as np
from mooncake_mpi import MPI, _native
comm = MPI.COMM_WORLD
if comm.rank == 0:
    comm.Isend(np.zeros(400_000), 1)
    begun = time.monotonic()
    _native.finalize()
    assert 0.3 < time.monotonic() - begun < 5
    open({str(tmp_path / "given up")!r}, "w").close()
else:
    while not os.path.exists({str(tmp_path / "given up")!r}):
        time.sleep(0.05)
""")
    outcome = run(2, path, environment={"MOONCAKE_MPI_FINALIZE_TIMEOUT_S": "0.4"})
    assert outcome.returncode == 0, outcome.output
    assert "these messages are lost (MOONCAKE_MPI_FINALIZE_TIMEOUT_S)" in outcome.output
    assert "to rank 1, tag 0, 3200000 bytes" in outcome.output


NEVER_RECEIVED = {
    "both ways": "comm.Isend(data, peer)",
    "to a rank that has ended before": "time.sleep(0.5 * comm.rank); comm.Isend(data, peer)",
    "to itself": "comm.Isend(data, comm.rank)",
    "synchronous": "comm.Issend(data[:1], peer); comm.Issend(data, peer)",
    "by a daemon thread": (
        "threading.Thread(target=comm.Ssend, args=(data, peer), daemon=True).start(); time.sleep(0.1)"
    ),
    "on a freed communicator": "dup = comm.Dup(); dup.Isend(data, peer); dup.Free()",
}


def test_a_send_to_a_rank_that_has_ended_raises_in_the_end(program):
    path = program("""
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
if comm.rank == 0:
    comm.send("over", 1)
    for call in (comm.Send, lambda *a: comm.Isend(*a).Wait(), comm.send):
        try:
            call(np.zeros(400_000), 1)
        except MPI.Exception:
            print("raised")
else:
    comm.recv(source=0)
""")
    outcome = run(2, path, timeout=30)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.split() == ["raised"] * 3


@pytest.mark.parametrize("case", NEVER_RECEIVED)
def test_the_end_does_not_wait_for_what_nobody_can_receive_any_more(program, case):
    path = program(f"""
import threading, time
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
peer = (comm.rank + 1) % comm.size
data = np.zeros(400_000)
{NEVER_RECEIVED[case]}
""")
    outcome = run(2, path, environment={"MOONCAKE_MPI_CMA": "0"}, timeout=30)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output == ""
    assert outcome.seconds < 5


def test_an_unhandled_exception_ends_the_job_with_its_traceback(program):
    path = program("""
from mpi4py import MPI
comm = MPI.COMM_WORLD
if comm.rank == 1:
    raise RuntimeError("the reason")
comm.Recv(bytearray(1), 1)
""")
    outcome = run(3, "-m", "mooncake_mpi", "run", path, timeout=30)
    assert outcome.returncode != 0
    assert "Traceback (most recent call last)" in outcome.output
    assert "RuntimeError: the reason" in outcome.output
    assert outcome.seconds < 20


@pytest.mark.parametrize("status", ["3", "'a reason'"])
def test_an_exit_with_a_status_ends_the_job_with_it(program, status):
    path = program(f"""
import sys
from mpi4py import MPI
comm = MPI.COMM_WORLD
if comm.rank == 0:
    sys.exit({status})
comm.recv(source=0)
""")
    outcome = run(2, "-m", "mooncake_mpi", "run", path, timeout=30)
    assert outcome.returncode == (3 if status == "3" else 1)
    if status != "3":
        assert "a reason" in outcome.output


SHARED = Path("/dev/shm")
# The MPI libraries' own files are theirs to remove.
LIBRARIES = ("vader_segment", "sm_segment", "mpich", "osc", "psm", "ompi", "pmix", "prte", "hwloc")


def shared_files():
    names = os.listdir(SHARED) if SHARED.exists() else []
    return {name for name in names if not name.startswith(LIBRARIES)}


def test_sigkill_of_the_whole_job_leaves_nothing_in_shared_memory(program, tmp_path):
    path = program(f"""
import pathlib, time
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
big = np.zeros(8_000_000, np.uint8)
pathlib.Path({str(tmp_path)!r}, f"ready-{{comm.rank}}").touch()
turn = 0
while True:
    peer = (comm.rank + 1) % comm.size
    comm.Sendrecv(big[: 10 ** (turn % 7)], peer, 0, big.copy(), MPI.ANY_SOURCE, 0)
    turn += 1
""")
    before = shared_files()
    process, output = start(3, path)
    with output:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("ready-*"))) < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None, output.seek(0) or output.read()
            time.sleep(0.02)
        time.sleep(0.3)
        kill_all(process)
    assert shared_files() <= before


def test_a_normal_end_leaves_nothing_in_shared_memory(program):
    before = shared_files()
    run(3, program(EXCHANGE))
    assert shared_files() <= before
