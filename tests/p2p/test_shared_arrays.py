"""Messages from and to memory that the processes of the node map."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import AGAINST_MPI, MPI, quiet_barrier, ring_of

import mooncake_mpi
from mooncake_mpi import _native
from mooncake_mpi.memory import shared_arrays

GUARD = 4096
CHUNKS = [16 << 10, 64 << 10, 128 << 10, 1 << 20]
SIZES = [1, 5000, *(chunk + offset for chunk in CHUNKS for offset in (-1, 0, 4097)), (8 << 20) + 5]


def shared(size):
    return mooncake_mpi.zeros(size, np.uint8)


def ordinary(size):
    return np.zeros(size, np.uint8)


def from_numpy(size):
    with mooncake_mpi.numpy_allocator(1):
        return np.zeros(size, np.uint8)


def allocated(size):
    memory = MPI.Alloc_mem(size)
    array = np.frombuffer(memory, np.uint8)
    array[:] = 0
    return array


MIXES = [
    (shared, shared),
    (shared, ordinary),
    (ordinary, shared),
    (from_numpy, allocated),
    (allocated, from_numpy),
]


def free(array):
    if isinstance(array.base, MPI.buffer):
        MPI.Free_mem(array.base)


@pytest.mark.parametrize(("make_out", "make_into"), MIXES)
def test_messages_arrive_whole_between_memory_of_every_kind(comm, make_out, make_into):
    dest, source = ring_of(comm)
    largest = max(SIZES)
    all_out, all_into = make_out(largest + 13), make_into(largest + 2 * GUARD)
    for size in SIZES:
        out, into = all_out[13 : 13 + size], all_into[GUARD : GUARD + size]
        out[:] = pattern(size, comm.rank + size)
        all_into[: size + 2 * GUARD] = 0xEE
        if size % 2:
            requests = [comm.Irecv(into, source, 3), comm.Isend(out, dest, 3)]
            MPI.Request.Waitall(requests)
        else:
            send = comm.Isend(out, dest, 3)
            comm.Recv(into, source, 3)
            send.Wait()
        assert is_pattern(into, source + size), f"{size} bytes"
        assert (all_into[:GUARD] == 0xEE).all(), f"{size} bytes: written before the buffer"
        behind = all_into[GUARD + size : 2 * GUARD + size]
        assert (behind == 0xEE).all(), f"{size} bytes: written past the buffer"
    del out, into
    quiet_barrier()
    free(all_out)
    free(all_into)


@pytest.mark.parametrize(("make_out", "make_into"), MIXES[:3])
def test_a_longer_message_is_cut_and_nothing_is_written_past_the_buffer(comm, make_out, make_into):
    dest, source = ring_of(comm)
    for size, room in ((100_000, 99_999), (1 << 20, 70_000), (3_000_000, 1), (1 << 20, 0)):
        into = make_into(room + GUARD)
        into[:] = 0xEE
        out = make_out(size)
        out[:] = pattern(size, comm.rank)
        send = comm.Isend(out, dest, 0)
        with pytest.raises(MPI.Exception) as caught:
            comm.Recv(into[:room], source, 0)
        assert caught.value.Get_error_class() == MPI.ERR_TRUNCATE
        send.Wait()
        if not AGAINST_MPI:
            assert is_pattern(into[:room], source)
        assert (into[room:] == 0xEE).all()


def test_an_array_at_the_address_of_a_freed_one_sends_and_receives_its_own_bytes(comm):
    dest, source = ring_of(comm)
    addresses = set()
    for turn in range(100):
        out, into = shared(200_000), shared(200_000)
        addresses.add(out.__array_interface__["data"][0])
        out[:] = pattern(out.size, turn + comm.rank)
        comm.Sendrecv(out, dest, 0, into, source, 0)
        assert is_pattern(into, turn + source)
        del out, into
    assert len(addresses) < 10


def resources():
    maps = Path("/proc/self/maps").read_text().splitlines()
    return len(os.listdir("/proc/self/fd")), sum("mooncake_mpi" in line for line in maps)


@pytest.mark.ours
def test_descriptors_and_mappings_stay_flat_over_thousands_of_arrays(comm):
    dest, source = ring_of(comm)

    def exchange(turns):
        for turn in range(turns):
            size = 20_000 + (turn * 7919) % 300_000
            out, into = mooncake_mpi.empty(size, np.uint8), mooncake_mpi.empty(size, np.uint8)
            comm.Sendrecv(out, dest, 0, into, source, 0)

    exchange(50)
    quiet_barrier()
    gc.collect()
    before, usage = resources(), shared_arrays.usage()
    exchange(800)
    gc.collect()
    assert resources() == before
    assert shared_arrays.usage()["live_bytes"] == usage["live_bytes"]
    assert shared_arrays.usage()["regions"] == usage["regions"]


@pytest.mark.ours
@pytest.mark.mpi(min_size=2)
def test_such_messages_are_copied_by_loads_and_stores(comm):
    dest, source = ring_of(comm)
    out, into = shared(4 << 20), shared(4 << 20)
    before = _native.stats()
    for _ in range(5):
        comm.Sendrecv(out, dest, 0, into, source, 0)
    quiet_barrier()
    after = _native.stats()
    change = {name: after[name] - before[name] for name in after}
    assert change["chunks_read"] + change["chunks_written"] > 0
    assert change["chunks_mapped"] == change["chunks_read"] + change["chunks_written"]
    assert change["fragments_sent"] == 0


@pytest.mark.ours
def test_memory_of_a_large_array_that_was_sent_goes_back_when_it_dies(comm):
    """Beyond what is kept: also while the receiver still has it mapped."""
    dest, source = ring_of(comm)
    keep = 1 << 20
    _native.keep_shared_memory(keep)
    try:
        into = np.zeros(16 << 20, np.uint8)
        out = shared(16 << 20)
        comm.Sendrecv(out, dest, 0, into, source, 0)
        del out
        assert shared_arrays.usage()["kept_bytes"] <= keep
    finally:
        _native.keep_shared_memory(256 << 20)


def test_objects_with_such_arrays_travel(comm):
    dest, source = ring_of(comm)
    array = shared(500_000)
    array[:] = pattern(array.size, comm.rank)
    got = comm.sendrecv({"array": array, "rank": comm.rank}, dest, 0, None, source, 0)
    assert got["rank"] == source
    assert is_pattern(got["array"], source)


@pytest.mark.ours
def test_a_forked_child_writes_into_its_own_copy_while_messages_go_on(comm):
    dest, source = ring_of(comm)
    out, into = shared(1 << 20), shared(1 << 20)
    out[:] = pattern(out.size, comm.rank)
    comm.Sendrecv(out, dest, 0, into, source, 0)
    child = os.fork()
    if child == 0:
        good = is_pattern(into, source)
        out[:] = 0
        into[:] = 0
        del out, into
        spare = shared(1 << 20)
        spare[:] = 0xFF
        os._exit(0 if good else 1)
    for _ in range(20):
        comm.Sendrecv(out, dest, 0, into, source, 0)
        assert is_pattern(into, source)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    comm.Sendrecv(out, dest, 0, into, source, 0)
    assert is_pattern(into, source)
