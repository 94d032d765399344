"""The measured loops, after the OSU micro-benchmarks: each rank times N operations.

Every loop takes the communicator under test, so that the accelerated one and the MPI library's run
the very same bytecode. Methods are bound to locals and buffers are plain NumPy arrays, as in a
user's program.
"""

from __future__ import annotations

from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

DATA_TAG = 1
ACK_TAG = 2
OTHERS_TAG = 1000

_PATTERN_PERIOD = 251  # prime: shifted or swapped blocks of a power of two do not look alike


class WrongBytesError(RuntimeError):
    """A message arrived with other bytes than were sent."""


def make_pattern(size_bytes: int, seed: int) -> Bytes:
    """Bytes that differ for each seed and at each small shift, shape ``(size_bytes,)``."""
    period = ((np.arange(_PATTERN_PERIOD, dtype=np.uint32) * 7 + seed * 31) % 256).astype(np.uint8)
    return np.resize(period, size_bytes) if size_bytes else np.empty(0, np.uint8)


def check_exchange(comm: MPI.Intracomm, out: Bytes, into: Bytes) -> None:
    """Send a pattern both ways between ranks 0 and 1 and compare every byte; touches both buffers.

    Raises:
        WrongBytesError: a byte differs, with its position.
    """
    rank = comm.Get_rank()
    peer = 1 - rank
    out[:] = make_pattern(out.size, seed=rank)
    into[:] = 0
    if rank == 0:
        comm.Send(out, peer, DATA_TAG)
        comm.Recv(into, peer, DATA_TAG)
    else:
        comm.Recv(into, peer, DATA_TAG)
        comm.Send(out, peer, DATA_TAG)
    wrong = np.flatnonzero(into != make_pattern(into.size, seed=peer))
    if wrong.size:
        raise WrongBytesError(
            f"{into.size} B message: {wrong.size} wrong bytes, the first at {int(wrong[0])}"
        )


def ping_pong(comm: MPI.Intracomm, out: Bytes, into: Bytes, count: int) -> float:
    """Seconds for ``count`` round trips between ranks 0 and 1 (osu_latency)."""
    send, recv = comm.Send, comm.Recv
    if comm.Get_rank() == 0:
        start = perf_counter()
        for _ in repeat(None, count):
            send(out, 1, DATA_TAG)
            recv(into, 1, DATA_TAG)
        return perf_counter() - start
    start = perf_counter()
    for _ in repeat(None, count):
        recv(into, 0, DATA_TAG)
        send(out, 0, DATA_TAG)
    return perf_counter() - start


def windowed_stream(
    comm: MPI.Intracomm,
    waitall: Callable[[list[MPI.Request]], Any],
    buffer: Bytes,
    window: int,
    count: int,
) -> float:
    """Seconds for ``count`` windows of ``window`` messages from rank 0 to rank 1 (osu_bw).

    As in the original, each window is acknowledged and all its messages use one buffer.
    """
    acknowledgement = np.zeros(4, np.uint8)
    if comm.Get_rank() == 0:
        isend, recv = comm.Isend, comm.Recv
        start = perf_counter()
        for _ in repeat(None, count):
            waitall([isend(buffer, 1, DATA_TAG) for _ in repeat(None, window)])
            recv(acknowledgement, 1, ACK_TAG)
        return perf_counter() - start
    irecv, send = comm.Irecv, comm.Send
    start = perf_counter()
    for _ in repeat(None, count):
        waitall([irecv(buffer, 0, DATA_TAG) for _ in repeat(None, window)])
        send(acknowledgement, 0, ACK_TAG)
    return perf_counter() - start


def pass_around_ring(comm: MPI.Intracomm, buffer: Bytes, laps: int) -> float:
    """Seconds until a token has gone ``laps`` times through all ranks: ``laps * size`` messages."""
    rank, size = comm.Get_rank(), comm.Get_size()
    right, left = (rank + 1) % size, (rank - 1) % size
    if size == 1:
        sendrecv, into = comm.Sendrecv, np.empty_like(buffer)
        start = perf_counter()
        for _ in repeat(None, laps):
            sendrecv(buffer, 0, DATA_TAG, into, 0, DATA_TAG)
        return perf_counter() - start
    send, recv = comm.Send, comm.Recv
    start = perf_counter()
    if rank == 0:
        for _ in repeat(None, laps):
            send(buffer, right, DATA_TAG)
            recv(buffer, left, DATA_TAG)
    else:
        for _ in repeat(None, laps):
            recv(buffer, left, DATA_TAG)
            send(buffer, right, DATA_TAG)
    return perf_counter() - start


def check_ring(comm: MPI.Intracomm) -> None:
    """One lap of a token to which each rank adds its rank + 1; rank 0 checks the sum.

    Raises:
        WrongBytesError: the token came back with another sum.
    """
    rank, size = comm.Get_rank(), comm.Get_size()
    token = np.zeros(1, np.int64)
    if rank == 0:
        token[0] = 1
        request = comm.Isend(token.copy(), (rank + 1) % size, DATA_TAG)
        comm.Recv(token, size - 1, DATA_TAG)
        request.Wait()
        if token[0] != size * (size + 1) // 2:
            raise WrongBytesError(f"ring of {size}: the token holds {int(token[0])}")
    else:
        comm.Recv(token, rank - 1, DATA_TAG)
        token += rank + 1
        comm.Send(token, (rank + 1) % size, DATA_TAG)


class PostedOthers:
    """A long posted queue: receives on ranks 0 and 1 that match nothing until ``finish``."""

    def __init__(
        self, comm: MPI.Intracomm, waitall: Callable[[list[MPI.Request]], Any], count: int
    ) -> None:
        self._comm = comm
        self._waitall = waitall
        self._peer = 1 - comm.Get_rank()
        self._received = np.zeros(count, np.int32)
        self._requests = [
            comm.Irecv(self._received[index : index + 1], self._peer, OTHERS_TAG + index)
            for index in range(count)
        ]

    def finish(self) -> None:
        """Send what the receives wait for, in reverse order, and verify that each got its own."""
        values = np.arange(1, self._received.size + 1, dtype=np.int32)
        for index in reversed(range(values.size)):
            self._comm.Send(values[index : index + 1], self._peer, OTHERS_TAG + index)
        self._waitall(self._requests)
        if not np.array_equal(self._received, values):
            raise WrongBytesError("a posted receive got another message than its tag's")


class UnexpectedOthers:
    """A long unexpected queue: messages that wait at ranks 0 and 1 for their receives."""

    def __init__(
        self, comm: MPI.Intracomm, waitall: Callable[[list[MPI.Request]], Any], count: int
    ) -> None:
        self._comm = comm
        self._waitall = waitall
        self._peer = 1 - comm.Get_rank()
        self._values = np.arange(1, count + 1, dtype=np.int32)
        self._requests = [
            comm.Isend(self._values[index : index + 1], self._peer, OTHERS_TAG + index)
            for index in range(count)
        ]

    def finish(self) -> None:
        """Receive them in reverse order and verify that each carries its tag's value."""
        into = np.zeros(1, np.int32)
        for index in reversed(range(self._values.size)):
            self._comm.Recv(into, self._peer, OTHERS_TAG + index)
            if into[0] != self._values[index]:
                raise WrongBytesError("an unexpected message came with another tag's value")
        self._waitall(self._requests)
