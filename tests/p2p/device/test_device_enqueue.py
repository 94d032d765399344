"""Messages in the order of a stream: the host goes on, and the stream waits."""

from __future__ import annotations

import os
import threading
import time

import fake_cuda
import numpy as np
import pytest
from arrays import moved
from payload import is_pattern, pattern
from queues import pinned_word, synchronize, write_word
from subject import MPI, quiet_barrier, ring_of
from ways import CLOSING

import mooncake_mpi

pytestmark = [pytest.mark.ours, pytest.mark.fake, pytest.mark.needs_thread]

SIZES = [8, 5000, 400_000]
WAYS_ARE_CLOSED = not CLOSING.isdisjoint(os.environ)


@pytest.fixture
def kernel():
    """Launches a kernel that was not launched before."""
    return lambda stream: fake_cuda.Kernel(0).launch(stream)


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_sends_what_it_has_written_and_reads_what_it_has_received(
    comm, made, stream, queue, size
):
    right, left = ring_of(comm)
    out, into, kept = made(size).set(0), made(size).set(255), made(size).set(0)
    stream.hold()
    queue(out, comm.rank, stream)
    sends = comm.Isend_enqueue(out, right, 1, stream=stream.handle)
    comm.Recv_enqueue(into, left, 1, stream=stream.handle)
    fake_cuda.copy_async(kept, into, stream)
    queue(into, 77, stream)
    time.sleep(0.02)
    assert (into.get() == 255).all()
    stream.let_go()
    synchronize(stream)
    sends.Wait()
    assert is_pattern(kept.get(), left)
    assert is_pattern(into.get(), 77)
    quiet_barrier()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sent_may_be_written_by_the_same_stream(comm, made, stream, queue, size):
    right, left = ring_of(comm)
    out, into = made(size).set(0), made(size).set(255)
    for turn in range(3):
        queue(out, comm.rank + turn, stream)
        comm.Send_enqueue(out, right, 1, stream=stream.handle)
    quiet_barrier()
    for turn in range(3):
        comm.Recv(into, left, 1)
        assert is_pattern(into.get(), left + turn)
    synchronize(stream)


def test_the_array_s_own_stream_is_meant_where_none_is_named(comm, made, stream, queue):
    right, left = ring_of(comm)
    out, into = made(5000, stream=stream).set(0), made(5000, stream=stream).set(255)
    stream.hold()
    queue(out, comm.rank, stream)
    comm.Send_enqueue(out, right, 1)
    comm.Recv_enqueue(into, left, 1)
    time.sleep(0.01)
    assert (into.get() == 255).all()
    stream.let_go()
    synchronize(stream)
    assert is_pattern(into.get(), left)


class Torch:
    def __init__(self, stream):
        self.cuda_stream = stream.handle


class Cupy:
    def __init__(self, stream):
        self.ptr = stream.handle


class Protocol:
    def __init__(self, stream):
        self.handle = stream.handle

    def __cuda_stream__(self):
        return 0, self.handle


@pytest.mark.parametrize("kind", [Torch, Cupy, Protocol, lambda stream: stream.handle])
def test_streams_of_every_library(comm, made, stream, kind):
    right, left = ring_of(comm)
    out, into = made(100).set(pattern(100, comm.rank)), made(100)
    comm.Send_enqueue(out, right, 1, stream=kind(stream))
    comm.Recv_enqueue(into, left, 1, stream=kind(stream))
    synchronize(stream)
    assert is_pattern(into.get(), left)


def test_what_is_no_stream_is_refused(comm, made):
    with pytest.raises(TypeError, match="expected a stream of a GPU, got str"):
        comm.Send_enqueue(made(8), comm.rank, stream="legacy")


