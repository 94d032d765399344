"""Many threads send and receive at once (MPI_THREAD_MULTIPLE)."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of

THREADS = 6


def in_threads(work, count=THREADS):
    """Run ``work(index)`` in ``count`` threads; raise what the first failing one raised."""
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(work, i) for i in range(count)]]


def test_threads_are_supported_in_full(comm):
    assert MPI.Query_thread() == MPI.THREAD_MULTIPLE


def test_each_thread_gets_the_messages_of_its_own_tag(comm):
    dest, source = ring_of(comm)

    def work(tag):
        choose = random.Random(tag)
        for turn in range(60):
            size = choose.choice([8, 8, 8, 900, 40_000, 300_000])
            into = np.zeros(size, np.uint8)
            request = comm.Isend(pattern(size, tag + turn + comm.rank), dest, tag)
            comm.Recv(into, source, tag)
            request.Wait()
            assert is_pattern(into, tag + turn + source)

    in_threads(work)


def test_threads_exchange_objects_with_their_own_tags(comm):
    dest, source = ring_of(comm)

    def work(tag):
        for turn in range(60):
            value = (comm.rank, tag, turn, np.full(1 + turn * 300, turn))
            request = comm.isend(value, dest, tag)
            rank, tag_received, turn_received, array = comm.recv(source=source, tag=tag)
            request.wait()
            assert (rank, tag_received, turn_received) == (source, tag, turn)
            assert (array == turn).all()
            assert array.size == 1 + turn * 300

    in_threads(work)


def test_threads_with_communicators_of_their_own_do_not_meet(comm):
    dest, source = ring_of(comm)
    children = [comm.Dup() for _ in range(THREADS)]

    def work(index):
        child = children[index]
        for turn in range(60):
            into = np.zeros(100, np.uint8)
            child.Sendrecv(pattern(100, index + turn), dest, 0, into, MPI.ANY_SOURCE, 0)
            assert is_pattern(into, index + turn)

    in_threads(work)
    for child in children:
        child.Free()


def test_threads_that_share_a_wildcard_receive_every_message_once(comm):
    dest, _ = ring_of(comm)
    each = 100
    received = []

    def work(index):
        if index % 2:
            for turn in range(each):
                comm.Send(np.full(1, index * 1000 + turn), dest, 7)
            return
        into = np.zeros(1, np.int64)
        for _ in range(each):
            comm.Recv(into, MPI.ANY_SOURCE, 7)
            received.append(int(into[0]))

    in_threads(work)
    expected = [index * 1000 + turn for index in range(1, THREADS, 2) for turn in range(each)]
    assert sorted(received) == sorted(expected)


def test_threads_that_match_by_probe_get_whole_messages(comm):
    dest, source = ring_of(comm)
    each = 80
    sizes = []

    def work(index):
        if index < 2:
            for turn in range(each):
                comm.Send(pattern(turn * 31 + 1, turn), dest, 3)
            return
        for _ in range(each):
            status = MPI.Status()
            message = comm.Mprobe(MPI.ANY_SOURCE, 3, status)
            into = np.zeros(status.Get_count(MPI.BYTE), np.uint8)
            message.Recv(into)
            assert is_pattern(into, (into.size - 1) // 31)
            sizes.append(into.size)

    in_threads(work, 4)
    assert sorted(sizes) == sorted(2 * [turn * 31 + 1 for turn in range(each)])


def test_one_thread_waits_for_what_another_sends_on_the_same_rank(comm):
    into = np.zeros(400_000, np.uint8)
    waiting = threading.Thread(target=comm.Recv, args=(into, comm.rank, 1))
    waiting.start()
    time.sleep(0.02)
    comm.Send(pattern(into.size, 5), comm.rank, 1)
    waiting.join()
    assert is_pattern(into, 5)


def test_other_threads_run_while_one_is_blocked(comm):
    dest, source = ring_of(comm)
    counted = 0
    into = np.zeros(8, np.uint8)
    blocked = threading.Thread(target=comm.Recv, args=(into, source, 1))
    blocked.start()
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        counted += 1
    assert blocked.is_alive()
    assert counted > 100
    quiet_barrier()
    comm.Send(pattern(8, 1), dest, 1)
    blocked.join()
    assert is_pattern(into, 1)


def test_requests_may_be_completed_in_another_thread(comm):
    dest, source = ring_of(comm)
    into = [np.zeros(size, np.uint8) for size in (8, 5000, 400_000)]
    receives = [comm.Irecv(array, source, tag) for tag, array in enumerate(into)]
    sends = [comm.Isend(pattern(array.size, tag), dest, tag) for tag, array in enumerate(into)]
    waiting = threading.Thread(target=MPI.Request.Waitall, args=(receives,))
    waiting.start()
    MPI.Request.Waitall(sends)
    waiting.join()
    for tag, array in enumerate(into):
        assert is_pattern(array, tag)


@pytest.mark.parametrize("size", [8, 200_000])
def test_many_threads_wait_on_many_requests_at_once(comm, size):
    dest, source = ring_of(comm)

    def work(index):
        for turn in range(10):
            tags = [index * 1000 + turn * 10 + k for k in range(5)]
            into = [np.zeros(size, np.uint8) for _ in tags]
            requests = [comm.Irecv(a, source, tag) for a, tag in zip(into, tags, strict=True)]
            requests += [comm.Isend(pattern(size, tag), dest, tag) for tag in reversed(tags)]
            MPI.Request.Waitall(requests)
            assert all(is_pattern(a, tag) for a, tag in zip(into, tags, strict=True))

    in_threads(work)


@pytest.mark.parametrize("call", ["Probe", "Mprobe", "probe", "mprobe"])
def test_freeing_a_communicator_raises_in_the_thread_that_probes_it(comm, call):
    dup = comm.Dup()
    source = ring_of(comm)[1]
    errors = []

    def wait():
        try:
            getattr(dup, call)(source, 1)
        except MPI.Exception as error:
            errors.append(error.Get_error_class())

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.1)  # asleep, and on the hang board
    dup.Free()
    waiting.join()
    assert errors == [MPI.ERR_COMM]


def test_a_message_taken_by_a_probe_is_received_after_its_communicator_was_freed(comm):
    dest, source = ring_of(comm)
    dup = comm.Dup()
    sends = [dup.Isend(pattern(size, 1), dest, 1) for size in (8, 300_000)]
    messages = [dup.Mprobe(source, 1) for _ in sends]
    dup.Free()
    comm.Dup().Free()
    for message, size in zip(messages, (8, 300_000), strict=True):
        into = np.zeros(size, np.uint8)
        message.Recv(into)
        assert is_pattern(into, 1)
    MPI.Request.Waitall(sends)
