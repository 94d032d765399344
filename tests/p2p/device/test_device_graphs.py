"""Messages in graphs: each launch is a new message."""

from __future__ import annotations

import threading
import time

import fake_cuda
import numpy as np
import pytest
from payload import is_pattern, pattern
from queues import synchronize
from subject import MPI, quiet_barrier, ring_of

pytestmark = [pytest.mark.ours, pytest.mark.fake, pytest.mark.needs_thread]

SIZES = [8, 5000, 400_000]


@pytest.fixture
def graph(stream):
    """Captures what the stream is given."""
    graphs = []

    def capture():
        graphs.append(fake_cuda.Graph(stream))
        return graphs[-1]

    yield capture
    for captured in graphs:
        captured.destroy()


@pytest.mark.parametrize("size", SIZES)
def test_each_launch_of_a_graph_is_a_new_message(comm, made, stream, queue, graph, size):
    right, left = ring_of(comm)
    out, into = made(size).set(0), made(size).set(255)
    with graph() as captured:
        comm.Send_enqueue(out, right, 1, stream=stream.handle)
        comm.Recv_enqueue(into, left, 1, stream=stream.handle)
    assert (into.get() == 255).all()
    for turn in range(4):
        queue(out, comm.rank + turn, stream)
        captured.launch()
        synchronize(stream)
        assert is_pattern(into.get(), left + turn)
    kept = [made(size) for _ in range(4)]
    for turn, array in enumerate(kept):  # all launched before the first has run
        queue(out, comm.rank + 10 + turn, stream)
        captured.launch()
        fake_cuda.copy_async(array, into, stream)
    synchronize(stream)
    for turn, array in enumerate(kept):
        assert is_pattern(array.get(), left + 10 + turn)


def test_messages_of_a_graph_match_those_of_the_host(comm, made, stream, graph):
    right, left = ring_of(comm)
    out, into = made(5000).set(pattern(5000, comm.rank)), made(5000).set(255)
    with graph() as captured:
        comm.Recv_enqueue(into, left, 1, stream=stream.handle)
        comm.Send_enqueue(out, right, 2, stream=stream.handle)
    host = np.zeros(5000, np.uint8)
    for _ in range(2):
        captured.launch()
        comm.Send(pattern(5000, comm.rank + 3), right, 1)
        comm.Recv(host, left, 2)
        synchronize(stream)
        assert is_pattern(into.get(), left + 3)
        assert is_pattern(host, left)


def test_a_capture_takes_no_wildcards_and_no_requests(comm, made, stream, graph):
    array = made(100)
    with graph():
        for source, tag in ((MPI.ANY_SOURCE, 1), (comm.rank, MPI.ANY_TAG)):
            with pytest.raises(MPI.Exception, match="cannot be captured") as caught:
                comm.Recv_enqueue(array, source, tag, stream=stream.handle)
            assert caught.value.Get_error_class() == MPI.ERR_ARG
        with pytest.raises(MPI.Exception, match="a request cannot be captured"):
            comm.Isend_enqueue(array, comm.rank, 1, stream=stream.handle)


def test_an_error_of_a_graph_s_message_is_told_of_at_the_next_call(comm, made, stream, graph):
    right, left = ring_of(comm)
    into = made(100).set(7)
    with graph() as captured:
        comm.Recv_enqueue(into, left, 1, stream=stream.handle)
    first = comm.Isend(pattern(200, comm.rank), right, 1)
    quiet_barrier()
    captured.launch()
    synchronize(stream)
    first.Wait()
    time.sleep(0.01)
    with pytest.raises(MPI.Exception, match="truncated"):
        comm.Iprobe(left, 1)
    captured.launch()
    comm.Send(pattern(100, comm.rank), right, 1)
    synchronize(stream)
    assert is_pattern(into.get(), left)


def test_messages_of_the_host_go_on_while_another_thread_captures(comm, made, stream, graph):
    right, left = ring_of(comm)
    out, into = made(400_000).set(pattern(400_000, comm.rank)), made(400_000).set(255)
    with graph():
        thread = threading.Thread(target=comm.Sendrecv, args=(out, right, 1, into, left, 1))
        thread.start()
        thread.join()
    assert is_pattern(into.get(), left)
