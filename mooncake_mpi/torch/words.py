"""What the ranks of a group say to each other beside their collectives, when one of them is late.

Called in the thread that runs an operation, no lock of its own. A rank that has waited for a while
says to those that it waits for where it is, and hears where they are: ranks that call different
operations raise then, and not when their time is over. Of operations that do not take that long
nobody says anything. The last word of a group is why it failed; it travels in a channel that
outlives the revocation of the group's communicator, which ends the operations of all ranks.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mooncake_mpi import _native
from mooncake_mpi.constants import AGREEMENT_CHANNEL
from mooncake_mpi.engine import surroundings

if TYPE_CHECKING:
    from mooncake_mpi.torch.calls import Call

_NBYTES = 512
_HEAD = struct.Struct("<qq")
_PLACE, _FAILURE = 1, 2
# How long the reason of a failure may take longer than the failure.
_PATIENCE_S = 0.2


class Place(NamedTuple):
    """Where a rank was."""

    sequence: int
    tag: int
    text: str


class Words:
    """Those of one group.

    Args:
        communicator: of the group's collectives.

    Attributes:
        aborted: set when this rank waits for the others no more, and leaves them alone.
    """

    def __init__(self, communicator: _native.Communicator) -> None:
        self._communicator = communicator
        self.aborted = Event()
        self._heard: dict[int, Place] = {}

    def say(self, call: Call, peer: int) -> None:
        """Tell a rank that this one waits for it in an operation."""
        self._send(_HEAD.pack(call.sequence, call.tag) + str(call).encode(), peer, _PLACE)

    def hear(self) -> dict[int, Place]:
        """Where the others were when they said so last."""
        while (word := self._receive(_PLACE, 0)) is not None:
            rank, body = word
            sequence, tag = _HEAD.unpack_from(body)
            self._heard[rank] = Place(sequence, tag, _text(body[_HEAD.size :]))
        return self._heard

    def tell(self, reason: str) -> None:
        """Tell all ranks why the group fails; :meth:`fail` comes next."""
        for peer in range(self._communicator.size):
            if peer != self._communicator.rank:
                self._send(reason.encode(), peer, _FAILURE)

    def fail(self) -> None:
        """End the group's operations at every rank."""
        with suppress(Exception):  # it was freed
            self._communicator.revoke()

    def reason(self, error: BaseException) -> str:
        """Why the group has failed, in the words of the rank that has noticed; empty if unknown.

        Args:
            error: what this rank has noticed.
        """
        revoked = getattr(error, "name", "") == "ERR_REVOKED"
        word = self._receive(_FAILURE, _PATIENCE_S if revoked else 0)
        if word is None and revoked:
            return "an operation has failed at another rank"
        return f"rank {word[0]}: {_text(word[1])}" if word is not None else ""

    def _send(self, body: bytes, peer: int, tag: int) -> None:
        word = bytearray(body[:_NBYTES].ljust(_NBYTES, b"\0"))
        with suppress(Exception):  # who is gone needs no word
            memory = torch.frombuffer(word, dtype=torch.uint8)
            _native.post_send(
                self._communicator,
                *(memory.data_ptr(), _NBYTES, memory, peer, tag),
                channel=AGREEMENT_CHANNEL,
            )

    def _receive(self, tag: int, seconds: float) -> tuple[int, bytes] | None:
        memory = torch.empty(_NBYTES, dtype=torch.uint8)
        any_rank = surroundings.current().any_source
        deadline = monotonic() + seconds
        with suppress(Exception):  # a rank has failed, or the communicator was freed
            request: Any = _native.post_recv(
                self._communicator,
                *(memory.data_ptr(), _NBYTES, memory, any_rank, tag),
                channel=AGREEMENT_CHANNEL,
            )
            while not request._poll():
                left_ms = int((deadline - monotonic()) * 1000)
                if left_ms <= 0:
                    request.Cancel()
                    break
                _native.wait_for_requests((request,), all=True, timeout_ms=left_ms)
            rank, nbytes = surroundings.current().outcome(request)
            return (rank, memory.numpy().tobytes()) if nbytes == _NBYTES else None
        return None


def _text(body: bytes) -> str:
    return body.rstrip(b"\0").decode(errors="replace")
