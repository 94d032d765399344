"""A stream comes to wait for a receive that was posted before, in the place of the program."""

from __future__ import annotations

import os
import time

import fake_cuda
import numpy as np
import pytest
from payload import is_pattern, pattern
from queues import synchronize
from subject import MPI, quiet_barrier, ring_of
from ways import CLOSING

from mooncake_mpi import _native

WAYS_ARE_CLOSED = not CLOSING.isdisjoint(os.environ)
pytestmark = [pytest.mark.ours, pytest.mark.fake, pytest.mark.needs_thread]

SIZES = [8, 5000, 400_000, (3 << 20) + 5]


def engines_are_held_up(*, is_self=False):
    """Whether a copy engine has to bring an array to the host, which a stream's wait may hold up."""
    return WAYS_ARE_CLOSED or is_self


def wait_in_stream(request, stream):
    """The wait of the stream; fails where the program would have to wait."""
    wait = _native.wait_in_stream(request, stream.handle)
    assert wait is not None
    return wait


def until_over(wait, seconds=10):
    """Until the stream has come behind the message."""
    end = time.monotonic() + seconds
    while not wait.over():
        assert time.monotonic() < end, "the stream hangs"
        time.sleep(0.0005)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sender", ["array", "host", "enqueued"])
def test_what_the_stream_is_given_then_comes_after_the_message(comm, made, streams, size, sender):
    right, left = ring_of(comm)
    if sender == "array" and engines_are_held_up(is_self=left == comm.rank):
        return
    first, second = streams(2)
    into, kept = made(size + 9).set(255), made(size + 9).set(0)
    content = pattern(size, comm.rank)
    out = content if sender == "host" else made(size).set(content)
    for _ in range(3):
        into.set(255)
        receive = comm.Irecv(into, left, 1)
        wait = wait_in_stream(receive, first)
        fake_cuda.copy_async(kept, into, first)
        assert not wait.over()
        quiet_barrier()
        if sender == "enqueued":
            comm.Send_enqueue(out, right, 1, stream=second.handle)
            synchronize(second)
        else:
            comm.Send(out, right, 1)
        synchronize(first)
        assert wait.over()
        status = MPI.Status()
        receive.Wait(status)
        assert (status.Get_count(MPI.BYTE), status.source) == (size, left)
        seen = kept.get()
        assert is_pattern(seen[:size], left)
        assert (seen[size:] == 255).all()
    quiet_barrier()


@pytest.mark.needs_push
@pytest.mark.parametrize("size", SIZES)
def test_a_message_that_is_matched_and_not_ready_is_waited_for_in_the_stream(
    comm, made, streams, queue, size
):
    right, left = ring_of(comm)
    if engines_are_held_up(is_self=left == comm.rank):
        return
    first, held = streams(2)
    out, into, kept = made(size, stream=held), made(size).set(255), made(size).set(0)
    out.set(0)
    quiet_barrier()
    held.hold()
    queue(out, comm.rank, held)
    send = comm.Isend(out, right, 1)
    receive = comm.Irecv(into, left, 1)
    for _ in range(20):  # matched by now
        assert not receive.Test()
        time.sleep(0.001)
    wait = wait_in_stream(receive, first)
    fake_cuda.copy_async(kept, into, first)
    assert not wait.over()
    quiet_barrier()
    held.let_go()
    synchronize(first)
    assert is_pattern(kept.get(), left)
    send.Wait()
    receive.Wait()
    quiet_barrier()


