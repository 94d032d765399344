"""Messages of any size between arrays of GPUs and of the host arrive whole."""

from __future__ import annotations

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, ring_of

pytestmark = pytest.mark.ours

SIZES = [0, 1, 8, 4 << 10, (64 << 10) - 1, 64 << 10, 1 << 20, (9 << 20) + 3]


def fresh(made, size, where, value=0):
    """Memory of that size with one value everywhere."""
    if where == "host":
        return np.full(size, value, np.uint8)
    return made(size, pool=where == "pool").set(value)


def filled(made, size, where, seed):
    array = fresh(made, size, where)
    if where == "host":
        array[:] = pattern(size, seed)
        return array
    return array.set(pattern(size, seed))


def content(array):
    return array if isinstance(array, np.ndarray) else array.get()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("source", "dest"),
    [
        ("device", "device"),
        ("device", "host"),
        ("host", "device"),
        ("pool", "pool"),
        ("device", "pool"),
        ("pool", "device"),
    ],
)
def test_a_message_arrives_whole(comm, made, size, source, dest):
    right, left = ring_of(comm)
    out, into = filled(made, size, source, comm.rank), fresh(made, size, dest, 255)
    status = MPI.Status()
    request = comm.Isend(out, right, 1)
    comm.Recv(into, left, 1, status)
    request.Wait()
    assert is_pattern(content(into), left)
    assert status.Get_count(MPI.BYTE) == size
    assert (status.source, status.tag) == (left, 1)
