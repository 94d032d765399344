"""Messages of all lengths, around every limit where a protocol may change."""

from __future__ import annotations

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of

LIMITS = [1 << power for power in range(6, 19)]
AROUND = [limit + offset for limit in LIMITS for offset in (-65, -17, -1, 0, 1, 17)]
SMALL = sorted({0, 1, 2, 3, 7, 8, 9, *(size for size in AROUND if size > 0)})
GUARD = 64


def exchange(comm, size, *, posted):
    dest, source = ring_of(comm)
    into = np.full(size + 2 * GUARD, 0xEE, np.uint8)
    window = into[GUARD : GUARD + size]
    out = pattern(size, comm.rank + size)
    if posted:
        receive = comm.Irecv(window, source, 2)
        send = comm.Isend(out, dest, 2)
        receive.Wait()
    else:
        send = comm.Isend(out, dest, 2)
        comm.Recv(window, source, 2)
    send.Wait()
    assert is_pattern(window, source + size), f"{size} bytes"
    assert (into[:GUARD] == 0xEE).all(), f"{size} bytes: written before the buffer"
    assert (into[GUARD + size :] == 0xEE).all(), f"{size} bytes: written past the buffer"


@pytest.mark.parametrize("posted", [True, False])
def test_small_messages_of_every_length_around_the_limits_arrive_whole(comm, posted):
    for size in SMALL:
        exchange(comm, size, posted=posted)


@pytest.mark.parametrize("posted", [True, False])
@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, (4 << 20) + 3, 16 << 20])
def test_large_messages_arrive_whole_in_both_directions_at_once(comm, size, posted):
    exchange(comm, size, posted=posted)


@pytest.mark.mpi(min_size=2)
def test_64_mib_arrive_whole_both_ways(comm):
    if comm.rank < 2:
        size, peer = 64 << 20, 1 - comm.rank
        into = np.zeros(size, np.uint8)
        comm.Sendrecv(pattern(size, comm.rank), peer, 0, into, peer, 0)
        assert is_pattern(into, peer)


@pytest.mark.parametrize("offset", range(0, 64, 9))
def test_unaligned_buffers_arrive_whole(comm, offset):
    dest, source = ring_of(comm)
    for size in (5, 777, 66_000, 1_100_000):
        memory = np.zeros(size + 128, np.uint8)
        out = np.zeros(size + 128, np.uint8)
        out[offset : offset + size] = pattern(size, comm.rank)
        into = memory[63 - offset : 63 - offset + size]
        comm.Sendrecv(out[offset : offset + size], dest, 0, into, source, 0)
        assert is_pattern(into, source)


def test_many_sizes_in_flight_at_once_do_not_disturb_each_other(comm):
    dest, source = ring_of(comm)
    sizes = [(7919 * index) % 300_000 for index in range(60)]
    into = [np.zeros(size, np.uint8) for size in sizes]
    receives = [comm.Irecv(into[index], source, index) for index in range(60)]
    quiet_barrier()
    sends = [comm.Isend(pattern(sizes[i], i + comm.rank), dest, i) for i in reversed(range(60))]
    MPI.Request.Waitall(receives + sends)
    for index in range(60):
        assert is_pattern(into[index], index + source)


def test_a_shorter_message_leaves_the_rest_of_the_buffer_untouched(comm):
    dest, source = ring_of(comm)
    for size in (0, 1, 100, 5000, 100_000, 2_000_000):
        into = np.full(size + 1000, 0x5A, np.uint8)
        status = MPI.Status()
        send = comm.Isend(pattern(size, 1), dest, 0)
        comm.Recv(into, source, 0, status)
        send.Wait()
        assert status.Get_count(MPI.BYTE) == size
        assert is_pattern(into[:size], 1)
        assert (into[size:] == 0x5A).all()


@pytest.mark.large
@pytest.mark.mpi(min_size=2)
def test_a_message_of_more_than_2_gib_arrives_whole(comm):
    words = (1 << 28) + 5  # 2 GiB + 40 B
    if comm.rank == 0:
        comm.Send(np.arange(words, dtype=np.int64), 1, 0)
    elif comm.rank == 1:
        into = np.empty(words, np.int64)
        status = MPI.Status()
        comm.Recv(into, 0, 0, status)
        assert status.Get_elements(MPI.BYTE) == words * 8
        step = 1 << 24
        for first in range(0, words, step):
            part = into[first : first + step]
            assert np.array_equal(part, np.arange(first, first + part.size))
