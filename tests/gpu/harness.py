"""Checks that two ranks make together, one after the other; one that fails does not stop the rest.

A program makes its checks with ``@check`` and ends with ``main()``. A blocking call raises where it
has waited for too long, so that a check that hangs fails; where even that does not help, the stacks
of all threads are shown and the process ends.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
import traceback
from pathlib import Path

#: Seconds for the whole program; its starter kills it a little later.
SECONDS = float(os.environ.get("MOONCAKE_MPI_GPU_SECONDS", "60"))
STARTED = time.monotonic()
MEETING_SECONDS = 15.0

faulthandler.enable()
faulthandler.dump_traceback_later(SECONDS, exit=True)
# Before the engine is made, which reads its settings then.
os.environ.setdefault("MOONCAKE_MPI_TIMEOUT_S", "8")
os.environ.setdefault("MOONCAKE_MPI_FINALIZE_TIMEOUT_S", "3")

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "p2p"), str(TESTS)]

import numpy as np
from mpi4py import MPI as library  # noqa: N811

from mooncake_mpi import MPI

RANK, RANKS = MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()


class LeftOut(Exception):  # noqa: N818
    """What the check is about is not here; the text says what."""


_checks = []


def check(function):
    """Have the function called with a communicator of its own."""
    _checks.append(function)
    return function


def say(text):
    print(text, flush=True)


def only(rank, text):
    if rank == RANK:
        say(text)


def left():
    """Seconds that the program has left."""
    return SECONDS - (time.monotonic() - STARTED)


def meet(value=0, seconds=MEETING_SECONDS):
    """The largest value of all ranks, without keeping a core busy; a rank that never comes ends the job."""
    mine, largest = np.array([value], "i8"), np.empty(1, "i8")
    request = library.COMM_WORLD.Iallreduce(mine, largest, library.MAX)
    deadline, delay = time.monotonic() + seconds, 2e-5
    while not library.Request.Test(request):
        if time.monotonic() > deadline:
            say(f"rank {RANK}: another rank did not come within {seconds:g} s")
            faulthandler.dump_traceback(all_threads=True)
            end(1)
        time.sleep(delay)
        delay = min(delay * 1.5, 2e-3)
    return int(largest[0])


def end(status):
    """Leave at once, whatever is under way; mpirun ends the others where it is an error."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _outcome_of(function):
    """0: passed, 1: left out, 2: failed; of this rank."""
    comm = MPI.COMM_WORLD.Dup()
    try:
        function(comm)
    except LeftOut as reason:
        only(0, f"left out  {function.__name__}: {reason}")
        return 1
    except BaseException:
        say(f"FAILED    {function.__name__}, on rank {RANK}:\n{traceback.format_exc(limit=-6)}")
        return 2
    comm.Free()
    return 0


def main():
    """Make all checks, in the order that they were defined in; ends the process if one failed."""
    wanted = sys.argv[1:]
    counts = [0, 0, 0]
    for function in _checks:
        if wanted and not any(word in function.__name__ for word in wanted):
            continue
        if meet(int(left() < 4)):
            only(0, f"left out  {function.__name__}: no time is left")
            outcome = 1
        else:
            started = time.monotonic()
            mine = _outcome_of(function)
            outcome = meet(mine)
            seconds = time.monotonic() - started
            if outcome == 0:
                only(0, f"ok        {function.__name__}  {seconds:.2f} s")
            elif outcome == 2 and mine != 2:
                say(f"FAILED    {function.__name__}, on another rank than {RANK}")
        counts[outcome] += 1
    passed, left_out, failed = counts
    only(0, f"== {passed} passed, {failed} failed, {left_out} left out")
    if failed:
        meet()
        end(1)
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(10, exit=True)  # for the end of the program
