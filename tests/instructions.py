"""Instructions and allocations of a small message, counted by valgrind.

    python tests/instructions.py [--mpirun MPIRUN]

Starts two ranks under callgrind, which counts only inside ``PyObject_ASCII``: the loops below run in a
``__repr__``, and two lengths of a loop tell what one turn costs. Counted are the sender and the receiver
of messages that the ring holds already, through the package and through the MPI library; a loop that
calls a C function doing nothing is subtracted, and so is the copying of 16 KiB. Takes a minute; prints
a table, and ends with 1 if a way costs more than it may.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

COUNTS = (50, 250)
MAPPED = "Isend / Recv, 16 KiB of Alloc_mem"  # without the copying of the bytes
# The most that a message may cost, sent and received: what it did cost, and what a build's layout
# may add.
LIMITS = {
    "Send / Recv, mooncake_mpi": (785, 1_280),
    "send / recv of an int": (3_300, 3_410),
    "send / recv of a list": (13_300, 4_400),
    MAPPED: (2_640, 2_430),
}
SECONDS = 300
CALLGRIND = ["valgrind", "--tool=callgrind", "--toggle-collect=PyObject_ASCII"]
DUMP_AFTER = "--dump-after=PyObject_ASCII"
COPIES = re.compile(r"mem(cpy|move)")
ALLOCATORS = re.compile(r"^(malloc|calloc|realloc|operator new.*|_Znwm)$")


class Loop:
    """Calls ``function`` ``count`` times while it is shown."""

    def __init__(self, function, count):
        self.function, self.count = function, count

    def __repr__(self):
        function = self.function
        for _ in range(self.count):
            function()
        return ""


def cases(comm, library, np, mapped=None):
    """Name, what a sender calls, what a receiver calls; ``None``: a call that does nothing."""
    array, into = np.zeros(1), np.zeros(1)
    block = np.zeros(16 * 1024, "u1")
    double = library.DOUBLE
    status = library.Status()
    return [
        ("a C call that does nothing", None, None),
        (
            "Send / Recv, mooncake_mpi",
            lambda: comm.Send(array, 1, 3),
            lambda: comm.Recv(into, 0, 3),
        ),
        (
            "[array, MPI.DOUBLE], with a status",
            lambda: comm.Send([array, double], 1, 3),
            lambda: comm.Recv([into, double], 0, 3, status),
        ),
        (
            "Isend / Irecv, Wait",
            lambda: comm.Isend(array, 1, 3).Wait(),
            lambda: comm.Irecv(into, 0, 3).Wait(),
        ),
        (
            MAPPED,
            lambda: comm.Isend(mapped, 1, 3).Free(),
            lambda: comm.Recv(block, 0, 3),
        ),
        ("send / recv of an int", lambda: comm.send(7, 1, 3), lambda: comm.recv(None, 0, 3)),
        ("send / recv of a list", lambda: comm.send([7], 1, 3), lambda: comm.recv(None, 0, 3)),
        (
            "send / recv of an int, the MPI library",
            lambda: library.COMM_WORLD.send(7, 1, 3),
            lambda: library.COMM_WORLD.recv(None, 0, 3),
        ),
        (
            "Send / Recv, the MPI library",
            lambda: library.COMM_WORLD.Send(array, 1, 3),
            lambda: library.COMM_WORLD.Recv(into, 0, 3),
        ),
    ]


def nothing():
    """As much Python as a case."""
    return abs(1)


def run_counted(folder):
    """One rank, under callgrind: the senders' loops first, then the receivers'."""
    import numpy as np
    from mpi4py import MPI as library  # noqa: N811

    from mooncake_mpi import MPI

    comm, rank = MPI.COMM_WORLD, MPI.COMM_WORLD.rank
    Path(folder, f"rank.{rank}").write_text(str(os.getpid()))
    mapped = np.frombuffer(MPI.Alloc_mem(16 * 1024), "u1")
    for _, send, receive in cases(comm, library, np, mapped):
        for count in (20, *COUNTS):  # the first is not counted by the reader: it warms up
            library.COMM_WORLD.Barrier()
            if rank == 0:
                ascii(Loop(send or nothing, count))
            library.COMM_WORLD.Barrier()
            if rank == 1:
                ascii(Loop(receive or nothing, count))


def copying(text, names):
    """Instructions of a dump's functions that copy bytes: how many depends on the processor."""
    total, counted, called = 0, False, False
    for line in text.splitlines():
        if found := re.match(r"fn=\((\d+)\)", line):
            counted = bool(COPIES.search(names.get(found[1], "")))
        elif line.startswith("calls="):
            called = True  # the next line is the callee's
        elif counted and (found := re.match(r"[-+*\d]\d* (\d+)$", line)):
            total += 0 if called else int(found[1])
            called = False
        else:
            called = False
    return total


