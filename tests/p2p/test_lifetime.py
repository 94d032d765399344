"""A pending request keeps its buffer alive and in place."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of


class Array(np.ndarray):
    """An array to which a weak reference can point."""


def tracked(size, seed=None):
    array = np.zeros(size, np.uint8).view(Array)
    if seed is not None:
        array[:] = pattern(size, seed)
    return array


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_pending_receive_keeps_its_deleted_array(comm, size):
    dest, source = ring_of(comm)
    array = tracked(size)
    view = memoryview(array)
    alive = weakref.ref(array)
    receive = comm.Irecv(array, source, 1)
    del array
    view.release()
    gc.collect()
    assert alive() is not None
    quiet_barrier()
    send = comm.Isend(pattern(size, 1), dest, 1)
    receive.Wait()
    send.Wait()
    del receive
    gc.collect()
    assert alive() is None


def test_a_pending_receive_into_a_deleted_array_does_not_touch_new_memory(comm):
    dest, source = ring_of(comm)
    size = 3_000_000
    receive = comm.Irecv(tracked(size), source, 1)
    gc.collect()
    others = [np.full(size, 7, np.uint8) for _ in range(4)]
    quiet_barrier()
    send = comm.Isend(pattern(size, 1), dest, 1)
    MPI.Request.Waitall([receive, send])
    assert all((other == 7).all() for other in others)


def test_a_pending_send_keeps_its_deleted_array_and_sends_its_bytes(comm):
    dest, source = ring_of(comm)
    size = 2_000_000
    request = comm.Isend(tracked(size, 3), dest, 1)
    gc.collect()
    others = [np.full(size, 7, np.uint8) for _ in range(4)]
    quiet_barrier()
    into = np.zeros(size, np.uint8)
    comm.Recv(into, source, 1)
    assert is_pattern(into, 3)
    request.Wait()
    del others


def test_resizing_a_bytearray_with_a_pending_request_raises(comm):
    dest, source = ring_of(comm)
    for size in (16, 500_000):
        into, out = bytearray(size), bytearray(pattern(size, 2).tobytes())
        receive = comm.Irecv(into, source, 1)
        with pytest.raises(BufferError):
            into.extend(b"more")
        quiet_barrier()
        send = comm.Issend(out, dest, 1)
        receive.Wait()
        send.Wait()
        assert into == out
        into.extend(b"more")
        out.extend(b"more")


@pytest.mark.ours
def test_a_dropped_receive_request_still_receives(comm):
    dest, source = ring_of(comm)
    into = np.zeros(100, np.uint8)
    comm.Irecv(into, source, 1)
    gc.collect()
    quiet_barrier()
    comm.Isend(pattern(100, 1), dest, 1).Wait()
    send = comm.Isend(b"end", dest, 1)
    comm.Recv(bytearray(3), source, 1)
    send.Wait()
    assert is_pattern(into, 1)


@pytest.mark.ours
def test_a_dropped_send_request_still_sends(comm):
    dest, source = ring_of(comm)
    for size in (100, 1_000_000):
        comm.Isend(pattern(size, 4), dest, 1)
        gc.collect()
        into = np.zeros(size, np.uint8)
        comm.Recv(into, source, 1)
        assert is_pattern(into, 4)
        quiet_barrier()


def test_persistent_requests_hold_their_buffers_until_freed(comm):
    array = tracked(64)
    alive = weakref.ref(array)
    request = comm.Send_init(array, MPI.PROC_NULL, 1)
    real = comm.Recv_init(array, ring_of(comm)[1], 1)
    del array
    gc.collect()
    assert alive() is not None
    request.Free()
    real.Free()
    del request, real
    gc.collect()
    assert alive() is None


def test_completed_requests_do_not_pile_up(comm):
    dest, source = ring_of(comm)
    references = []
    for _ in range(50):
        out, into = tracked(1000, 1), tracked(1000)
        references += [weakref.ref(out), weakref.ref(into)]
        receive = comm.Irecv(into, source, 1)
        send = comm.Isend(out, dest, 1)
        MPI.Request.Waitall([receive, send])
        del out, into, receive, send
    gc.collect()
    assert not any(reference() is not None for reference in references)


def test_a_readonly_view_is_released_when_a_blocking_send_returns(comm):
    data = bytearray(100)
    receive = comm.Irecv(np.zeros(100, np.uint8), ring_of(comm)[1], 1)
    comm.Send(data, ring_of(comm)[0], 1)
    data.extend(b"free to grow")
    receive.Wait()
