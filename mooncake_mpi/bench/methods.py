"""The measured loops, after the OSU micro-benchmarks: each rank times N operations.

Called in the benchmark's one thread, without a lock. Every loop takes the communicator under test,
so that the accelerated one and the others run the very same bytecode. Methods are bound to locals,
as in a user's program that cares.
"""

from __future__ import annotations

from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi.bench.peers import Peer

DATA_TAG = 1
ACK_TAG = 2


def ping_pong(comm: Any, out: Any, into: Any, partner: int, first: bool, count: int) -> float:
    """Seconds for ``count`` round trips with ``partner`` (osu_latency, osu_multi_lat)."""
    send, recv = comm.Send, comm.Recv
    if first:
        start = perf_counter()
        for _ in repeat(None, count):
            send(out, partner, DATA_TAG)
            recv(into, partner, DATA_TAG)
        return perf_counter() - start
    start = perf_counter()
    for _ in repeat(None, count):
        recv(into, partner, DATA_TAG)
        send(out, partner, DATA_TAG)
    return perf_counter() - start


def windowed_stream(
    peer: Peer, buffer: Any, window: int, partner: int, sends: bool, count: int
) -> float:
    """Seconds for ``count`` windows of ``window`` messages one way (osu_bw, osu_mbw_mr).

    As in the original, each window is acknowledged and all its messages use one buffer.
    """
    comm, waitall = peer.comm, peer.waitall
    acknowledgement = peer.adapt(np.zeros(4, np.uint8))
    if sends:
        isend, recv = comm.Isend, comm.Recv
        start = perf_counter()
        for _ in repeat(None, count):
            waitall([isend(buffer, partner, DATA_TAG) for _ in repeat(None, window)])
            recv(acknowledgement, partner, ACK_TAG)
        return perf_counter() - start
    irecv, send = comm.Irecv, comm.Send
    start = perf_counter()
    for _ in repeat(None, count):
        waitall([irecv(buffer, partner, DATA_TAG) for _ in repeat(None, window)])
        send(acknowledgement, partner, ACK_TAG)
    return perf_counter() - start


def windowed_exchange(
    peer: Peer, out: Any, into: Any, window: int, partner: int, count: int
) -> float:
    """Seconds for ``count`` windows that travel both ways at once (osu_bibw)."""
    isend, irecv, waitall = peer.comm.Isend, peer.comm.Irecv, peer.waitall
    start = perf_counter()
    for _ in repeat(None, count):
        requests = [irecv(into, partner, DATA_TAG) for _ in repeat(None, window)]
        requests += [isend(out, partner, DATA_TAG) for _ in repeat(None, window)]
        waitall(requests)
    return perf_counter() - start


def pass_around_ring(comm: Any, buffer: Any, laps: int) -> float:
    """Seconds until a token has gone ``laps`` times through all ranks: ``laps * size`` messages."""
    rank, size = comm.Get_rank(), comm.Get_size()
    right, left = (rank + 1) % size, (rank - 1) % size
    if size == 1:
        return _pass_to_itself(comm.Sendrecv, buffer, laps)
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


def _pass_to_itself(sendrecv: Callable[..., Any], buffer: Any, laps: int) -> float:
    into = np.zeros(len(buffer), np.uint8)
    start = perf_counter()
    for _ in repeat(None, laps):
        sendrecv(buffer, 0, DATA_TAG, into, 0, DATA_TAG)
    return perf_counter() - start
