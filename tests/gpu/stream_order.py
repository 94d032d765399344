"""Messages that a stream waits for, and the deadlocks that they could make."""

from __future__ import annotations

import threading
import time

import numpy as np
from harness import MPI, RANK, RANKS, LeftOut, check, main, meet, only
from kinds import chosen
from payload import is_pattern, pattern

gpu = chosen()
only(0, f"rank 0: {gpu.describe()}{'  STAND-IN, NO GPU' if gpu.is_stand_in else ''}")
SIZES = [8, 64 << 10, 3 << 20, 64 << 20]


def filled(size, seed):
    array = gpu.empty(size)
    gpu.put(array, pattern(size, seed))
    return array


def expect(array, seed):
    assert is_pattern(gpu.get(array), seed)


def synchronize(stream, seconds=6.0):
    """Wait for a stream that may hang."""
    until = time.monotonic() + seconds
    while not gpu.is_idle(stream):
        assert time.monotonic() < until, "the stream hangs"
        time.sleep(1e-4)


@check
def one_way_in_the_order_of_a_stream(comm):
    stream = gpu.stream()
    for size in SIZES:
        array, seen = gpu.empty(size), gpu.empty(size)
        first, second = filled(size, 3), filled(size, 4)
        with gpu.using(stream):
            gpu.delay(0.005)
            if RANK == 0:
                gpu.copy(array, first)
                comm.Send_enqueue(array, 1, 1)
                gpu.copy(array, second)  # it is sent already
            elif RANK == 1:
                comm.Recv_enqueue(array, 0, 1)
                gpu.copy(seen, array)
        synchronize(stream)
        if RANK == 1:
            expect(seen, 3)
        meet()


@check
def many_rounds_are_given_to_the_streams_before_the_first_has_run(comm):
    stream, peer, rounds = gpu.stream(), 1 - RANK, 50
    if RANKS != 2:
        raise LeftOut("for two ranks")
    for size in (8, 1 << 20):
        array, seen = filled(size, 5), [gpu.empty(size) for _ in range(rounds)]
        with gpu.using(stream):
            gpu.delay(0.01)
            started = time.perf_counter()
            for kept in seen:
                if RANK == 0:
                    comm.Send_enqueue(array, peer, 1)
                    comm.Recv_enqueue(array, peer, 1)
                else:
                    comm.Recv_enqueue(array, peer, 1)
                    comm.Send_enqueue(array, peer, 1)
                gpu.copy(kept, array)
            enqueued = time.perf_counter() - started
        synchronize(stream)
        took = time.perf_counter() - started
        for kept in seen:
            expect(kept, 5)
        hop = 1e6 / rounds / 2
        passed = took - max(0.01, enqueued)  # a part of the hops, where enqueuing took longer
        only(0, f"  {size} B: {enqueued * hop:.1f} us to enqueue, a hop in {passed * hop:.1f} us")
        meet()


@check
def more_streams_wait_than_there_are_channels(comm):
    if RANKS != 2:
        raise LeftOut("for two ranks")
    streams = [gpu.stream() for _ in range(64)] if RANK == 1 else []
    arrays = [gpu.empty(1000) for _ in streams]
    # What is made at the first message is made before anybody waits; and while they wait the
    # program itself may not use other streams: they may be held up.
    out, intos = filled(1 << 20, RANK), [gpu.empty(1 << 20) for _ in range(2)]
    for into in intos:
        gpu.put(into, np.zeros(1 << 20, "u1"))
        comm.Sendrecv(out, 1 - RANK, 99, into, 1 - RANK, 99)
    for tag, (array, stream) in enumerate(zip(arrays, streams, strict=True)):
        with gpu.using(stream):
            comm.Recv_enqueue(array, 0, tag)
    meet()
    for sender in (0, 1):
        if sender == RANK:
            comm.Ssend(out, 1 - RANK, 100)
        else:
            comm.Recv(intos[sender], 1 - RANK, 100)
    meet()
    if RANK == 0:
        MPI.Request.Waitall([comm.Isend(pattern(1000, tag), 1, tag) for tag in range(64)])
    for tag, (array, stream) in enumerate(zip(arrays, streams, strict=True)):
        synchronize(stream)
        expect(array, tag)
    expect(intos[1 - RANK], 1 - RANK)


@check
def a_kernel_is_launched_for_the_first_time_behind_a_wait(comm):
    stream, array = gpu.stream(), gpu.empty(1 << 20)
    launch = gpu.new_kernel()
    source = filled(1 << 20, 6)
    with gpu.using(stream):
        if RANK == 0:
            send = comm.Isend_enqueue(source, 1, 1)
        elif RANK == 1:
            comm.Recv_enqueue(array, 0, 1)

        launched = []

        def run():
            gpu.use()
            with gpu.using(stream):
                launch()
            launched.append(True)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(6)
        assert not thread.is_alive(), "the launch hangs"
        assert launched, "the launch failed"
    synchronize(stream)
    if RANK == 0:
        send.Wait()
    elif RANK == 1:
        expect(array, 6)


@check
def requests_and_wildcards(comm):
    stream, other = gpu.stream(), gpu.stream()
    peer = (RANK + 1) % RANKS
    array, seen = gpu.empty(1 << 20), gpu.empty(1 << 20)
    source = filled(1 << 20, RANK)
    with gpu.using(stream):
        receive = comm.Irecv_enqueue(array, MPI.ANY_SOURCE, MPI.ANY_TAG)
        send = comm.Isend_enqueue(source, peer, 7)
    receive.Wait_enqueue(other)
    with gpu.using(other):
        gpu.copy(seen, array)
    synchronize(other)
    send.Wait()
    expect(seen, (RANK - 1) % RANKS)


@check
def a_graph_sends_and_receives_at_each_launch(comm):
    stream, peer = gpu.stream(), (RANK + 1) % RANKS
    out, into = gpu.empty(1 << 20), gpu.empty(1 << 20)

    def messages():
        comm.Send_enqueue(out, peer, 1)
        comm.Recv_enqueue(into, (RANK - 1) % RANKS, 1)

    launch = gpu.captured(stream, messages)
    for turn in range(5):
        gpu.put(out, pattern(1 << 20, RANK + turn))
        launch()
        synchronize(stream)
        expect(into, (RANK - 1) % RANKS + turn)


@check
def columns_of_a_plane(comm):
    peer = (RANK + 1) % RANKS
    column = MPI.DOUBLE.Create_vector(1000, 2, 8).Commit()
    numbers = np.arange(8000.0) + 10_000 * RANK
    out, into = gpu.empty(8000, "f8"), gpu.empty(8000, "f8")
    gpu.put(out, numbers)
    gpu.put(into, np.zeros(8000))
    comm.Sendrecv([out, 1, column], peer, 1, [into, 1, column], (RANK - 1) % RANKS, 1)
    found = gpu.get(into).reshape(1000, 8)
    wanted = (np.arange(8000.0) + 10_000 * ((RANK - 1) % RANKS)).reshape(1000, 8)
    assert (found[:, :2] == wanted[:, :2]).all()
    assert (found[:, 2:] == 0).all()
    column.Free()


main()
