"""What scripts/hosts bench runs on two ranks for one library: python measure_pair.py ours|mpi|gloo.

Rank 0 prints one object of JSON, of the same numbers as pingpong.c does. Each rank has a core of
its own where there are two.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

ROUND_TRIPS = 200  # of a batch; the median of the batches counts
BATCHES = 10
LARGE_BYTES = 64 << 20
LARGES = 5
PIECE_BYTES = 1 << 20
WINDOW = 64
PIECE_WINDOWS = 3
WINDOWS = 100


class Gloo:
    """torch.distributed with mpi4py's names."""

    def __init__(self) -> None:
        import torch
        import torch.distributed as dist

        os.environ.setdefault("GLOO_SOCKET_IFNAME", "eth0")
        dist.init_process_group("gloo")
        self._torch, self._dist = torch, dist
        self.rank = dist.get_rank()

    def view(self, array: Any) -> Any:
        return self._torch.from_numpy(array)

    def Send(self, array: Any, rank: int) -> None:
        self._dist.send(array, rank)

    def Recv(self, array: Any, rank: int) -> None:
        self._dist.recv(array, rank)

    def Isend(self, array: Any, rank: int) -> Any:
        return self._dist.isend(array, rank)

    def Irecv(self, array: Any, rank: int) -> Any:
        return self._dist.irecv(array, rank)

    @staticmethod
    def wait_all(requests: list[Any]) -> None:
        for request in requests:
            request.wait()


class Mpi:
    """mpi4py's communicator, or ours."""

    def __init__(self, module: Any) -> None:
        comm = module.COMM_WORLD
        self.rank = comm.rank
        self.Send, self.Recv = comm.Send, comm.Recv
        self.Isend, self.Irecv = comm.Isend, comm.Irecv
        self.wait_all = module.Request.Waitall

    @staticmethod
    def view(array: Any) -> Any:
        return array


def open_peer(name: str) -> Gloo | Mpi:
    """The library of this name."""
    if name == "gloo":
        return Gloo()
    if name == "mpi":
        from mpi4py import MPI as module  # noqa: N811
    else:
        from mooncake_mpi import MPI as module  # noqa: N811
    return Mpi(module)


def seconds(action: Callable[[], None]) -> float:
    """How long it took."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


class Pair:
    """The measurements, which both ranks make together."""

    def __init__(self, peer: Gloo | Mpi) -> None:
        self.peer = peer
        self.first = peer.rank == 0
        self.other = 1 - peer.rank
        self.small = peer.view(np.zeros(8, np.uint8))

    def round_trips(self, count: int) -> None:
        """Ping-pongs of 8 bytes."""
        send, receive, small, other = self.peer.Send, self.peer.Recv, self.small, self.other
        for _ in range(count):
            if self.first:
                send(small, other)
                receive(small, other)
            else:
                receive(small, other)
                send(small, other)

    def one_way(self, array: Any) -> None:
        """One message and its acknowledgement."""
        if self.first:
            self.peer.Send(array, self.other)
            self.peer.Recv(self.small, self.other)
        else:
            self.peer.Recv(array, self.other)
            self.peer.Send(self.small, self.other)

    def window(self, arrays: list[Any]) -> None:
        """All of these under way at once, acknowledged together."""
        begin = self.peer.Isend if self.first else self.peer.Irecv
        self.peer.wait_all([begin(array, self.other) for array in arrays])
        self.one_way(self.small)

    def measure(self) -> dict[str, float]:
        """All of them."""
        # the other waits for this one, which no connection has told of anything yet
        time.sleep(0.5 if self.first else 0)
        first_us = seconds(lambda: self.round_trips(1)) * 1e6
        self.round_trips(ROUND_TRIPS)
        batches = [seconds(lambda: self.round_trips(ROUND_TRIPS)) for _ in range(BATCHES)]
        large = self.peer.view(np.ones(LARGE_BYTES, np.uint8))
        self.one_way(large)
        larges = [seconds(lambda: self.one_way(large)) for _ in range(LARGES)]
        pieces = [self.peer.view(np.ones(PIECE_BYTES, np.uint8)) for _ in range(WINDOW)]
        self.window(pieces)
        windows = [seconds(lambda: self.window(pieces)) for _ in range(PIECE_WINDOWS)]
        smalls = [self.peer.view(np.ones(8, np.uint8)) for _ in range(WINDOW)]
        self.window(smalls)
        rates = [seconds(lambda: self.window(smalls)) for _ in range(WINDOWS)]
        return {
            "first_us": first_us,
            "latency_us": statistics.median(batches) / ROUND_TRIPS / 2 * 1e6,
            "large_us": statistics.median(larges) * 1e6,
            "windowed_mib_s": WINDOW * (PIECE_BYTES >> 20) / statistics.median(windows),
            "rate": WINDOW / statistics.median(rates),
        }


def main() -> None:
    """See above."""
    peer = open_peer(sys.argv[1])
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[peer.rank]})
    try:
        measured = Pair(peer).measure()
    except Exception as error:  # noqa: BLE001
        # at once: at its orderly end an MPI library would wait for the other rank
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    if peer.rank == 0:
        print("measured", json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
