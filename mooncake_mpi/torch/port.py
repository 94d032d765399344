"""What the collectives' messages of tensors travel through.

Called in the thread that runs an operation, no lock of its own.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import torch

from mooncake_mpi import _native
from mooncake_mpi.engine import surroundings
from mooncake_mpi.torch import tensors
from mooncake_mpi.torch.leaving import LEAVING, SLICE_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.requests.request import Request


class TensorPort:
    """The port of one operation, whose messages carry its tag.

    It is made when the operation begins: its time runs from there.
    """

    def __init__(self, communicator: _native.Communicator, tag: int, timeout_ms: int) -> None:
        self.rank = communicator.rank
        self.size = communicator.size
        self._communicator = communicator
        self._tag = tag
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
            if monotonic() >= self._deadline:
                raise TimeoutError(self._lateness(requests))
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

    def _lateness(self, requests: Sequence[Any]) -> str:
        late = [self._started[id(one)][2] for one in requests if not one._poll()]
        return (
            f"timed out after {self._timeout_ms / 1000:g} s, waiting for rank "
            f"{late[0] if late else 'unknown'}; does it call the same operation?"
        )

    def abandon(self) -> None:
        """Let no message come into memory that the program has again."""
        for request, nbytes, _ in self._started.values():
            if nbytes is not None and request:
                request.Cancel()
        self._started.clear()

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
