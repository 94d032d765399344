"""Which way a message goes that a stream waits for, and what becomes of it where a way is closed."""

from __future__ import annotations

import os
import time

import fake_cuda
import numpy as np
import pytest
from arrays import moved
from payload import is_pattern, pattern
from queues import synchronize
from subject import MPI, library, quiet_barrier, ring_of
from ways import CLOSING

import mooncake_mpi

pytestmark = [pytest.mark.ours, pytest.mark.fake, pytest.mark.needs_thread]

WAYS_ARE_CLOSED = not CLOSING.isdisjoint(os.environ)


@pytest.mark.needs_push
@pytest.mark.parametrize("size", [8, 100_000, 3 << 20])
@pytest.mark.parametrize("to_waiting", [False, True])
def test_an_array_goes_by_the_engine_of_the_process_whose_streams_do_not_wait(
    comm, made, streams, size, to_waiting
):
    if comm.size != 2:
        return
    waiting = streams(64) if comm.rank == 1 else []
    arrays = [made(100).set(255) for _ in waiting]
    out, into = made(size).set(pattern(size, comm.rank)), made(size).set(255)
    for tag, (array, stream) in enumerate(zip(arrays, waiting, strict=True)):
        comm.Recv_enqueue(array, 0, tag, stream=stream.handle)
    quiet_barrier()
    before = mooncake_mpi.transfers(comm)[1 - comm.rank]
    for _ in range(2):
        into.set(255)
        quiet_barrier()
        if to_waiting == (comm.rank == 0):
            comm.Ssend(out, 1 - comm.rank, 100)
        else:
            comm.Recv(into, 1 - comm.rank, 100)
            assert is_pattern(into.get(), 1 - comm.rank)
    quiet_barrier()
    after = mooncake_mpi.transfers(comm)[1 - comm.rank]
    quiet_barrier()
    sends = to_waiting == (comm.rank == 0)
    one, other = moved(before.sent, after.sent), moved(before.received, after.received)
    assert (one if sends else other) == {"push" if to_waiting else "pull": (2, 2 * size)}
    assert (other if sends else one) == {}
    if comm.rank == 0:
        MPI.Request.Waitall([comm.Isend(pattern(100, tag), 1, tag) for tag in range(64)])
    for tag, (array, stream) in enumerate(zip(arrays, waiting, strict=True)):
        synchronize(stream)
        assert is_pattern(array.get(), tag)
    quiet_barrier()


@pytest.mark.needs_push
@pytest.mark.parametrize("size", [100_000, 3 << 20])
@pytest.mark.parametrize(("who", "path"), [("receiver", "kernel"), ("sender", "pull")])
def test_both_ends_count_the_way_of_a_message_that_a_stream_waits_for(
    comm, made, stream, size, who, path
):
    """Its receiver's takes it by a kernel, and from its sender's an engine of the receiver's."""
    if comm.size != 2:
        return
    out, into = made(size).set(pattern(size, comm.rank)), made(size).set(255)
    quiet_barrier()
    before = mooncake_mpi.transfers(comm)[1 - comm.rank]
    if comm.rank == 0 and who == "receiver":
        comm.Recv_enqueue(into, 1, 1, stream=stream.handle)
    elif comm.rank == 0:
        comm.Send_enqueue(out, 1, 1, stream=stream.handle)
    quiet_barrier()
    if comm.rank == 0:
        synchronize(stream)
    elif who == "receiver":
        comm.Ssend(out, 0, 1)
    else:
        comm.Recv(into, 0, 1)
    receives = (comm.rank == 0) == (who == "receiver")
    assert not receives or is_pattern(into.get(), 1 - comm.rank)
    quiet_barrier()
    after = mooncake_mpi.transfers(comm)[1 - comm.rank]
    counts = moved(before.received, after.received) if receives else moved(before.sent, after.sent)
    assert counts == {path: (1, size)}


REFUSING = [
    "cuMemcpyAsync",
    "cuStreamWaitValue32",
    "cuStreamGetCtx",
    "cuStreamIsCapturing",
    "cuLaunchKernel",
]


