"""A process in a call of the MPI library, or in a computation, still answers its peers."""

from __future__ import annotations

import time

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, once_in_three, ring_of


@pytest.mark.parametrize("nbytes", [8, 20_000, 1 << 20])
def test_a_posted_receive_completes_a_synchronous_send_while_its_owner_is_in_a_barrier(
    comm, nbytes
):
    dest, source = ring_of(comm)
    into = np.zeros(nbytes, np.uint8)
    receive = comm.Irecv(into, source, 3)
    if comm.size > 1:
        comm.Ssend(pattern(nbytes, 7), dest, 3)
    else:
        comm.Issend(pattern(nbytes, 7), dest, 3).Wait()
    MPI.Intracomm.Barrier(comm)
    receive.Wait()
    assert is_pattern(into, 7)


@pytest.mark.parametrize("nbytes", [20_000, 1 << 20])
def test_a_sender_in_a_barrier_does_not_hold_up_the_receiver(comm, nbytes):
    dest, source = ring_of(comm)
    message = pattern(nbytes, 5)
    send = comm.Isend(message, dest, 4)
    into = np.zeros(nbytes, np.uint8)
    comm.Recv(into, source, 4)
    MPI.Intracomm.Barrier(comm)
    send.Wait()
    assert is_pattern(into, 5)


@pytest.mark.mpi(min_size=2)
def test_many_answers_leave_a_receiver_that_went_into_a_barrier(comm):
    count, nbytes = 4000, 3000
    if comm.rank == 0:
        messages = np.zeros((count, nbytes), np.uint8)
        MPI.Request.Waitall([comm.Isend(messages[tag], 1, tag) for tag in range(count)])
    elif comm.rank == 1:
        into = np.zeros(nbytes, np.uint8)
        for tag in reversed(range(count)):
            comm.Recv(into, 0, tag)
    MPI.Intracomm.Barrier(comm)


@pytest.mark.mpi(min_size=2)
def test_a_large_transfer_goes_on_while_both_sides_compute(comm):
    def attempt():
        if comm.rank > 1:
            return ""
        buffer = pattern(8 << 20, 1) if comm.rank == 0 else np.zeros(8 << 20, np.uint8)
        request = comm.Isend(buffer, 1, 9) if comm.rank == 0 else comm.Irecv(buffer, 0, 9)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            pass
        started = time.monotonic()
        request.Wait()
        late = time.monotonic() - started
        assert is_pattern(buffer, 1)
        return f"over {late:.3f} s after the computation" if late >= 0.5 else ""

    once_in_three(attempt)
