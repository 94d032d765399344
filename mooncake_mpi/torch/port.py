"""What the collectives' messages of tensors travel through.

Called in the thread that runs an operation, no lock of its own.
"""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import torch

from mooncake_mpi import _native
from mooncake_mpi.engine import surroundings
from mooncake_mpi.torch import calls, tensors
from mooncake_mpi.torch.leaving import LEAVING, SLICE_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.requests.request import Request
    from mooncake_mpi.torch.calls import Call
    from mooncake_mpi.torch.words import Words

_SMALL_BYTES = 32 << 10
_SMALL_DEVICE_BYTES = 4 << 20


class TensorPort:
    """The port of one operation, whose messages carry its tag.

    It is made when the operation begins: its time runs from there.

    Args:
        communicator: of the group's collectives.
        call: the operation.
        timeout_ms: how long it may take.
        words: what this rank hears of the others while they are late.
    """

    def __init__(
        self, communicator: _native.Communicator, call: Call, timeout_ms: int, words: Words
    ) -> None:
        self.rank = communicator.rank
        self.size = communicator.size
        self._communicator = communicator
        self._call = call
        self._tag = call.tag
        self._words = words
        self._told: set[int] = set()
        self._strays: list[_native.MatchedMessage] = []
        self._timeout_ms = timeout_ms
        self._deadline = monotonic() + timeout_ms / 1000
        # Requests that may be under way, with the length of what a receive must get.
        self._started: dict[int, tuple[Request, int | None, int]] = {}

    def send(self, part: torch.Tensor | None, peer: int) -> Any:
        """Start sending a part, or an empty message."""
        if part is None:
            request = _native.post_send(self._communicator, 0, 0, None, peer, self._tag)
        else:
            request = tensors.post_send(self._communicator, part, peer, self._tag)
        self._started[id(request)] = (request, None, peer)
        return request

    def recv(self, part: torch.Tensor | None, peer: int) -> Any:
        """Start receiving exactly a part."""
        if part is None:
            request = _native.post_recv(self._communicator, 0, 0, None, peer, self._tag)
            nbytes = 0
        else:
            request = tensors.post_recv(self._communicator, part, peer, self._tag)
            nbytes = part.nbytes
        self._started[id(request)] = (request, nbytes, peer)
        return request

    def wait(self, requests: Sequence[Any]) -> None:
        """Wait for what was started; raises if any of it failed, or the time is over."""
        while not _native.wait_for_requests(requests, all=True, timeout_ms=self._slice_ms()):
            if LEAVING.is_set():
                raise RuntimeError("the program ends")
            if self._words.aborted.is_set():
                raise RuntimeError("aborted")
            if monotonic() >= self._deadline:
                raise TimeoutError(self._lateness(requests))
            self._look_around(requests)
        for request in requests:
            _, nbytes, peer = self._started.pop(id(request))
            if nbytes is None:
                request.Wait()
                continue
            _, received = surroundings.current().outcome(request)
            if received != nbytes:
                raise ValueError(
                    f"rank {peer} sent {received} bytes where this rank expects {nbytes}: "
                    "the tensors differ in shape or type"
                )

    def _slice_ms(self) -> int:
        left_ms = int((self._deadline - monotonic()) * 1000)
        return max(1, min(SLICE_MS, left_ms))

    def _look_around(self, requests: Sequence[Any]) -> None:
        """Raise if a rank that is waited for has gone another way."""
        late = [self._started[id(one)] for one in requests if not one._poll()]
        for peer in {peer for _, _, peer in late} - self._told:
            self._told.add(peer)
            self._words.say(self._call, peer)
        senders = {peer for _, nbytes, peer in late if nbytes is not None}
        sequence = self._call.sequence
        for peer, place in self._words.hear().items():
            # Of this operation a sender has sent before whatever it says of a later one.
            elsewhere = place.sequence == sequence or (
                place.sequence > sequence and peer in senders
            )
            if elsewhere and place.tag != self._tag:
                raise ValueError(f"this rank is in {self._call}, and rank {peer} in {place.text}")
        for peer in senders:
            self._look_at_messages(peer)

    def _look_at_messages(self, peer: int) -> None:
        """Raise if the rank has sent something else than what is waited for."""
        any_tag = surroundings.current().any_tag
        message = _native.improbe(self._communicator, peer, any_tag)
        if message is None:
            return
        self._strays.append(message)
        name, sequence = calls.of_tag(message.tag, self._call.sequence)
        raise ValueError(
            f"this rank is in {self._call}, and rank {peer} has sent a message of {name}, "
            f"operation {sequence}, with tag {message.tag} where this one has {self._tag}"
        )

    def _lateness(self, requests: Sequence[Any]) -> str:
        late = sorted({self._started[id(one)][2] for one in requests if not one._poll()})
        who = "rank" if len(late) == 1 else "ranks"
        return (
            f"timed out after {self._timeout_ms / 1000:g} s, the timeout of the operation, "
            f"waiting for {who} {', '.join(map(str, late)) or 'unknown'}"
        )

    def abandon(self) -> None:
        """Let no message come into memory that the program has again."""
        for request, nbytes, _ in self._started.values():
            if nbytes is not None and request:
                request.Cancel()
        self._started.clear()
        for message in self._strays:
            with suppress(Exception):  # it is too long; its sender waits no more
                _native.message_post_recv(message, bytearray())
        self._strays.clear()

    def small_bytes(self, part: torch.Tensor) -> int:
        """Up to so many a message of such memory costs its way rather than its bytes."""
        return _SMALL_BYTES if part.is_cpu else _SMALL_DEVICE_BYTES

    def reduces_quickly(self, part: torch.Tensor) -> bool:
        """Whether a reduction takes little time beside a message of the same length."""
        return not part.is_cpu

    def empty_like(self, part: torch.Tensor) -> torch.Tensor:
        """Memory of the same kind and length."""
        return torch.empty_like(part)

    def copy(self, into: torch.Tensor, source: torch.Tensor) -> None:
        """Copy a part that is in this process."""
        if into.data_ptr() != source.data_ptr():
            into.copy_(source)

    def nbytes(self, part: torch.Tensor) -> int:
        """The size of a part."""
        return int(part.nbytes)
