"""Long queues for the matching benchmark: requests that wait while a ping-pong is timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mooncake_mpi.bench.checks import WrongBytesError

if TYPE_CHECKING:
    from mooncake_mpi.bench.peers import Peer

OTHERS_TAG = 1000


class PostedOthers:
    """A long posted queue: receives on ranks 0 and 1 that match nothing until ``finish``."""

    kind = "posted"

    def __init__(self, peer: Peer, count: int) -> None:
        self._peer = peer
        self._partner = 1 - peer.comm.Get_rank()
        self._received = np.zeros(count, np.int32)
        carrier = peer.adapt(self._received)
        self._requests = [
            peer.comm.Irecv(carrier[index : index + 1], self._partner, OTHERS_TAG + index)
            for index in range(count)
        ]

    def finish(self) -> None:
        """Send what the receives wait for, in reverse order, and verify that each got its own.

        Raises:
            WrongBytesError: a receive got another message.
        """
        values = np.arange(1, self._received.size + 1, dtype=np.int32)
        carrier = self._peer.adapt(values)
        for index in reversed(range(values.size)):
            self._peer.comm.Send(carrier[index : index + 1], self._partner, OTHERS_TAG + index)
        self._peer.waitall(self._requests)
        if not np.array_equal(self._received, values):
            raise WrongBytesError("a posted receive got another message than its tag's")


class UnexpectedOthers:
    """A long unexpected queue: messages that wait at ranks 0 and 1 for their receives."""

    kind = "unexpected"

    def __init__(self, peer: Peer, count: int) -> None:
        self._peer = peer
        self._partner = 1 - peer.comm.Get_rank()
        self._values = np.arange(1, count + 1, dtype=np.int32)
        carrier = peer.adapt(self._values)
        self._requests = [
            peer.comm.Isend(carrier[index : index + 1], self._partner, OTHERS_TAG + index)
            for index in range(count)
        ]

    def finish(self) -> None:
        """Receive them in reverse order and verify that each carries its tag's value.

        Raises:
            WrongBytesError: a message came with another tag's value.
        """
        into = np.zeros(1, np.int32)
        carrier = self._peer.adapt(into)
        for index in reversed(range(self._values.size)):
            self._peer.comm.Recv(carrier, self._partner, OTHERS_TAG + index)
            if into[0] != self._values[index]:
                raise WrongBytesError("an unexpected message came with another tag's value")
        self._peer.waitall(self._requests)
