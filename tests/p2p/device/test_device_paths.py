"""Which way messages of GPUs took is counted for each peer, and a slow one warned of once."""

from __future__ import annotations

import os
import time
import warnings

import fake_cuda
import pytest
from arrays import PAIRS, content, filled, fresh, moved
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of

import mooncake_mpi

pytestmark = pytest.mark.ours

SIZE = 1 << 20
PUSH_IS_CLOSED = "MOONCAKE_MPI_FAKE_CUDA_FAIL" in os.environ


def exchange(comm, made, out_where, into_where, size=SIZE):
    """A message to the right and from the left; what was counted of the two, sent and received."""
    right, left = ring_of(comm)
    before = mooncake_mpi.transfers(comm)
    out, into = filled(made, size, out_where, comm.rank), fresh(made, size, into_where)
    receive = comm.Irecv(into, left, 3)
    comm.Ssend(out, right, 3)  # one that is not parked, however late its receiver is
    receive.Wait()
    assert is_pattern(content(into), left)
    after = mooncake_mpi.transfers(comm)
    sent = moved(before[right].sent, after[right].sent)
    return sent, moved(before[left].received, after[left].received)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("size", [40, 100_000, SIZE])
def test_both_ends_count_the_way_of_a_message(comm, made, pair, size):
    sent, received = exchange(comm, made, *pair, size)
    if pair == ("device", "device"):
        path = "staged" if PUSH_IS_CLOSED else "push"
        assert sent == received == {path: (1, size)}
        return
    device, host = (sent, received) if pair[0] == "device" else (received, sent)
    assert device == {"staged": (1, size)}
    assert sum(nbytes for _, nbytes in host.values()) in {0, size}
    assert not host.keys() & {"push", "staged"}


def test_the_entries_are_those_of_ranks_or_of_processes(comm, made):
    exchange(comm, made, "device", "device")
    ranks = mooncake_mpi.transfers(comm)
    assert [entry.rank for entry in ranks] == list(range(comm.size))
    assert ranks[comm.rank].pid == os.getpid()
    assert all(entry.near for entry in ranks)
    processes = mooncake_mpi.transfers()
    assert {entry.rank for entry in processes} == {None}
    by_pid = {entry.pid: entry for entry in processes}
    for entry in ranks:
        assert by_pid[entry.pid].sent == entry.sent
        assert by_pid[entry.pid].received == entry.received
    assert [entry.pid for entry in processes] == sorted(by_pid)


def test_a_communicator_that_was_freed_is_refused(comm):
    freed = comm.Dup()
    freed.Free()
    with pytest.raises(MPI.Exception) as caught:
        mooncake_mpi.transfers(freed)
    assert caught.value.Get_error_class() == MPI.ERR_COMM


def test_memory_of_a_pool_is_told_of_by_its_receiver(comm, made):
    if comm.size == 1:
        return
    _, left = ring_of(comm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mooncake_mpi.DetourWarning)
        sent, received = exchange(comm, made, "device", "pool")
        quiet_barrier()
    assert sent == received == {"staged": (1, SIZE)}
    assert any("cudaMallocAsync" in text for text in mooncake_mpi.transfers(comm)[left].troubles)


@pytest.mark.fake
@pytest.mark.needs_push
def test_memory_at_an_address_that_was_freed_is_opened_when_the_old_one_is_closed(comm):
    right, left = ring_of(comm)
    if comm.size == 1:
        return
    out = fake_cuda.array(SIZE, "u1").set(pattern(SIZE, comm.rank))
    fake_cuda.library().fake_cuda_delay(b"cuIpcCloseMemHandle", 20_000)
    before = mooncake_mpi.transfers(comm)
    addresses = set()
    for _ in range(4):
        into = fake_cuda.array(SIZE, "u1")
        addresses.add(into.ptr)
        comm.Sendrecv(out, right, 3, into, left, 3)
        assert is_pattern(into.get(), left)
        quiet_barrier()
        into.free()
    after = mooncake_mpi.transfers(comm)
    fake_cuda.library().fake_cuda_delay(b"cuIpcCloseMemHandle", 0)
    quiet_barrier()
    out.free()
    assert len(addresses) == 1
    assert moved(before[right].sent, after[right].sent) == {"push": (4, 4 * SIZE)}


@pytest.mark.fake
@pytest.mark.needs_push
def test_a_receiver_sleeps_while_a_copy_takes_long(comm, made):
    if comm.size == 1:
        return
    right, left = ring_of(comm)
    out, into = filled(made, SIZE, "device", comm.rank), fresh(made, SIZE, "device")
    comm.Sendrecv(out, right, 3, into, left, 3)  # all that is made once is there
    quiet_barrier()
    if comm.rank == 0:
        fake_cuda.library().fake_cuda_operation_time(300_000)
        comm.Send(out, 1, 4)
        fake_cuda.library().fake_cuda_operation_time(5)
    elif comm.rank == 1:
        used, start = time.process_time(), time.monotonic()
        comm.Recv(into, 0, 4)
        used, took = time.process_time() - used, time.monotonic() - start
        assert took > 0.25
        assert used < took / 3
    quiet_barrier()
