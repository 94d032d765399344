"""What the system, or the program itself, takes away from a job in the middle."""

from __future__ import annotations

import pytest
from jobs import run

PRELUDE = """
import ctypes, os, struct, sys, time
import numpy as np
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
other = 1 - comm.rank

def exchange(count, tag):
    out, into = np.full(count, float(comm.rank)), np.full(count, -1.0)
    comm.Sendrecv(out, other, tag, into, other, tag)
    assert (into == other).all(), into

def refuse_cross_memory():
    "What a sandbox does that a process enters: process_vm_readv and process_vm_writev fail from now on."
    def step(code, yes, no, value):
        return struct.pack("HBBI", code, yes, no, value)
    program = b"".join([
        step(0x20, 0, 0, 0), step(0x15, 0, 1, 310), step(0x06, 0, 0, 0x00050001),
        step(0x15, 0, 1, 311), step(0x06, 0, 0, 0x00050001), step(0x06, 0, 0, 0x7fff0000)])
    memory = ctypes.create_string_buffer(program, len(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    argument = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(memory))
    assert libc.prctl(22, 2, argument, 0, 0) == 0
exchange(10, 1)
exchange(300_000, 2)
"""


@pytest.mark.parametrize("who", ["(0,)", "(1,)", "(0, 1)"])
def test_large_messages_go_on_when_the_system_refuses_cross_memory_attach_later(program, who):
    outcome = run(
        2,
        program(
            PRELUDE
            + f"if comm.rank in {who}: refuse_cross_memory()\n"
            + "for turn in range(20): exchange(300_000 + turn, 3)\n"
            + "for turn in range(3): comm.sendrecv(np.ones(400_000), other, source=other)\n"
        ),
    )
    assert outcome.returncode == 0, outcome.output
    assert outcome.output == ""


FORKED = """
from mooncake_mpi.library_requests.giving import give
comm.Barrier()
calls = {
    "Send": lambda: comm.Send(np.zeros(1), other, 9),
    "Isend": lambda: comm.Isend(np.zeros(1), other, 9),
    "Recv": lambda: comm.Recv(np.zeros(1), other, 9),
    "Irecv": lambda: comm.Irecv(np.zeros(1), other, 9),
    "send": lambda: comm.send(1, other),
    "recv": lambda: comm.recv(),
    "Probe": lambda: comm.Probe(),
    "Iprobe": lambda: comm.Iprobe(),
    "Mprobe": lambda: comm.Mprobe(),
    "Sendrecv": lambda: comm.Sendrecv(np.zeros(1), other, 9, np.zeros(1), other, 9),
    "Dup": lambda: comm.Dup(),
    "Split": lambda: comm.Split(0, 0),
    "Send_init": lambda: comm.Send_init(np.zeros(1), other, 9),
    "Revoke": lambda: comm.Is_revoked(),
    "Wait": lambda: pending.Wait(),
    "Cancel": lambda: pending.Cancel(),
    "Start": lambda: persistent.Start(),
    "Startall": lambda: MPI.Prequest.Startall([persistent]),
    "Start of a partitioned one": lambda: partitioned.Start(),
    "Psend_init": lambda: comm.Psend_init(np.zeros(1), 1, other, 9),
    "Isendrecv": lambda: comm.Isendrecv(np.zeros(1), other, 9, np.zeros(1), other, 9),
    "Sendrecv_replace": lambda: comm.Sendrecv_replace(np.zeros(1), other, 9, other, 9),
    "bsend": lambda: comm.bsend(1, other, 9),
    "Wait of a complete one": lambda: complete[0].Wait(),
    "Test of a complete one": lambda: complete[0].Test(),
    "Get_status of a complete one": lambda: complete[0].Get_status(),
    "test of a complete one": lambda: complete[1].test(),
    "waitany of a complete one": lambda: MPI.Request.waitany(complete),
    "Wait of a complete send": lambda: complete[2].Wait(),
    "Wait of a wrapped one": lambda: wrapped.Wait(),
    "Test of a wrapped one": lambda: wrapped.Test(),
    "recv of a message": lambda: messages[0].recv(),
    "Recv of a large message": lambda: messages[1].Recv(np.zeros(300_000)),
}
pending = comm.Irecv(np.zeros(1), other, 77)
persistent = comm.Send_init(np.zeros(1), other, 9)
partitioned = comm.Psend_init(np.zeros(1), 1, other, 9)
complete = [comm.Irecv(np.zeros(1), comm.rank, 1), comm.irecv(source=comm.rank, tag=2)]
complete += [comm.Isend(np.zeros(1), comm.rank, 1), comm.isend(1, comm.rank, 2)]
wrapped = give(comm.Irecv(np.zeros(1), comm.rank, 3), False)
comm.Send(np.zeros(1), comm.rank, 3)
while not all(request.Get_status() for request in (*complete, wrapped)): pass
sent = [comm.isend("message", other, 4), comm.Isend(np.ones(300_000), other, 5)]
messages = [comm.Mprobe(other, 4), comm.Mprobe(other, 5)]
child = os.fork()
if child == 0:
    del calls["Revoke"]
    for name, call in calls.items():
        try:
            call()
        except MPI.Exception as error:
            if error.Get_error_class() == MPI.ERR_COMM:
                continue
            print(name, error, flush=True)
        print(name, "was not refused", flush=True)
    ENDING
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == STATUS
assert not comm.Iprobe(other, 9)
comm.Send(np.full(1, 5.0), other, 77)
pending.Wait()
MPI.Request.waitall(complete)
wrapped.Wait()
assert messages[0].recv() == "message"
into = np.zeros(300_000)
messages[1].Recv(into)
assert (into == 1).all()
MPI.Request.waitall(sent)
exchange(300_000, 4)
"""
ENDINGS = {"sys.exit(7)": 7, "raise ValueError": 1}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_forked_child_is_refused_by_every_call_and_ends_with_its_own_status(program, ending):
    text = FORKED.replace("ENDING", ending).replace("STATUS", str(ENDINGS[ending]))
    outcome = run(2, program(PRELUDE + text), timeout=60)
    assert outcome.returncode == 0, outcome.output
    assert "not refused" not in outcome.output


