"""Small messages of GPUs in less time, at a price that the program decides on.

Any thread.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mooncake_mpi import _native

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def gpu_latency() -> Iterator[None]:
    """Within it small messages between GPUs of a host take about two thirds of the time.

    While messages of 64 KiB or less are sent that the host waits for (``Send``, ``Isend``), and
    follow each other within 60 microseconds, one block of a kernel stays on the sender's GPU and
    copies them. It leaves after 80 microseconds without one. Meanwhile a kernel that fills the
    whole GPU has less of it, and ``synchronize()`` of the device waits until the block has left.
    The variable ``MOONCAKE_MPI_GPU_LATENCY=1`` is the same for the whole program.
    """
    _native.allow_gpu_latency(True)  # noqa: FBT003
    try:
        yield
    finally:
        _native.allow_gpu_latency(False)  # noqa: FBT003