@pytest.mark.parametrize("sender_waits", [False, True])
@pytest.mark.parametrize("size", [8, 400_000])
def test_waits_may_stand_in_another_order_than_the_messages_come(
    comm, made, stream, size, sender_waits
):
    """Their sender waits for each, so the one behind has to come before the one that is waited for."""
    if comm.size != 2 or engines_are_held_up():
        return
    other = 1 - comm.rank
    out = made(size)
    arrays = [made(size).set(255) for _ in range(4)]
    if comm.rank == 0:
        receives = [comm.Irecv(array, other, tag) for tag, array in enumerate(arrays)]
        quiet_barrier()
        waits = [wait_in_stream(receive, stream) for receive in receives]
        quiet_barrier()
        for wait in waits:
            until_over(wait)
        for tag, (array, receive) in enumerate(zip(arrays, receives, strict=True)):
            receive.Wait()
            assert is_pattern(array.get(), tag)
        comm.Send(out, other, 9)
    else:
        last = comm.Irecv(made(size), other, 9)
        quiet_barrier()
        wait = wait_in_stream(last, stream) if sender_waits else None
        quiet_barrier()
        for tag in reversed(range(4)):
            comm.Ssend(out.set(pattern(size, tag)), other, tag)
        last.Wait()
        if wait is not None:
            until_over(wait)
    quiet_barrier()


@pytest.mark.parametrize("size", SIZES)
def test_streams_of_both_sides_wait_while_messages_go_both_ways(comm, made, streams, size):
    right, left = ring_of(comm)
    if engines_are_held_up(is_self=left == comm.rank):
        return
    waiting = streams(3)
    for turn in range(3):
        into = [made(size).set(255) for _ in waiting]
        out = [made(size).set(pattern(size, comm.rank + 10 * tag)) for tag, _ in enumerate(waiting)]
        receives = [comm.Irecv(array, left, tag) for tag, array in enumerate(into)]
        if turn == 2:
            quiet_barrier()
        waits = [  # or it has come, or some of it has
            _native.wait_in_stream(receive, stream.handle)
            for receive, stream in zip(receives, waiting, strict=True)
        ]
        if turn != 0:
            quiet_barrier()
        sends = [comm.Isend(array, right, tag) for tag, array in reversed([*enumerate(out)])]
        MPI.Request.Waitall(sends)
        for tag, (stream, wait) in enumerate(zip(waiting, waits, strict=True)):
            synchronize(stream)
            if wait is None:
                receives[tag].Wait()
            else:
                assert wait.over()
            assert is_pattern(into[tag].get(), left + 10 * tag)
        MPI.Request.Waitall(receives)
        quiet_barrier()


def test_a_cancelled_receive_lets_its_stream_go_on(comm, made, stream):
    into = made(5000).set(255)
    receive = comm.Irecv(into, comm.rank, 1)
    wait = wait_in_stream(receive, stream)
    receive.Cancel()
    receive.Wait()
    synchronize(stream)
    assert wait.over()
    assert (into.get() == 255).all()


def test_a_dropped_receive_lets_its_stream_go_on(comm, made, stream):
    right, left = ring_of(comm)
    if engines_are_held_up(is_self=left == comm.rank):
        return
    into = made(5000).set(255)
    wait = wait_in_stream(comm.Irecv(into, left, 1), stream)
    quiet_barrier()
    comm.Send(made(5000).set(pattern(5000, comm.rank)), right, 1)
    synchronize(stream)
    until_over(wait)
    assert is_pattern(into.get(), left)
    quiet_barrier()


def test_a_message_that_is_too_long_fails_and_its_stream_goes_on(comm, made, stream):
    right, left = ring_of(comm)
    if engines_are_held_up(is_self=left == comm.rank):
        return
    into = made(5000).set(255)
    receive = comm.Irecv(into[:3000], left, 1)
    wait_in_stream(receive, stream)
    quiet_barrier()
    comm.Send(made(5000).set(pattern(5000, comm.rank)), right, 1)
    synchronize(stream)
    with pytest.raises(MPI.Exception, match="TRUNCATE"):
        receive.Wait()
    assert is_pattern(into.get()[:3000], left)
    assert (into.get()[3000:] == 255).all()
    quiet_barrier()