CLOSED = """
import mooncake_mpi
arrays = [mooncake_mpi.empty(8 << 20, "u1") for _ in range(2)]
for array in arrays: array[:] = 1
comm.Barrier()
if comm.rank == 0:
    os.closerange(3, 1 << 12)
    files = [open(os.path.join(FOLDER, f"data{number}"), "w+b", buffering=0) for number in range(1000)]
    for file in files: file.write(b"mine" * 4096)
del arrays, array
exchange(10, 3)
time.sleep(0.6)
if comm.rank == 0:
    for file in files:
        file.seek(0)
        assert file.read() == b"mine" * 4096
    used = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - used < 0.2, "a thread spins"
os._exit(0)
"""


def test_descriptors_that_a_program_closes_and_uses_for_its_files_are_left_alone(program, tmp_path):
    text = CLOSED.replace("FOLDER", repr(str(tmp_path)))
    outcome = run(2, program(PRELUDE + text), environment={"MOONCAKE_MPI_MEMORY_KEEP": "0"})
    assert "Error" not in outcome.output, outcome.output


ONE_CANNOT = """
import os, sys
import mpi4py.MPI
rank = mpi4py.MPI.COMM_WORLD.rank
if rank == 1:
    TROUBLE
try:
    from mooncake_mpi import MPI
    MPI.COMM_WORLD.Dup()
except mpi4py.MPI.Exception as error:
    sys.stdout.write(f"told {error}\\n")
"""
REFUSE = (
    "import mooncake_mpi.engine.runtime as r; kept = r.new_communicator\n"
    "    def fail(comm):\n        raise ERROR\n"
    "    r.new_communicator = fail"
)
ACTIVATE = (
    "import mooncake_mpi.engine.runtime as r\n"
    "    def fail(*_):\n        raise MemoryError('late')\n"
    "    r.activate = fail"
)
TROUBLES = {
    "os.environ['MOONCAKE_MPI_EAGER_LIMIT'] = 'lots'": "ConfigError: MOONCAKE_MPI_EAGER_LIMIT",
    "os.environ['MOONCAKE_MPI_NUMPY'] = 'perhaps'": "ConfigError: MOONCAKE_MPI_NUMPY",
    REFUSE.replace("ERROR", "MemoryError('none left')"): "MemoryError: none left",
    REFUSE.replace("ERROR", "OSError(24, 'too many')"): "OSError: [Errno 24] too many",
    ACTIVATE: "MemoryError: late",
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_one_rank_cannot_start_with_is_told_to_every_rank(program, trouble):
    outcome = run(3, program(ONE_CANNOT.replace("TROUBLE", trouble)), timeout=30)
    told = [line for line in outcome.output.splitlines() if line.startswith("told")]
    assert len(told) == 3, outcome.output
    assert all("rank 1: " + TROUBLES[trouble] in line for line in told)


REFUSE_THREADS = """
def refuse_threads():
    "As a limit of processes does: clone and clone3 fail from now on."
    def step(code, yes, no, value):
        return struct.pack("HBBI", code, yes, no, value)
    program = b"".join([
        step(0x20, 0, 0, 0), step(0x15, 0, 1, 435), step(0x06, 0, 0, 0x0005000b),
        step(0x15, 0, 1, 56), step(0x06, 0, 0, 0x0005000b), step(0x06, 0, 0, 0x7fff0000)])
    memory = ctypes.create_string_buffer(program, len(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    argument = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(memory))
    assert libc.prctl(22, 2, argument, 0, 0) == 0
"""
NO_THREAD_AT_THE_START = (
    """
import ctypes, struct, sys
import mpi4py.MPI
import numpy
rank = mpi4py.MPI.COMM_WORLD.rank
mpi4py.MPI.COMM_WORLD.Barrier()
"""
    + REFUSE_THREADS
    + """
if rank == 1: refuse_threads()
try:
    from mooncake_mpi import MPI
except mpi4py.MPI.Exception as error:
    sys.stdout.write(f"told {'rank 1' in str(error)} {'thread' in str(error)}\\n")
"""
)


def test_a_rank_that_gets_no_thread_at_the_start_is_told_to_every_rank(program):
    outcome = run(2, program(NO_THREAD_AT_THE_START), timeout=30)
    told = [line for line in outcome.output.splitlines() if line.startswith("told")]
    assert told == ["told True True"] * 2, outcome.output


def test_a_rank_that_gets_no_thread_later_makes_progress_in_its_calls(program):
    text = (
        PRELUDE.replace("exchange(300_000, 2)\n", "")
        + REFUSE_THREADS
        + "refuse_threads()\nrequest = comm.Isend(np.ones(300_000), other, 5)\ntime.sleep(0.05)\n"
        + "into = np.zeros(300_000)\ncomm.Recv(into, other, 5)\nrequest.Wait()\nassert into.all()\n"
        + "print('through', flush=True)\ncomm.Barrier()\nos._exit(0)\n"
    )
    outcome = run(2, program(text), timeout=60)
    assert outcome.output.count("through") == 2, outcome.output


FLOODS = {
    "Irecv": "held.append(comm.Irecv(buffer, other, 3))",
    "Issend": "held.append(comm.Issend(buffer, other, 3))",
    "persistent": "r = comm.Recv_init(buffer, other, 3); r.Start(); held.append(r)",
    "irecv": "held.append(comm.irecv(None, other, 3))",
}
FLOOD = """
import resource
comm.Barrier()
buffer, held = np.zeros(8), []
if comm.rank == 0:
    now = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (now + (24 << 20), -1))
    try:
        while True:
            CALL
    except MemoryError:
        pass
    except MPI.Exception as error:
        assert error.Get_error_class() == MPI.ERR_NO_MEM, error
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    comm.Send(np.ones(1), other, 9)
else:
    into = np.zeros(1)
    comm.Recv(into, other, 9)
    assert into[0] == 1
print("lives", flush=True)
comm.Barrier()  # the first to leave like this may end the other
os._exit(0)
"""


@pytest.mark.parametrize("call", FLOODS)
def test_a_flood_that_meets_the_end_of_memory_is_an_error_of_the_call_and_no_other(program, call):
    text = PRELUDE + FLOOD.replace("CALL", FLOODS[call])
    outcome = run(2, program(text), timeout=60, environment={"OPENBLAS_NUM_THREADS": "1"})
    assert outcome.output.count("lives") == 2, outcome.output