@pytest.mark.parametrize("size", SIZES)
def test_memory_of_the_host_in_a_stream_s_order(comm, stream, size):
    right, left = ring_of(comm)
    out, into = pattern(size, comm.rank), np.full(size, 255, np.uint8)
    stream.hold()
    word = pinned_word()
    write_word(stream, word, 1)
    send = comm.Isend_enqueue(out, right, 1, stream=stream.handle)
    comm.Recv_enqueue(into, left, 1, stream=stream.handle)
    send.Wait_enqueue()
    time.sleep(0.02)
    assert (into == 255).all()
    stream.let_go()
    synchronize(stream)
    assert is_pattern(into, left)


def test_memory_of_the_host_needs_a_stream_and_lies_in_one_piece(comm, stream):
    with pytest.raises(MPI.Exception, match="has none of its own") as caught:
        comm.Send_enqueue(np.zeros(8), comm.rank)
    assert caught.value.Get_error_class() == MPI.ERR_ARG
    every_second = MPI.DOUBLE.Create_vector(3, 1, 2).Commit()
    with pytest.raises(MPI.Exception, match="has to be contiguous"):
        comm.Recv_enqueue([np.zeros(6), 1, every_second], comm.rank, stream=stream.handle)
    every_second.Free()


@pytest.mark.parametrize("size", SIZES)
def test_requests_are_awaited_by_a_stream_or_by_the_host(comm, made, streams, queue, size):
    right, left = ring_of(comm)
    stream, other = streams(2)
    out, into, kept = made(size), made(size).set(255), made(size)
    for host in (True, False):
        queue(out, comm.rank, stream)
        receive = comm.Irecv_enqueue(into, left, 1, stream=stream.handle)
        send = comm.Isend_enqueue(out, right, 1, stream=stream.handle)
        if host:
            status = MPI.Status()
            receive.Wait(status)
            send.Wait()
            assert (status.source, status.Get_count(MPI.BYTE)) == (left, size)
        else:
            receive.Wait_enqueue(other.handle)
            fake_cuda.copy_async(kept, into, other)
            send.Wait_enqueue()
            synchronize(other)
            assert is_pattern(kept.get(), left)
        assert not receive
        assert not send
        assert is_pattern(into.get(), left)
        into.set(255)
        synchronize(stream)


def test_requests_are_tested_waited_for_together_and_dropped(comm, made, stream):
    right, left = ring_of(comm)
    out = made(5000).set(pattern(5000, comm.rank))
    arrays = [made(5000).set(255) for _ in range(3)]
    requests = [comm.Irecv_enqueue(array, left, 1, stream=stream.handle) for array in arrays]
    sends = [comm.Isend_enqueue(out, right, 1, stream=stream.handle) for _ in arrays]
    del requests[2]
    while not requests[0].Test():
        pass
    MPI.Request.Waitall([requests[1], *sends])
    until = time.monotonic() + 5
    while not is_pattern(arrays[2].get(), left) and time.monotonic() < until:
        comm.Iprobe()
    for array in arrays:
        assert is_pattern(array.get(), left)
    synchronize(stream)


def test_dropped_receives_arrive_while_another_stream_waits(comm, made, streams):
    right, left = ring_of(comm)
    stream, waiting = streams(2)
    arrays = [made(5000).set(255) for _ in range(8)]
    awaited = made(100).set(255)
    requests = [comm.Irecv_enqueue(array, left, 1, stream=stream.handle) for array in arrays]
    comm.Recv_enqueue(awaited, left, 2, stream=waiting.handle)
    requests.clear()
    sends = [comm.Isend(pattern(5000, comm.rank), right, 1) for _ in arrays]
    until = time.monotonic() + 0.05  # another thread copies
    while time.monotonic() < until:
        comm.Iprobe()
    sends.append(comm.Isend(pattern(100, comm.rank), right, 2))
    until = time.monotonic() + 5
    while not all(is_pattern(array.get(), left) for array in arrays) and time.monotonic() < until:
        comm.Iprobe()
    MPI.Request.Waitall(sends)
    synchronize(waiting)
    assert is_pattern(awaited.get(), left)
    for array in arrays:
        assert is_pattern(array.get(), left)