@pytest.mark.parametrize("function", REFUSING)
@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("size", [100, 400_000])
def test_a_driver_that_refuses(comm, made, stream, function, skip, size):
    """The call says so, and the next one succeeds."""
    into = made(size).set(255)
    fake_cuda.fail(function, 801, skip=skip)
    refusal = "CUDA_ERROR_NOT_SUPPORTED"
    try:
        comm.Recv_enqueue(into, comm.rank, 1, stream=stream.handle)
    except MPI.Exception as error:
        refusal = str(error)
    else:
        comm.Send(pattern(size, 1), comm.rank, 1)
    assert "CUDA_ERROR_NOT_SUPPORTED" in refusal
    fake_cuda.fail(function, 801, times=0)
    synchronize(stream)
    comm.Recv_enqueue(into, comm.rank, 2, stream=stream.handle)
    comm.Send(pattern(size, 3), comm.rank, 2)
    synchronize(stream)
    assert is_pattern(into.get(), 3)


def is_taken_by_streams():
    """Whether the library's kernels could be loaded."""
    return not os.environ.get("MOONCAKE_MPI_FAKE_CUDA_FAIL", "").startswith("cuModule")


@pytest.mark.needs_push
def test_a_stream_takes_a_large_message_itself(comm, made, stream):
    """No copy engine has anything to do with it."""
    right, left = ring_of(comm)
    if left == comm.rank or not is_taken_by_streams():
        return
    size = 400_000
    out, into = made(size).set(pattern(size, comm.rank)), made(size).set(255)
    other = fake_cuda.Stream()
    before = fake_cuda.calls("cuMemcpyAsync")
    for _ in range(3):
        comm.Recv_enqueue(into, left, 1, stream=stream.handle)
        comm.Send_enqueue(out, right, 1, stream=other.handle)
        synchronize(stream)
        assert is_pattern(into.get(), left)
    synchronize(other)
    other.destroy()
    assert fake_cuda.calls("cuMemcpyAsync") == before
    quiet_barrier()


@pytest.mark.parametrize("size", [100, 400_000])
@pytest.mark.parametrize("sender", ["enqueued", "array", "host"])
@pytest.mark.parametrize("receiver", ["enqueued", "array", "host"])
def test_every_end_meets_every_other(comm, made, streams, size, sender, receiver):
    right, left = ring_of(comm)
    if (sender, receiver) == ("array", "enqueued") and (WAYS_ARE_CLOSED or left == comm.rank):
        return  # a copy engine has to bring it to the host, which the wait may hold up
    first, second = streams(2)
    held = made if sender != "host" else lambda size: np.empty(size, np.uint8)
    taken = made if receiver != "host" else lambda size: np.empty(size, np.uint8)
    out, into = held(size), taken(size + 9)
    content = pattern(size, comm.rank)
    out.set(content) if sender != "host" else np.copyto(out, content)
    into.set(9) if receiver != "host" else into.fill(9)
    for _ in range(2):
        if receiver == "enqueued":
            comm.Recv_enqueue(into, left, 1, stream=first.handle)
        else:
            receive = comm.Irecv(into, left, 1)
        if sender == "enqueued":
            comm.Send_enqueue(out, right, 1, stream=second.handle)
        else:
            send = comm.Isend(out, right, 1)
        receiver == "enqueued" or receive.Wait()
        sender == "enqueued" or send.Wait()
        synchronize(first)
        synchronize(second)
        seen = into.get() if receiver != "host" else into
        assert is_pattern(seen[:size], left)
        assert (seen[size:] == 9).all()
    quiet_barrier()


