"""The installed package beside a library that uses C++ streams, whichever is loaded first.

    python beside_streams.py path/to/streams.so

Each order has a process of its own, in which both must work: the package's ``info`` reads files of the
system, and the library's streams read numbers.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes, sys

def package():
    import numpy
    from mooncake_mpi import MPI
    from mooncake_mpi.cli import info
    into = numpy.zeros(1000)
    MPI.COMM_SELF.Sendrecv(numpy.arange(1000.0), 0, 0, into, 0, 0)
    assert into[999] == 999
    assert info.main([]) == 0

def streams():
    library = ctypes.CDLL(sys.argv[2])
    library.sum_of_numbers.restype = ctypes.c_double
    assert library.sum_of_numbers(b"1 2.5 3e2") == 303.5
    assert library.lines_of(b"/proc/self/status") > 10

steps = [package, streams, package, streams]
for step in steps if sys.argv[1] == "package" else steps[1:]:
    step()
"""

for first in ("package", "streams"):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, first, sys.argv[1]],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{first} first: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    print(f"   works beside another library's streams, {first} loaded first")