def test_a_shorter_message_leaves_the_rest_of_the_array(comm, made, stream, queue):
    right, left = ring_of(comm)
    into = made(5000).set(0)
    queue(into, 9, stream)
    comm.Recv_enqueue(into, left, 1, stream=stream.handle)
    comm.Send(made(70).set(pattern(70, comm.rank)), right, 1)
    synchronize(stream)
    found = into.get()
    assert is_pattern(found[:70], left)
    assert (found[70:] == pattern(5000, 9)[70:]).all()


def test_proc_null_does_nothing(comm, made, stream):
    array = made(100).set(7)
    comm.Send_enqueue(array, MPI.PROC_NULL, stream=stream.handle)
    comm.Recv_enqueue(array, MPI.PROC_NULL, stream=stream.handle)
    comm.Irecv_enqueue(array, MPI.PROC_NULL, stream=stream.handle).Wait_enqueue()
    request = comm.Isend_enqueue(array, MPI.PROC_NULL, stream=stream.handle)
    status = MPI.Status()
    request.Wait(status)
    assert status.source == MPI.PROC_NULL
    assert stream.pending == 0


@pytest.mark.parametrize("size", [8, 100_000])
def test_a_wildcard_receive(comm, made, stream, size):
    right, left = ring_of(comm)
    into = made(size).set(255)
    comm.Recv_enqueue(into, MPI.ANY_SOURCE, MPI.ANY_TAG, stream=stream.handle)
    quiet_barrier()
    comm.Send(pattern(size, comm.rank), right, 5)  # the engine's stream may be behind this one
    synchronize(stream)
    assert is_pattern(into.get(), left)


@pytest.mark.parametrize("size", [8, 100_000])
def test_many_rounds_of_a_ping_pong_are_enqueued_at_once(comm, made, stream, queue, size):
    """Both ranks' streams wait from the start, and nobody's host does anything."""
    peer = 1 - comm.rank
    if comm.size != 2:
        return
    rounds = 20
    array, seen = made(size).set(0), [made(size) for _ in range(rounds)]
    start = time.monotonic()
    for turn in range(rounds):
        if comm.rank == 0:
            queue(array, turn, stream)
            comm.Send_enqueue(array, peer, 1, stream=stream.handle)
            queue(array, 200, stream)
            comm.Recv_enqueue(array, peer, 1, stream=stream.handle)
        else:
            comm.Recv_enqueue(array, peer, 1, stream=stream.handle)
            comm.Send_enqueue(array, peer, 1, stream=stream.handle)
        fake_cuda.copy_async(seen[turn], array, stream)
    assert time.monotonic() - start < 5
    synchronize(stream)
    for turn in range(rounds):
        assert is_pattern(seen[turn].get(), turn)


@pytest.mark.parametrize("size", [8, 100_000])
def test_waiting_streams_do_not_hold_up_a_message_of_the_host(comm, made, streams, size):
    """More of them wait than the hardware has channels."""
    right, left = ring_of(comm)
    waiting = streams(64)
    arrays = [made(size).set(255) for _ in waiting]
    for tag, (array, stream) in enumerate(zip(arrays, waiting, strict=True)):
        comm.Recv_enqueue(array, left, tag, stream=stream.handle)
    quiet_barrier()
    out, into = pattern(size, comm.rank), np.zeros(size, np.uint8)
    comm.Sendrecv(out, right, 100, into, left, 100)
    assert is_pattern(into, left)
    sends = [comm.Isend(pattern(size, comm.rank + tag), right, tag) for tag in range(64)]
    MPI.Request.Waitall(sends)
    for tag, (array, stream) in enumerate(zip(arrays, waiting, strict=True)):
        synchronize(stream)
        assert is_pattern(array.get(), left + tag)


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


