"""Ctrl-C from outside reaches a rank that is blocked in a receive."""

from __future__ import annotations

import os
import signal
import time

import pytest
from jobs import kill_all, run, start

PROGRAM = """
import os, pathlib, time
from mooncake_mpi import MPI
comm = MPI.COMM_WORLD
folder = pathlib.Path({folder!r})
if comm.rank == 1:
    (folder / "pid").write_text(str(os.getpid()))
    try:
        {call}
    except KeyboardInterrupt:
        (folder / "answered").write_text(str(time.monotonic()))
    comm.send("over", 0, tag=5)
else:
    assert comm.recv(source=1, tag=5) == "over"
"""


@pytest.mark.parametrize(
    "call",
    [
        "comm.Recv(bytearray(8), 0, 1)",
        "comm.recv(source=0)",
        "comm.Ssend(bytes(10_000_000), 0, 99)",
    ],
)
def test_a_blocked_call_raises_keyboard_interrupt_within_100_ms(program, tmp_path, call):
    path = program(PROGRAM.format(folder=str(tmp_path), call=call))
    # A machine that stands still for a moment spoils one job, not three.
    assert any(seconds_to_the_answer(path, tmp_path) < 0.1 for _ in range(3))


def seconds_to_the_answer(path, folder):
    """From SIGINT to the exception in a job of two ranks."""
    pid = folder / "pid"
    pid.unlink(missing_ok=True)
    process, output = start(2, path)
    with output:
        try:
            deadline = time.monotonic() + 30
            while not pid.exists() or not pid.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.5)
            sent = time.monotonic()
            os.kill(int(pid.read_text()), signal.SIGINT)
            returncode = process.wait(20)
            output.seek(0)
            assert returncode == 0, output.read()
        finally:
            kill_all(process)
    return float((folder / "answered").read_text()) - sent


MAKING = """
import os, signal, threading, time
from mooncake_mpi import MPI

class Stop(Exception):
    pass

def stop(*_):
    raise Stop

signal.signal(signal.SIGUSR1, stop)
comm = MPI.COMM_WORLD.Dup()
rank = comm.rank
for name, arguments in {
    "Split": (0, rank),
    "Dup": (),
    "Clone": (),
    "Create": (comm.Get_group(),),
    "Create_cart": ([comm.size],),
    "Split_type": (MPI.COMM_TYPE_SHARED,),
}.items():
    make = getattr(comm, name)
    if rank == 0:
        def interrupt():
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGUSR1)
        threading.Thread(target=interrupt).start()
        try:
            make(*arguments)
        except Stop:
            pass
        else:
            raise AssertionError(name)
    else:
        time.sleep(0.5)
        make(*arguments)
    after = comm.Dup()
    right, left = (rank + 1) % comm.size, (rank - 1) % comm.size
    assert after.sendrecv(rank, right, 1, None, left, 1) == left
    after.Free()
"""


def test_who_is_interrupted_while_a_communicator_is_made_leaves_nobody_waiting(program):
    """Nor the next one that is made."""
    outcome = run(3, program(MAKING), timeout=60)
    assert outcome.returncode == 0, outcome.output


# Rank 2 sends the signal, as soon as rank 0 waits for rank 1 in the library, or a little later.
ANY_MOMENT = """
import mmap, os, random, signal, sys, threading, time
from mooncake_mpi import MPI

class Stop(Exception):
    pass

def stop(*_):
    global stopped
    stopped = True
    raise Stop

def tell_when_it_waits(turn):
    while sys._current_frames()[threading.main_thread().ident].f_code.co_name != "certain_all":
        time.sleep(0.0002)
    told[0] = turn

def wait_until_told(turn, seconds):
    while told[0] != turn:
        pass
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

world = MPI.COMM_WORLD
rank = world.rank
pid = world.bcast(os.getpid())
with open({file!r}, "a+b") as file:
    file.truncate(1)
    world.Barrier()
    told = mmap.mmap(file.fileno(), 1)
signal.signal(signal.SIGUSR1, stop)
comm = world.Split(rank // 2)
parent = comm.Dup()
for turn in range(1, 256):
    if turn % 3 == 0:
        parent.Free()
        parent = comm.Dup()
    world.Barrier()
    if rank == 0:
        stopped = False
        threading.Thread(target=tell_when_it_waits, args=(turn,)).start()
        try:
            parent.{make}
            while not stopped:
                time.sleep(0)
        except Stop:
            pass
    elif rank == 1:
        wait_until_told(turn, 0.0002)
        parent.{make}
    else:
        wait_until_told(turn, random.uniform(0.0001, 0.0006))
        os.kill(pid, signal.SIGUSR1)
    if rank < 2:
        after = parent.Dup()
        assert after.sendrecv(turn, 1 - rank, 1, None, 1 - rank, 1) == turn
        after.Free()
"""


@pytest.mark.parametrize("make", ["Dup()", "Split(0, rank)"])
def test_what_is_interrupted_at_any_moment_is_made_at_every_rank(program, tmp_path, make):
    path = program(ANY_MOMENT.format(file=str(tmp_path / "told"), make=make))
    outcome = run(3, path, timeout=60)
    assert outcome.returncode == 0, outcome.output
