"""The streams in which a group's own thread works, so that it is behind nothing of the program's.

Used by the thread that runs the group's operations, one at a time, no lock of its own.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class SideStreams:
    """A stream for each device that an operation of the thread has had tensors of."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    @contextmanager
    def current_for(self, tensors: Sequence[torch.Tensor]) -> Iterator[None]:
        """Work in them, on tensors that no other stream works on."""
        with ExitStack() as stack:
            for device in {tensor.device for tensor in tensors if not tensor.is_cpu}:
                if device not in self._streams:
                    self._streams[device] = torch.cuda.Stream(device)
                stack.enter_context(torch.cuda.stream(self._streams[device]))
            yield