@pytest.mark.needs_push
@pytest.mark.parametrize("refuses", [False, True])
def test_pinned_memory_comes_when_it_is_needed_after_all(comm, made, stream, refuses):
    """Where messages of devices go by no way of the host's, and one then does."""
    right, left = ring_of(comm)
    if left == comm.rank or not is_taken_by_streams():
        return
    size = (66 << 20) if refuses else (34 << 20)  # more than is there
    out, into = made(size).set(pattern(size, comm.rank)), made(size).set(255)
    other = fake_cuda.Stream()

    def enqueue():
        comm.Recv_enqueue(into, left, 1, stream=stream.handle)
        comm.Send_enqueue(out, right, 1, stream=other.handle)
        synchronize(stream)
        synchronize(other)

    def have_met():  # both neighbours, of every rank
        there = mooncake_mpi.transfers(comm)
        taken = "kernel" in there[left].received and "kernel" in there[right].sent
        return all(library.COMM_WORLD.allgather(taken))

    for _ in range(20):
        comm.Recv_enqueue(into[:400_000], left, 1, stream=stream.handle)
        comm.Send_enqueue(out[:400_000], right, 1, stream=other.handle)
        synchronize(stream)
        if have_met():
            break
    pinned = fake_cuda.calls("cuMemHostAlloc")
    enqueue()
    assert is_pattern(into.get(), left)
    assert fake_cuda.calls("cuMemHostAlloc") == pinned
    quiet_barrier()
    if refuses:
        fake_cuda.fail("cuMemHostAlloc", 2, times=-1)
    told, content = False, pattern(size, comm.rank)
    comm.Recv_enqueue(into.set(255), left, 2, stream=stream.handle)
    try:
        comm.Send(content, right, 2)
    except MPI.Exception:  # the receive has failed already, and the send has not begun
        assert refuses
        told = True
        comm.Send(content, right, 2)
    synchronize(stream)
    if refuses:
        if not told:
            with pytest.raises(MPI.Exception):
                comm.Iprobe(left, 3)
        assert (into.get() == 255).all()
        receive = comm.Irecv(np.zeros(size, np.uint8), left, 3)
        comm.Send_enqueue(out, right, 3, stream=other.handle)
        with pytest.raises(MPI.Exception):
            receive.Wait()
        synchronize(other)
        with pytest.raises(MPI.Exception):
            comm.Iprobe(left, 3)
        quiet_barrier()
        fake_cuda.fail("cuMemHostAlloc", 2, times=0)
    else:
        assert is_pattern(into.get(), left)
    quiet_barrier()
    comm.Send_enqueue(out, right, 4, stream=other.handle)
    host = np.zeros(size, np.uint8)
    comm.Recv(host, left, 4)
    assert is_pattern(host, left)
    enqueue()
    assert is_pattern(into.get(), left)
    other.destroy()
    quiet_barrier()


@pytest.mark.parametrize("receiver", ["enqueued", "array", "host"])
def test_a_send_that_the_driver_refuses_late_leaves_no_receive_waiting(
    comm, made, stream, receiver
):
    """Its receiver may have met it by then: it fails, or takes the next message."""
    if comm.size != 2 or not is_taken_by_streams():
        return
    size, other = 400_000, 1 - comm.rank
    if comm.rank == 0:
        out = made(size).set(pattern(size, 1))
        comm.Recv(np.empty(1), 1, 1)
        time.sleep(0.005)
        fake_cuda.delay("cuLaunchKernel", 30_000)
        fake_cuda.fail("cuLaunchKernel", 801)
        with pytest.raises(MPI.Exception, match="NOT_SUPPORTED"):
            comm.Send_enqueue(out, other, 2, stream=stream.handle)
        fake_cuda.delay("cuLaunchKernel", 0)
        fake_cuda.fail("cuLaunchKernel", 801, times=0)
        synchronize(stream)
        comm.Send(pattern(size, 2), other, 2)
        comm.Send(pattern(size, 3), other, 2)
        return
    into = np.empty(size, np.uint8) if receiver == "host" else made(size)
    comm.Send(np.empty(1), 0, 1)
    failed = False
    try:
        if receiver == "enqueued":
            comm.Recv_enqueue(into, other, 2, stream=stream.handle)
            synchronize(stream)
            comm.Iprobe(other, 3)
        else:
            comm.Recv(into, other, 2)
    except MPI.Exception:
        failed = True
    seen = into if receiver == "host" else into.get()
    assert failed or is_pattern(seen, 2)
    last = np.empty(size, np.uint8)
    for expected in (2, 3) if failed else (3,):
        comm.Recv(last, other, 2)
        assert is_pattern(last, expected)
