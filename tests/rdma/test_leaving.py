"""Blocking calls that are left, by Ctrl-C or by what another signal's handler raises, over RDMA.

The fake adapters of the native tests do all that they are asked at once: here a transfer is under way
for a while, and an adapter reads and writes memory that a call has left.
"""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager

import numpy as np
import pytest
from barrier import quiet_barrier
from hosts import RANK

import mooncake_mpi

pytestmark = [pytest.mark.mpi(min_size=2)]

LARGE = 64 << 20  # seconds of an emulated processor's time: where less will do, it is
MEDIUM = 16 << 20
UNTOUCHED = 0xA5
# An emulated processor that others share may take its time.
SOON_S = 2


class LeftError(Exception):
    """What the handler raises."""


def leave(*_):
    raise LeftError


@contextmanager
def alarm(seconds, handler=leave):
    """Within it `handler` is called once, after a while."""
    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def left(seconds, call, *arguments):
    """Whether the call was left; it has not returned after `seconds`."""
    try:
        with alarm(seconds):
            call(*arguments)
    except LeftError:
        return True
    return False


def is_next(comm, size):
    """Whether a message of that size is: the signal may come when a call has everything."""
    status = mooncake_mpi.MPI.Status()
    comm.Probe(0, mooncake_mpi.MPI.ANY_TAG, status)
    return status.Get_count() == size


def pattern(seed, size=LARGE):
    """Bytes that are found at no other place."""
    return (np.arange(size // 4, dtype="u4") * 2654435761 + seed).view("u1")


def next_messages_arrive(comm):
    """Both ways, small and large."""
    other = 1 - RANK
    for tag, size in enumerate((8, 20_000, 1 << 20)):
        into = np.zeros(size, "u1")
        receive = comm.Irecv(into, other, 100 + tag)
        comm.Send(pattern(RANK + tag, size), other, 100 + tag)
        receive.Wait()
        assert (into == pattern(other + tag, size)).all()
    assert comm.sendrecv(RANK, other, 200, None, other, 200) == other
    assert not comm.Iprobe()


@pytest.mark.parametrize("call", ["Recv", "recv", "Ssend"])
def test_ctrl_c_ends_a_call_that_waits_for_a_host(comm, call):
    if RANK == 0:
        arguments = {"Recv": (bytearray(8), 1), "recv": (None, 1), "Ssend": (bytes(MEDIUM), 1, 4)}
        asked = []

        def interrupt(number, frame):
            asked.append(time.monotonic())
            signal.default_int_handler(number, frame)

        with pytest.raises(KeyboardInterrupt), alarm(0.2, interrupt):
            getattr(comm, call)(*arguments[call])
        assert time.monotonic() - asked[0] < SOON_S
    quiet_barrier()
    if RANK == 1 and call == "Ssend":
        into = np.full(MEDIUM, UNTOUCHED, "u1")
        comm.Recv(into, 0, 4)
        assert not into.any()
    next_messages_arrive(comm)


@pytest.mark.parametrize(
    ("make", "seconds"), [(np.zeros, 0.1), (mooncake_mpi.zeros, 0.02)], ids=["ordinary", "mapped"]
)
def test_a_receive_that_is_left_in_mid_transfer_is_whole_or_gives_its_message_back(
    comm, make, seconds
):
    if RANK == 0:
        data = make(LARGE, "u1")
        data[:] = pattern(1)
        request = comm.Isend(data, 1, 5)
        comm.isend("behind", 1, 5).wait()
        quiet_barrier()
        request.Wait()
    else:
        into = make(LARGE, "u1")
        into[:] = UNTOUCHED
        quiet_barrier()  # it is announced
        if left(seconds, comm.Recv, into, 0, 5) and is_next(comm, LARGE):
            seen = into.copy()
            time.sleep(0.3)
            assert (into == seen).all()
            into[:] = UNTOUCHED
            comm.Recv(into, 0, 5)
        assert (into == pattern(1)).all()
        assert comm.recv(None, 0, 5) == "behind"
    next_messages_arrive(comm)


@pytest.mark.parametrize("matched", [False, True], ids=["before the match", "in mid-transfer"])
@pytest.mark.parametrize("make", [np.zeros, mooncake_mpi.zeros], ids=["ordinary", "mapped"])
def test_a_send_that_is_left_delivers_what_its_buffer_held_then(comm, make, matched):
    if RANK == 0:
        data = make(MEDIUM, "u1")
        data[:] = pattern(2, MEDIUM)
        if matched:
            quiet_barrier()
        left(0.05, comm.Send, data, 1, 6)
        data[:] = UNTOUCHED
        if not matched:
            quiet_barrier()
        quiet_barrier()
    else:
        into = np.zeros(MEDIUM, "u1")
        quiet_barrier()
        comm.Recv(into, 0, 6)
        assert (into == pattern(2, MEDIUM)).all()
        quiet_barrier()
    next_messages_arrive(comm)


def test_an_object_that_is_left_in_mid_transfer_is_not_lost(comm):
    if RANK == 0:
        request = comm.isend(pattern(4, MEDIUM), 1, 8)
        quiet_barrier()
        request.wait()
    else:
        quiet_barrier()
        try:
            with alarm(0.03):
                into = comm.recv(None, 0, 8)
        except LeftError:
            into = comm.recv(None, 0, 8) if comm.Iprobe(0, 8) else None
        assert into is None or (into == pattern(4, MEDIUM)).all()
    next_messages_arrive(comm)


def test_an_object_whose_send_is_left_arrives_as_it_was_then(comm):
    if RANK == 0:
        data = pattern(3, MEDIUM)
        left(0.1, comm.send, data, 1, 7)
        data[:] = UNTOUCHED
        quiet_barrier()
    else:
        quiet_barrier()
        into = comm.recv(None, 0, 7)
        assert (into == pattern(3, MEDIUM)).all()
    next_messages_arrive(comm)
