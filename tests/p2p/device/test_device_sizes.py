"""Messages of any size between arrays of GPUs and of the host arrive whole."""

from __future__ import annotations

import numpy as np
import pytest
from arrays import PAIRS, content, filled, fresh, put
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of

pytestmark = pytest.mark.ours

SIZES = [0, 1, 8, 4 << 10, (64 << 10) - 1, 64 << 10, 1 << 20, (9 << 20) + 3]
POOLED = [("pool", "pool"), ("device", "pool"), ("pool", "device"), ("pool", "host")]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("source", "dest"), [*PAIRS, *POOLED])
def test_a_message_arrives_whole(comm, made, size, source, dest):
    right, left = ring_of(comm)
    out, into = filled(made, size, source, comm.rank), fresh(made, size, dest)
    status = MPI.Status()
    request = comm.Isend(out, right, 1)
    comm.Recv(into, left, 1, status)
    request.Wait()
    assert is_pattern(content(into), left)
    assert status.Get_count(MPI.BYTE) == size
    assert (status.source, status.tag) == (left, 1)


@pytest.mark.parametrize("size", [1, 4099, 70_001, (1 << 20) + 7])
@pytest.mark.parametrize("first", [1, 37])
@pytest.mark.parametrize(("source", "dest"), PAIRS)
def test_a_part_of_an_array_travels_alone(comm, made, first, size, source, dest):
    right, left = ring_of(comm)
    out, into = fresh(made, size + 100, source), fresh(made, size + 100, dest)
    put(out[first : first + size], pattern(size, comm.rank))
    request = comm.Isend(out[first : first + size], right, 1)
    comm.Recv(into[first + 3 : first + 3 + size], left, 1)
    request.Wait()
    arrived = content(into)
    assert is_pattern(arrived[first + 3 : first + 3 + size], left)
    assert (arrived[: first + 3] == 255).all()
    assert (arrived[first + 3 + size :] == 255).all()


@pytest.mark.parametrize("size", [40, 5000, 300_000])
@pytest.mark.parametrize(("source", "dest"), PAIRS)
def test_a_shorter_message_leaves_the_rest_of_the_buffer(comm, made, size, source, dest):
    right, left = ring_of(comm)
    into = fresh(made, size + 50, dest)
    status = MPI.Status()
    request = comm.Isend(filled(made, size, source, comm.rank), right, 1)
    comm.Recv(into, left, 1, status)
    request.Wait()
    assert status.Get_count(MPI.BYTE) == size
    assert is_pattern(content(into)[:size], left)
    assert (content(into)[size:] == 255).all()


@pytest.mark.parametrize("size", [40, 5000, 300_000, 2 << 20])
@pytest.mark.parametrize(("source", "dest"), PAIRS)
@pytest.mark.parametrize("posted", [False, True], ids=["unexpected", "expected"])
def test_a_longer_message_is_truncated_and_the_bytes_behind_stay(
    comm, made, size, source, dest, posted
):
    right, left = ring_of(comm)
    whole = fresh(made, size, dest)
    into, out = whole[: size // 2], filled(made, size, source, comm.rank)
    if posted:
        receive = comm.Irecv(into, left, 1)
        quiet_barrier()
        send = comm.Isend(out, right, 1)
    else:
        send = comm.Isend(out, right, 1)
        quiet_barrier()
        receive = comm.Irecv(into, left, 1)
    with pytest.raises(MPI.Exception) as caught:
        receive.Wait()
    assert caught.value.Get_error_class() == MPI.ERR_TRUNCATE
    send.Wait()
    assert is_pattern(content(whole)[: size // 2], left)
    assert (content(whole)[size // 2 :] == 255).all()


@pytest.mark.parametrize(("source", "dest"), PAIRS)
def test_a_thousand_messages_arrive_in_order(comm, made, source, dest):
    right, left = ring_of(comm)
    sizes = [(i * 37) % 3000 + (200_000 if i % 100 == 50 else 0) for i in range(1000)]
    longest = max(sizes)
    out, into = filled(made, longest, source, comm.rank), fresh(made, longest, dest)
    marks = np.zeros(1000, np.int64)
    for first in range(0, 1000, 50):
        sends = [comm.Isend(out[:size], right, 2) for size in sizes[first : first + 50]]
        for i in range(first, first + 50):
            status = MPI.Status()
            comm.Recv(into, left, 2, status)
            marks[i] = status.Get_count(MPI.BYTE)
        MPI.Request.Waitall(sends)
    assert marks.tolist() == sizes
    assert is_pattern(content(into)[: sizes[-1]], left)


@pytest.mark.parametrize(("from_device", "to_device"), [(0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("size", [8, 5000, 3 << 20])
def test_messages_travel_between_any_two_devices(comm, made, size, from_device, to_device):
    right, left = ring_of(comm)
    out = made(size, device=from_device).set(pattern(size, comm.rank))
    into = made(size, device=to_device).set(255)
    request = comm.Isend(out, right, 1)
    comm.Recv(into, left, 1)
    request.Wait()
    assert is_pattern(into.get(), left)