def test_what_has_come_or_is_none_of_a_stream_s_is_waited_for_by_the_program(comm, made, stream):
    right, left = ring_of(comm)
    into = made(5000).set(255)
    send = comm.Isend(made(5000).set(pattern(5000, comm.rank)), right, 1)
    receive = comm.Irecv(into, left, 1)
    receive.Wait()
    assert _native.wait_in_stream(receive, stream.handle) is None
    send.Wait()
    host = np.zeros(10, np.uint8)
    receive = comm.Irecv(host, left, 2)
    assert _native.wait_in_stream(receive, stream.handle) is None
    send = comm.Isend(made(5000), right, 2) if comm.rank < 0 else comm.Isend(host[:1], right, 2)
    assert _native.wait_in_stream(send, stream.handle) is None
    MPI.Request.Waitall([send, receive])
    quiet_barrier()


@pytest.mark.parametrize("size", [8, 400_000])
def test_a_message_to_oneself_is_waited_for_in_a_stream(comm, made, streams, size):
    first, second = streams(2)
    into, out = made(size).set(255), made(size).set(pattern(size, 3))
    receive = comm.Irecv(into, comm.rank, 1)
    wait = wait_in_stream(receive, first)
    comm.Send_enqueue(out, comm.rank, 1, stream=second.handle)
    synchronize(second)
    synchronize(first)
    assert wait.over()
    assert is_pattern(into.get(), 3)
    receive.Wait()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("receiver", ["array", "host", "enqueued"])
def test_what_a_stream_is_given_after_a_send_may_write_the_array(
    comm, made, streams, size, receiver
):
    right, left = ring_of(comm)
    if engines_are_held_up(is_self=left == comm.rank):
        return
    first, second = streams(2)
    out, other = made(size).set(pattern(size, comm.rank)), made(size).set(pattern(size, 77))
    into = np.zeros(size, np.uint8) if receiver == "host" else made(size).set(255)
    for _ in range(3):
        out.set(pattern(size, comm.rank))
        send = comm.Isend(out, right, 1)
        wait = _native.wait_in_stream(send, first.handle)
        assert wait is not None or size <= 65536  # a small one may be put aside
        fake_cuda.copy_async(out, other, first)
        assert size <= 65536 or not wait.over()
        quiet_barrier()
        if receiver == "enqueued":
            comm.Recv_enqueue(into, left, 1, stream=second.handle)
            synchronize(second)
        else:
            comm.Recv(into, left, 1)
        synchronize(first)
        assert wait is None or wait.over()
        send.Wait()
        assert is_pattern(into if receiver == "host" else into.get(), left)
        assert is_pattern(out.get(), 77)
        quiet_barrier()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("receives_first", [False, True])
def test_one_stream_waits_for_what_goes_both_ways(comm, made, stream, size, receives_first):
    right, left = ring_of(comm)
    if engines_are_held_up(is_self=left == comm.rank):
        return
    intos = [made(size).set(255) for _ in range(3)]
    outs = [made(size) for _ in intos]
    for turn in range(4):
        for tag, out in enumerate(outs):
            out.set(pattern(size, comm.rank + tag + turn))
        receives = [comm.Irecv(into, left, tag) for tag, into in enumerate(intos)]
        sends = [comm.Isend(out, right, tag) for tag, out in enumerate(outs)]
        requests = receives + sends if receives_first else sends + receives
        waits = [_native.wait_in_stream(request, stream.handle) for request in requests]
        for request, wait in zip(requests, waits, strict=True):
            if wait is None:
                request.Wait()
        synchronize(stream)
        assert all(wait is None or wait.over() for wait in waits)
        for tag, into in enumerate(intos):
            assert is_pattern(into.get(), left + tag + turn)
        MPI.Request.Waitall(requests)
    quiet_barrier()


def test_a_send_is_given_up_and_its_stream_goes_on(comm, made, stream):
    right, left = ring_of(comm)
    if engines_are_held_up(is_self=left == comm.rank):
        return
    out, into = made(400_000).set(pattern(400_000, comm.rank)), made(400_000)
    send = comm.Isend(out, right, 1)
    wait = wait_in_stream(send, stream)
    assert not wait.over()
    wait.let_go()
    synchronize(stream)
    assert wait.over()
    quiet_barrier()
    comm.Recv(into, left, 1)
    assert is_pattern(into.get(), left)
    send.Wait()
    wait.let_go()  # which is gone by now
    quiet_barrier()
