"""Small tensors of GPUs, reduced by the host.

Each step of a reduction on a GPU costs its launch and the wait for its end; a small tensor is
brought to the host, reduced there and brought back in less time than one. Called in the thread that
runs a group's operation, one at a time, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

#: Up to so many bytes.
LIMIT = 32 << 10


class Staging:
    """A group's pinned memory, which is made when a tensor first needs it."""

    def __init__(self) -> None:
        self._memory: torch.Tensor | None = None

    def run(self, flat: torch.Tensor, reduce: Callable[[torch.Tensor], None]) -> None:
        """Have ``flat``, in whose memory the result belongs, reduced where that takes less time."""
        if flat.is_cpu or not 0 < flat.nbytes <= LIMIT:
            reduce(flat)
            return
        if self._memory is None:
            self._memory = torch.empty(LIMIT, dtype=torch.uint8, pin_memory=True)
        host = self._memory[: flat.nbytes].view(flat.dtype)
        host.copy_(flat, non_blocking=True)
        torch.cuda.current_stream(flat.device).synchronize()
        reduce(host)
        flat.copy_(host, non_blocking=True)  # its end is waited for with that of the operation