@pytest.mark.parametrize("sends", [True, False])
def test_a_kernel_is_launched_for_the_first_time_behind_a_wait(comm, made, stream, kernel, sends):
    """The thread that launches it holds the driver until the wait ends, at both ranks."""
    right, left = ring_of(comm)
    out, into = made(100_000).set(pattern(100_000, comm.rank)), made(100_000).set(255)
    if sends:
        send = comm.Isend_enqueue(out, right, 1, stream=stream.handle)
    comm.Recv_enqueue(into, left, 1, stream=stream.handle)
    launched = threading.Event()

    def launch():
        kernel(stream)
        launched.set()

    thread = threading.Thread(target=launch)
    thread.start()
    if not sends:
        time.sleep(0.05)
        assert not launched.is_set()  # it is stuck
        quiet_barrier()
        send = comm.Isend(pattern(100_000, comm.rank), right, 1)
    thread.join(10)
    assert launched.is_set()
    synchronize(stream)
    send.Wait()
    assert is_pattern(into.get(), left)


def test_a_peer_s_message_that_is_too_long_is_told_of_at_the_next_call(comm, made, stream):
    right, left = ring_of(comm)
    into = made(100).set(255)
    first = comm.Isend(pattern(200, comm.rank), right, 1)
    quiet_barrier()
    comm.Recv_enqueue(into, left, 1, stream=stream.handle)
    synchronize(stream)  # it goes on
    first.Wait()
    assert (into.get() == pattern(200, left)[:100]).all()
    time.sleep(0.01)
    with pytest.raises(MPI.Exception, match="truncated") as caught:
        comm.Isend(into, right, 2)
    assert caught.value.Get_error_class() == MPI.ERR_TRUNCATE
    send = comm.Isend(into, right, 2)
    comm.Recv(into, left, 2)
    send.Wait()


def test_a_request_tells_its_own_error(comm, made, stream):
    right, left = ring_of(comm)
    into = made(100)
    receive = comm.Irecv_enqueue(into, left, 1, stream=stream.handle)
    comm.Send(pattern(200, comm.rank), right, 1)
    with pytest.raises(MPI.Exception, match="truncated"):
        receive.Wait()
    comm.Sendrecv(into, right, 2, into, left, 2)


def test_a_receive_is_cancelled(comm, made, stream):
    into = made(100).set(7)
    receive = comm.Irecv_enqueue(into, comm.rank, 1, stream=stream.handle)
    receive.Cancel()
    status = MPI.Status()
    receive.Wait(status)
    assert status.Is_cancelled()
    assert (into.get() == 7).all()


def test_another_stream_waits_for_one_that_was_cancelled_before_its_turn(comm, made, streams):
    stream, other = streams(2)
    into = made(100_000).set(7)
    stream.hold()
    receive = comm.Irecv_enqueue(into, comm.rank, 1, stream=stream.handle)
    receive.Cancel()
    receive.Wait_enqueue(other.handle)
    time.sleep(0.01)
    assert not other.query()
    stream.let_go()
    synchronize(other)
    assert (into.get() == 7).all()


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


def test_the_array_lives_as_long_as_its_message(comm, stream):
    right, left = ring_of(comm)
    into = np.zeros(5000, np.uint8)
    comm.Recv_enqueue(into, left, 1, stream=stream.handle)
    del into
    comm.Send(pattern(5000, comm.rank), right, 1)
    synchronize(stream)


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

    comm.Recv_enqueue(into[:400_000], left, 1, stream=stream.handle)
    comm.Send_enqueue(out[:400_000], right, 1, stream=other.handle)
    synchronize(stream)
    pinned = fake_cuda.calls("cuMemHostAlloc")
    enqueue()
    assert is_pattern(into.get(), left)
    assert fake_cuda.calls("cuMemHostAlloc") == pinned
    quiet_barrier()
    if refuses:
        fake_cuda.fail("cuMemHostAlloc", 2, times=-1)
    comm.Recv_enqueue(into.set(255), left, 2, stream=stream.handle)
    comm.Send(pattern(size, comm.rank), right, 2)
    synchronize(stream)
    if refuses:
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
