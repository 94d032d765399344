"""Messages between hosts that only RDMA connects."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
import pytest
from barrier import quiet_barrier
from hosts import RAILS, RANK, bytes_sent, device_names

import mooncake_mpi
from mooncake_mpi import _native
from mooncake_mpi.cli import info

pytestmark = [pytest.mark.mpi(min_size=2)]
LARGE = 4 << 20


KEPT = 256 << 20  # freed memory, by default


def pinned_bytes():
    """What adapters hold of this process's memory."""
    return int(re.search(r"VmPin:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10


def swap(comm, array, seed):
    """Both ranks send `array` to each other; what comes is right."""
    other = 1 - RANK
    array[:] = pattern(array.size, seed + RANK)
    buffer = np.zeros(array.size, "u1")
    receive = comm.Irecv(buffer, other, 6)
    comm.Send(array, other, 6)
    receive.Wait()
    assert (buffer == pattern(array.size, seed + other)).all()


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
    where = None
    for turn in range(3):
        memory = mmap.mmap(-1, 1 << 20)
        array = np.frombuffer(memory, "u1")
        where = where or array.ctypes.data
        swap(comm, array, 10 * turn)
        # the kernel gives the same addresses out again
        assert array.ctypes.data == where
        del array
        memory.close()


def test_only_memory_made_for_messages_stays_registered_and_until_its_pages_go(comm):
    size = 3 << 20
    before = pinned_bytes()
    swap(comm, np.empty(size, "u1"), 1)
    assert pinned_bytes() == before
    array = mooncake_mpi.empty(size, "u1")
    where = array.ctypes.data
    swap(comm, array, 2)
    pinned = pinned_bytes()
    assert pinned >= before + size
    del array
    array = mooncake_mpi.empty(size, "u1")
    assert array.ctypes.data == where
    swap(comm, array, 3)
    assert pinned_bytes() == pinned
    _native.keep_shared_memory(0)
    try:
        del array
        assert pinned_bytes() == before
        array = mooncake_mpi.empty(size, "u1")
        assert array.ctypes.data == where
        swap(comm, array, 4)
    finally:
        _native.keep_shared_memory(KEPT)


def test_short_messages_of_ordinary_memory_register_nothing(comm):
    for size in (10_000, 65_536):  # what there may be is there
        swap(comm, np.empty(size, "u1"), size)
    before = pinned_bytes()
    data = pattern(50_000, 1)
    other = 1 - RANK
    if RANK == 0:
        request = comm.Isend(data, other, 7)
        assert pinned_bytes() == before
        comm.send(None, other, 8)
        request.Wait()
    else:
        comm.recv(source=other, tag=8)
        buffer = np.zeros(data.size, "u1")
        comm.Recv(buffer, other, 7)
        assert (buffer == data).all()
        assert pinned_bytes() == before
