"""Messages without bytes in the order of a stream keep their place there and among the others."""

from __future__ import annotations

import time

import fake_cuda
import numpy as np
import pytest
from payload import is_pattern, pattern
from queues import synchronize
from subject import MPI, quiet_barrier, ring_of

pytestmark = [pytest.mark.ours, pytest.mark.fake, pytest.mark.needs_thread]


@pytest.fixture(params=["array", "host"])
def empty(request, made):
    """Makes what has no bytes, of a GPU or of the host."""
    return lambda **options: made(0, **options) if request.param == "array" else np.empty(0)


def test_one_is_there_when_its_sender_s_stream_has_come(comm, made, empty, stream, queue):
    right, left = ring_of(comm)
    stream.hold()
    queue(made(100), 1, stream)
    comm.Send_enqueue(empty(), right, 1, stream=stream.handle)
    request = comm.Irecv(empty(), left, 1)
    quiet_barrier()
    until = time.monotonic() + 0.02
    while time.monotonic() < until:
        assert not request.Test()
    quiet_barrier()
    stream.let_go()
    request.Wait()
    synchronize(stream)


@pytest.mark.parametrize("first", ["send", "receive"])
def test_a_stream_waits_for_one_and_its_sender_s_goes_on(comm, made, empty, streams, queue, first):
    right, left = ring_of(comm)
    one, other = streams(2)
    kept = made(100).set(0)
    if first == "send":
        comm.Send_enqueue(empty(), right, 1, stream=one.handle)
        synchronize(one)  # it waits for nobody
        quiet_barrier()
    comm.Recv_enqueue(empty(), left, 1, stream=other.handle)
    queue(kept, 7, other)
    if first == "receive":
        time.sleep(0.01)
        assert (kept.get() == 0).all()
        quiet_barrier()
        comm.Send_enqueue(empty(), right, 1, stream=one.handle)
    synchronize(other)
    assert is_pattern(kept.get(), 7)
    quiet_barrier()


def test_the_stream_of_an_array_without_elements_is_its_own(comm, made, stream, queue):
    right, left = ring_of(comm)
    stream.hold()
    queue(made(100), 1, stream)
    comm.Send_enqueue(made(0, stream=stream), right, 1)
    with fake_cuda.current(0):
        comm.Send_enqueue(made((3, 0), "f8"), right, 2)  # of the default stream
    into = made(0, stream=stream)
    comm.Recv(into, left, 2)
    request = comm.Irecv(into, left, 1)
    quiet_barrier()
    assert not any(request.Test() for _ in range(100))
    quiet_barrier()
    stream.let_go()
    request.Wait()


def test_they_keep_their_place_among_the_others(comm, made, empty, stream, queue):
    right, left = ring_of(comm)
    sizes = [0, 8, 0, 0, 5000, 0, 400_000, 0]
    arrays = [made(size) if size else empty() for size in sizes]
    for turn, (size, array) in enumerate(zip(sizes, arrays, strict=True)):
        if size:
            queue(array, comm.rank + turn, stream)
        comm.Isend_enqueue(array, right, 1, stream=stream.handle).Free()
    into, status = made(400_000), MPI.Status()
    for turn, size in enumerate(sizes):
        comm.Recv(into, left, 1, status)
        assert status.Get_count(MPI.BYTE) == size
        assert is_pattern(into.get()[:size], left + turn)
    synchronize(stream)
    quiet_barrier()


def test_all_send_before_they_receive(comm, empty, stream):
    right, left = ring_of(comm)
    comm.Isend_enqueue(empty(), right, 1, stream=stream.handle).Wait()
    comm.Recv(empty(), left, 1)
    request = comm.Isend_enqueue(empty(), right, 1, stream=stream.handle)
    request.Wait_enqueue(stream.handle)
    comm.Recv_enqueue(empty(), left, 1, stream=stream.handle)
    synchronize(stream)
    quiet_barrier()


def test_one_that_is_received_into_more_and_one_that_is_cut(comm, made, empty, stream, queue):
    right, left = ring_of(comm)
    into, status = made(100).set(9), MPI.Status()
    comm.Send_enqueue(empty(), right, 1, stream=stream.handle)
    comm.Recv(into, left, 1, status)
    assert status.Get_count(MPI.BYTE) == 0
    assert (into.get() == 9).all()
    send = comm.Isend_enqueue(made(100), right, 2, stream=stream.handle)
    with pytest.raises(MPI.Exception, match="100 bytes, the buffer 0"):
        comm.Recv(empty(), left, 2)
    send.Wait()
    comm.Send_enqueue(empty(), right, 3, stream=stream.handle)
    comm.Recv_enqueue(into, left, 3, stream=stream.handle)
    queue(into, 5, stream)
    synchronize(stream)
    assert is_pattern(into.get(), 5)
    quiet_barrier()


def test_in_a_graph(comm, empty, stream, made):
    right, left = ring_of(comm)
    graph = fake_cuda.Graph(stream)
    with graph:
        comm.Send_enqueue(empty(), right, 1, stream=stream.handle)
        comm.Recv_enqueue(empty(), left, 1, stream=stream.handle)
    for _ in range(3):
        graph.launch()
    synchronize(stream)
    comm.Isend(pattern(8, 1), right, 1).Free()
    into = np.zeros(8, np.uint8)
    comm.Recv(into, left, 1)  # none of them is left
    assert is_pattern(into, 1)
    graph.destroy()
    quiet_barrier()