def read_dump(path):
    """Instructions of a dump, calls of allocators in it, and instructions that copy bytes."""
    text = path.read_text()
    total = int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE).group(1))
    names = dict(re.findall(r"^c?fn=\((\d+)\) (.+)$", text, re.MULTILINE))
    calls = re.findall(
        r"^cfn=\((\d+)\).*\n(?:c?f[il]=.*\n|cob=.*\n)*calls=(\d+)", text, re.MULTILINE
    )
    allocations = sum(int(n) for i, n in calls if ALLOCATORS.match(names.get(i, "")))
    return total, allocations, copying(text, names)


def slopes(folder, rank):
    """Instructions, allocations and copying of one turn of each case's loop."""
    pid = (folder / f"rank.{rank}").read_text()
    dumps = sorted(folder.glob(f"out.{pid}.*"), key=lambda path: int(path.suffix[1:]))
    found = []
    for start in range(0, len(dumps) - 2, 3):
        low, high = map(read_dump, dumps[start + 1 : start + 3])
        turns = COUNTS[1] - COUNTS[0]
        found.append([(more - less) / turns for less, more in zip(low, high, strict=True)])
    return found


def report(folder):
    """Prints the table; what is beyond its limit."""
    beyond = []
    names = [name for name, *_ in cases(None, __import__("mpi4py.MPI").MPI, __import__("numpy"))]
    sender, receiver = slopes(folder, 0), slopes(folder, 1)
    assert len(sender) == len(receiver) == len(names), (len(sender), len(receiver))
    print(f"{'instructions (allocations)':38} {'send':>14} {'receive':>14}")
    base = [side[0][0] for side in (sender, receiver)]
    for name, *sides in zip(names, sender, receiver, strict=True):
        costs = [
            cost - (0 if name == names[0] else subtracted) - (copies if name == MAPPED else 0)
            for (cost, _, copies), subtracted in zip(sides, base, strict=True)
        ]
        shown = [f"{cost:,.0f} ({new:.0f})" for cost, (_, new, _) in zip(costs, sides, strict=True)]
        print(f"{name:38} {shown[0]:>14} {shown[1]:>14}")
        limits = LIMITS.get(name, costs)
        for side, cost, limit in zip(("send", "receive"), costs, limits, strict=True):
            if cost > limit + 0.5:
                beyond.append(f"{name}: {cost:,.0f} instructions to {side}, at most {limit:,}")
    return beyond


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mpirun", default="mpirun", help="the mpirun to use")
    parser.add_argument("--folder", help=argparse.SUPPRESS)  # of a rank
    options = parser.parse_args()
    if options.folder:
        run_counted(options.folder)
        return
    with tempfile.TemporaryDirectory(prefix="mooncake-mpi-") as name:
        counting = [*CALLGRIND, DUMP_AFTER, f"--callgrind-out-file={name}/out.%p"]
        program = [*counting, sys.executable, __file__, "--folder", name]
        # Where the interpreter looks for names depends on it.
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        command = [options.mpirun, "-n", "2", *program]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
                env=environment,
            )
        except subprocess.TimeoutExpired as error:
            sys.exit(f"no end after {SECONDS} s: {(error.stderr or b'').decode()}")
        if done.returncode != 0:
            sys.exit(done.stderr)
        beyond = report(Path(name))
        if beyond:
            sys.exit("\n".join(beyond))


if __name__ == "__main__":
    main()
