"""Messages between hosts that only RDMA connects."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from barrier import quiet_barrier
from hosts import RAILS, RANK, bytes_sent, device_names

from mooncake_mpi import _native
from mooncake_mpi.cli import info

pytestmark = [pytest.mark.mpi(min_size=2)]
LARGE = 4 << 20


def pattern(size, seed):
    return np.random.default_rng(seed).integers(0, 256, size, "u1")


def test_the_ranks_are_on_different_hosts_and_verbs_is_the_lane(comm):
    assert _native.lane_of(comm._communicator, 1 - RANK) == "verbs"
    assert _native.lane_of(comm._communicator, RANK) == "self"


def test_info_lists_the_devices_and_says_which_are_used(comm):
    lines = dict(info.rdma())
    assert lines["verbs lane"] == "on"
    for name in device_names(RANK):
        assert lines[f"RDMA port {name}:1"].endswith("used")


@pytest.mark.parametrize("size", [0, 1, 100, 8191, 8192, 8193, 300_001, LARGE + 3])
def test_every_byte_arrives_and_none_behind_the_message(comm, size):
    other = 1 - RANK
    buffer = np.full(size + 64, 0xA5, "u1")
    receive = comm.Irecv(buffer, other, 3)
    comm.Send(pattern(size, RANK), other, 3)
    receive.Wait()
    assert (buffer[:size] == pattern(size, other)).all()
    assert (buffer[size:] == 0xA5).all()


def test_many_messages_of_all_sizes_are_under_way_in_both_directions(comm):
    other = 1 - RANK
    sizes = [(index * 7919) % 40_000 for index in range(60)]
    buffers = [np.zeros(size, "u1") for size in sizes]
    requests = [comm.Irecv(buffer, other, tag) for tag, buffer in enumerate(buffers)]
    messages = [pattern(size, 100 + RANK + 2 * tag) for tag, size in enumerate(sizes)]
    requests += [comm.Isend(message, other, tag) for tag, message in enumerate(messages)]
    for request in requests:
        request.Wait()
    for tag, buffer in enumerate(buffers):
        assert (buffer == pattern(sizes[tag], 100 + other + 2 * tag)).all(), tag


@pytest.mark.lab
def test_a_large_message_takes_both_rails(comm):
    quiet_barrier()
    before = [bytes_sent(rail, "a") for rail in RAILS]
    if RANK == 0:
        comm.Send(pattern(LARGE, 5), 1, 4)
    else:
        buffer = np.zeros(LARGE, "u1")
        comm.Recv(buffer, 0, 4)
        assert (buffer == pattern(LARGE, 5)).all()
    quiet_barrier()
    shares = [bytes_sent(rail, "a") - before[rail] for rail in RAILS]
    assert min(shares) > LARGE // 10
    assert sum(shares) >= LARGE


def test_memory_that_was_freed_and_mapped_again_is_read_afresh(comm):
    other = 1 - RANK
    where = None
    for turn in range(3):
        memory = mmap.mmap(-1, 1 << 20)
        array = np.frombuffer(memory, "u1")
        where = where or array.ctypes.data
        array[:] = pattern(1 << 20, 10 * turn + RANK)
        buffer = np.zeros(1 << 20, "u1")
        receive = comm.Irecv(buffer, other, 6)
        comm.Send(array, other, 6)
        receive.Wait()
        assert (buffer == pattern(1 << 20, 10 * turn + other)).all()
        # the kernel gives the same addresses out again
        assert array.ctypes.data == where
        del array
        memory.close()
