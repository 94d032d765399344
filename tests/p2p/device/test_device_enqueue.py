"""Messages in the order of a stream: the host goes on, and the stream waits."""

from __future__ import annotations

import threading
import time

import fake_cuda
import numpy as np
import pytest
from payload import is_pattern, pattern
from queues import pinned_word, synchronize, write_word
from subject import MPI, quiet_barrier, ring_of

pytestmark = [pytest.mark.ours, pytest.mark.fake, pytest.mark.needs_thread]

SIZES = [8, 5000, 400_000]


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


def test_the_array_lives_as_long_as_its_message(comm, stream):
    right, left = ring_of(comm)
    into = np.zeros(5000, np.uint8)
    comm.Recv_enqueue(into, left, 1, stream=stream.handle)
    del into
    comm.Send(pattern(5000, comm.rank), right, 1)
    synchronize(stream)
