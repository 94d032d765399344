"""What every rank of a job in these tests begins with."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
PATHS = [
    str(HERE.parents[1] / "scripts" / "lib" / "hosts"),
    str(HERE.parent / "p2p"),
]
# the ports of the ranks, where they are to be known: others are not reset
PORTS = (20000, 20050)

PRELUDE = f"""
import sys
sys.path[:0] = {PATHS!r}
import json, os, signal, threading, time
from pathlib import Path
import numpy as np
import faults, remote
from subject import MPI

def leave(*error):
    sys.__excepthook__(*error)
    sys.stderr.flush()
    os._exit(1)  # the MPI library may not finish any more

sys.excepthook = leave
threading.excepthook = lambda what: leave(what.exc_type, what.exc_value, what.exc_traceback)
folder = Path(os.environ["TOLD_FOLDER"])
bed = remote.folder_of_bed()
comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
SIZES = (8, 1000, 8192, 40_000, 300_000, 5_000_000)
PATTERN = np.arange(6_000_000, dtype=np.uint8) * 7
PORTS_OF_JOB = ["(", "sport", "ge", ":{PORTS[0]}", "and", "sport", "le", ":{PORTS[1]}", ")", "or",
    "(", "dport", "ge", ":{PORTS[0]}", "and", "dport", "le", ":{PORTS[1]}", ")"]
"""
PRELUDE += '''
def caught(call, *args):
    "The class, the text and the time of the error that a call raises; None where it raises none."
    try:
        call(*args)
    except MPI.Exception as error:
        failed = error.Get_error_class() == getattr(MPI, "ERR_PROC_FAILED", None)
        return ["PROC_FAILED" if failed else str(error), str(error), time.time()]
    return None

def tell(name, value=True):
    part = folder / f".{name}-{rank}"
    part.write_text(json.dumps(value))
    part.rename(folder / f"{name}-{rank}")

def told(name, other, seconds=60):
    "What another rank has told, as soon as it has; without MPI."
    path = folder / f"{name}-{other}"
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"{rank} waited in vain for {name} of {other}")
        time.sleep(0.005)
    return json.loads(path.read_text())

def end(ranks, **values):
    "Write down what happened, and leave without the MPI library when all of these have."
    tell("result", values)
    for other in ranks:
        told("result", other)
    os._exit(0)

def in_a_while(seconds, action, *args):
    thread = threading.Thread(target=lambda: (time.sleep(seconds), action(*args)), daemon=True)
    thread.start()
    return thread

def exchange(partner, enough, sizes=SIZES):
    """Messages of all sizes both ways at once, each byte compared, until one side has enough.

    How many there were, and how long the longest took."""
    turns, longest, over = 0, 0.0, False
    into = np.empty(max(sizes) + 16, np.uint8)
    while not over:
        bytes_now = sizes[turns % len(sizes)]
        mine = PATTERN[turns % 256 : turns % 256 + bytes_now].copy()
        mine[0] = 1 if enough() else 0
        into[:] = 255
        began = time.monotonic()
        comm.Sendrecv(mine, partner, 3, into[:bytes_now], partner, 3)
        longest = max(longest, time.monotonic() - began)
        assert (into[1:bytes_now] == PATTERN[turns % 256 + 1 : turns % 256 + bytes_now]).all(), turns
        over = bool(mine[0] or into[0])
        turns += 1
    return turns, longest
'''
