"""A process that has no free descriptor when it meets another one of its node."""

from __future__ import annotations

import pytest
from jobs import run

PROGRAM = """
import os, resource, time
import numpy as np
import mpi4py.MPI
from mooncake_mpi import MPI
comm, library = MPI.COMM_WORLD, mpi4py.MPI.COMM_WORLD
other = 1 - comm.rank
ones = np.ones({count})
held = []

def take_all():
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass

def give_back():
    while held:
        os.close(held.pop())

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
library.Barrier()
{meet}
into = np.zeros({count})
for _ in range(3):
    comm.Sendrecv(ones, other, 2, into, other, 2)
    assert (into == 1).all()
"""
RECEIVER = """
if comm.rank == 0:
    request = comm.Irecv(np.zeros({count}), 1, 1)
    take_all()
    library.Barrier()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        take_all()
        request.Test()
        time.sleep(0.01)
    give_back()
    request.Wait()
else:
    library.Barrier()
    comm.Send(ones, 0, 1)
"""
SENDER = """
if comm.rank == 0:
    take_all()
    for _ in range(3):
        try:
            comm.Send(ones, 1, 1)
        except MPI.Exception as error:
            assert error.Get_error_class() == MPI.ERR_NO_MEM, error
        else:
            raise AssertionError("it went")
    give_back()
    comm.Send(ones, 1, 1)
else:
    comm.Recv(np.zeros({count}), 0, 1)
"""


@pytest.mark.parametrize("count", [1, 300_000])
@pytest.mark.parametrize("meet", [RECEIVER, SENDER], ids=["receiver", "sender"])
def test_messages_go_both_ways_once_there_are_descriptors_again(program, meet, count):
    text = PROGRAM.replace("{meet}", meet).replace("{count}", str(count))
    outcome = run(2, program(text), timeout=40)
    assert outcome.returncode == 0, outcome.output
