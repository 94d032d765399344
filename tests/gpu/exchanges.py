"""Arrays of the GPU or of the host whose contents are known, and an exchange of them in a ring."""

from __future__ import annotations

import numpy as np
from harness import MPI, RANK
from kinds import chosen
from payload import is_pattern, pattern

gpu = chosen()


def ring_of(comm):
    rank, size = comm.Get_rank(), comm.Get_size()
    return (rank + 1) % size, (rank - 1) % size


def new(size, where="gpu", value=255):
    array = np.empty(size, "u1") if where == "host" else gpu.empty(size)
    put(array, np.full(size, value, "u1"))
    return array


def filled(size, where="gpu", seed=None):
    array = new(size, where)
    put(array, pattern(size, RANK if seed is None else seed))
    return array


def put(array, values):
    if isinstance(array, np.ndarray):
        array[...] = values
    elif len(values):
        gpu.put(array, values)


def content(array):
    return array if isinstance(array, np.ndarray) else gpu.get(array)


def expect(array, seed, what=""):
    found = content(array)
    if not is_pattern(found, seed):
        wrong = np.flatnonzero(found != pattern(found.size, seed))
        raise AssertionError(
            f"{what}: {wrong.size} of {found.size} bytes are wrong, the first at {wrong[0]}, "
            f"the last at {wrong[-1]}: {found[wrong[:8]].tolist()} "
            f"and not {pattern(found.size, seed)[wrong[:8]].tolist()}"
        )


def exchange(comm, size, source, dest, what=""):
    right, left_rank = ring_of(comm)
    out, into = filled(size, source), new(size, dest)
    status = MPI.Status()
    request = comm.Isend(out, right, 1)
    comm.Recv(into, left_rank, 1, status)
    request.Wait()
    assert status.Get_count(MPI.BYTE) == size, (status.Get_count(MPI.BYTE), size)
    expect(into, left_rank, f"{what} {source} -> {dest}, {size} B")
