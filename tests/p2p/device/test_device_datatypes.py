"""Datatypes with even gaps are gathered and scattered by the GPU."""

from __future__ import annotations

import fake_cuda
import numpy as np
import pytest
from subject import MPI, ring_of

pytestmark = [pytest.mark.ours, pytest.mark.fake]


@pytest.fixture
def column():
    """Two columns of a plane of eight."""
    pair = MPI.DOUBLE.Create_contiguous(2)
    vector = pair.Create_vector(1000, 1, 4).Commit()
    pair.Free()
    yield vector
    vector.Free()


def plane(rank):
    return np.arange(8000.0).reshape(1000, 8) + 10_000 * rank


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("to_host", [False, True])
def test_columns_are_sent_and_received(comm, made, column, blocking, to_host):
    right, left = ring_of(comm)
    out = made((1000, 8), "f8").set(plane(comm.rank))
    into = np.zeros((1000, 8)) if to_host else made((1000, 8), "f8").set(np.zeros((1000, 8)))
    if blocking:
        comm.Sendrecv([out, 1, column], right, 1, [into, 1, column], left, 1)
    else:
        receive = comm.Irecv([into, 1, column], left, 1)
        send = comm.Isend([out, 1, column], right, 1)
        MPI.Request.Waitall([send, receive])
    found = into if to_host else into.get()
    assert (found[:, :2] == plane(left)[:, :2]).all()
    assert (found[:, 2:] == 0).all()


def test_columns_are_received_from_contiguous_memory_and_may_be_fewer(comm, made, column):
    right, left = ring_of(comm)
    into = made((1000, 8), "f8").set(np.zeros((1000, 8)))
    numbers = np.arange(1001.0) + comm.rank
    status = MPI.Status()
    comm.Sendrecv(made(1001, "f8").set(numbers), right, 1, [into, 1, column], left, 1, status)
    assert status.Get_count(MPI.DOUBLE) == 1001
    found = into.get()
    assert (found[:500, :2].ravel() == numbers[:1000] - comm.rank + left).all()
    assert found[500, 0] == 1000 + left
    assert found[500, 1] == 0
    assert (found[501:] == 0).all()
    assert (found[:, 2:] == 0).all()


def test_columns_are_sent_in_the_order_of_their_stream(comm, made, stream, column):
    right, left = ring_of(comm)
    out = made((1000, 8), "f8", stream=stream).set(np.zeros((1000, 8)))
    source = made((1000, 8), "f8").set(plane(comm.rank))
    into = made(2000, "f8")
    stream.hold()
    fake_cuda.copy_async(out, source, stream)
    send = comm.Isend([out, 1, column], right, 1)
    assert not send.Test()
    stream.let_go()
    comm.Recv(into, left, 1)
    send.Wait()
    assert (into.get() == plane(left)[:, :2].ravel()).all()


def test_a_persistent_send_gathers_at_each_start(comm, made, column):
    right, left = ring_of(comm)
    out, into = made((1000, 8), "f8"), made((1000, 8), "f8")
    send, receive = comm.Send_init([out, 1, column], right), comm.Recv_init([into, 1, column], left)
    for turn in range(3):
        out.set(plane(comm.rank) + turn)
        receive.Start()
        send.Start()
        MPI.Request.Waitall([send, receive])
        assert (into.get()[:, :2] == plane(left)[:, :2] + turn).all()
    send.Free()
    receive.Free()


@pytest.mark.needs_thread
def test_vectors_in_a_stream_s_order_are_refused(comm, made, stream, column):
    array = made((1000, 8), "f8")
    for call in (comm.Send_enqueue, comm.Recv_enqueue):
        with pytest.raises(MPI.Exception, match="has to be contiguous"):
            call([array, 1, column], comm.rank, 1, stream=stream.handle)
    with fake_cuda.current(0):  # what was gathered is not sent, but needs the array
        fake_cuda.call("cuStreamSynchronize", fake_cuda.LEGACY_STREAM)


def test_vectors_that_go_backwards_or_beyond_the_array_are_refused(comm, made):
    array = made(6, "f8")
    backwards = MPI.DOUBLE.Create_vector(2, 1, -2).Commit()
    with pytest.raises((BufferError, ValueError)):
        comm.Send([array, 1, 3, backwards], comm.rank)
    far = MPI.DOUBLE.Create_vector(4, 1, 2).Commit()
    with pytest.raises(ValueError, match=r"too small|beyond|out of bounds"):
        comm.Send([array, 1, far], comm.rank)
    backwards.Free()
    far.Free()
