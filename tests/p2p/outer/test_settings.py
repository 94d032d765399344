"""The behaviour tests hold under every setting that changes how bytes travel."""

from __future__ import annotations

import pytest
from jobs import run, run_suite

HERE = "tests/p2p"
COPYING = [f"{HERE}/test_{name}.py" for name in ("sizes", "truncation", "buffers")]
MAPPING = [f"{HERE}/test_shared_arrays.py"]
# Without a thread of its own a process moves messages only inside its calls, as MPI libraries do:
# these tests never leave for the MPI library with something still to hand over.
IN_CALLS = [f"{HERE}/test_{name}.py" for name in ("matching", "probe", "objects", "status")]
QUEUEING = [f"{HERE}/test_{name}.py" for name in ("flow_control", "matching", "probe", "requests")]


@pytest.mark.parametrize(
    ("variable", "value", "tests"),
    [
        ("MOONCAKE_MPI_CMA", "0", [*COPYING, *MAPPING]),
        ("MOONCAKE_MPI_NUMPY", "1", [*COPYING, f"{HERE}/test_lifetime.py"]),
        ("MOONCAKE_MPI_EAGER_LIMIT", "0", COPYING),
        ("MOONCAKE_MPI_EAGER_LIMIT", "1M", COPYING),
        ("MOONCAKE_MPI_UNEXPECTED_LIMIT", "64K", QUEUEING),
        ("MOONCAKE_MPI_PROGRESS_THREAD", "0", IN_CALLS),
        ("MOONCAKE_MPI_SPIN_US", "0", QUEUEING),
    ],
)
def test_the_promises_hold_with(variable, value, tests):
    run_suite(2, "-m", "not large", *tests, environment={variable: value})


@pytest.mark.parametrize("cma", ["0", "1"])
@pytest.mark.parametrize("limited", ["rank == 0", "rank == 1", "True"])
def test_where_no_descriptor_is_left_to_map_memory_of_a_peer_messages_still_arrive(
    program, limited, cma
):
    """The limit falls once messages travel and the arrays are made, before any is sent."""
    path = program(f"""
import os, resource
import numpy as np
import mooncake_mpi
from mooncake_mpi import MPI, _native
comm = MPI.COMM_WORLD
rank = comm.rank
comm.sendrecv(0, 1 - rank)
out, into = mooncake_mpi.zeros(3_000_001, "u1"), mooncake_mpi.zeros(3_000_001, "u1")
out[:] = np.arange(out.size) % (251 - rank)
comm.sendrecv(0, 1 - rank)
if {limited}:
    lowest = os.dup(0)
    os.close(lowest)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
for turn in range(3):
    into[:] = 0
    comm.Sendrecv(out, 1 - rank, 0, into, 1 - rank, 0)
    assert (into == (np.arange(out.size) % (250 + rank)).astype("u1")).all()
mapped = _native.stats()["chunks_mapped"]
assert (mapped == 0) == ({limited}), mapped
""")
    outcome = run(2, path, environment={"MOONCAKE_MPI_CMA": cma})
    assert outcome.returncode == 0, outcome.output


REFUSING = """
import ctypes, platform, struct, sys
# A seccomp filter: the two system calls that copy between processes fail with EPERM.
calls = {"x86_64": (310, 311), "aarch64": (270, 271)}[platform.machine()]
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, EPERM = 0x7FFF0000, 0x00050001
program = [(LOAD, 0, 0, 0), (EQUAL, 2, 0, calls[0]), (EQUAL, 1, 0, calls[1]),
           (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, EPERM)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
filter_ = Program(len(program), ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
assert libc.prctl(22, 2, ctypes.byref(filter_), 0, 0) == 0, "PR_SET_SECCOMP"
libc.process_vm_readv.restype = ctypes.c_ssize_t
assert libc.process_vm_readv(1, None, 0, None, 0, 0) == -1 and ctypes.get_errno() == 1
"""

EXCHANGE = """
import numpy as np
from mpi4py import MPI as library
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
rank, size = comm.rank, comm.size
for length in (0, 1, 1000, 65_536, 100_003, 1 << 20, (1 << 23) + 7):
    out = ((np.arange(length) * 7 + rank) % 251).astype(np.uint8)
    into = np.zeros(length + 64, np.uint8)
    for turn in range(3):
        comm.Sendrecv(out, (rank + 1) % size, 0, into, (rank - 1) % size, 0)
        assert (into[:length] == (np.arange(length) * 7 + (rank - 1) % size) % 251).all(), length
        assert not into[length:].any()
if rank == 0:
    print("all arrived")
"""


@pytest.mark.parametrize("refused_on", ["rank == 0", "rank == 1", "True"])
def test_where_the_kernel_refuses_copies_between_processes_messages_still_arrive(
    program, refused_on
):
    """On both sides, and on one side alone, of which the other cannot know beforehand."""
    prologue = (
        "import os\n"
        "rank = int(os.environ.get('OMPI_COMM_WORLD_RANK', os.environ.get('PMI_RANK', 0)))\n"
    )
    indented = "".join(f"    {line}\n" for line in REFUSING.strip().splitlines())
    path = program(f"{prologue}if {refused_on}:\n{indented}\n{EXCHANGE}")
    outcome = run(2, path)
    assert outcome.returncode == 0, outcome.output
    assert outcome.output.strip() == "all arrived"


LEFT_BEHIND = """
import numpy as np
from mooncake_mpi import MPI
comm, big, tiny = MPI.COMM_WORLD, np.ones(400_000, np.uint8), np.zeros(1, np.uint8)
MPI.Attach_buffer(bytearray(1 << 20))
for turn in range(400):
    if comm.rank == 0:
        comm.Bsend(big, 1)
        comm.Recv(tiny, 1)  # a peer that looks meanwhile sees it wait
    else:
        big[:] = 0
        request = comm.Irecv(big, 0)
        for _ in range(turn % 40):
            request.Test()
        comm.Send(tiny, 0)
        request.Wait()
        assert big.all()
    MPI.Intracomm.Barrier(comm)
MPI.Detach_buffer()
print("ended")
"""


def test_without_a_thread_no_message_needs_a_sender_that_has_gone_on(program):
    outcome = run(
        2,
        program(LEFT_BEHIND),
        environment={"MOONCAKE_MPI_PROGRESS_THREAD": "0", "MOONCAKE_MPI_TIMEOUT_S": "20"},
    )
    assert outcome.output.split() == ["ended", "ended"], outcome.output
