"""All-to-all: every pair of ranks at once, each rank beginning with its neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.collectives.port import Part, Port


def all_to_all(port: Port, into: Sequence[Part], parts: Sequence[Part]) -> None:
    """``into[r]`` becomes what rank ``r`` has in ``parts`` for this one; lengths may differ."""
    rank, size = port.rank, port.size
    started = [port.recv(into[(rank - at) % size], (rank - at) % size) for at in range(1, size)]
    started += [port.send(parts[(rank + at) % size], (rank + at) % size) for at in range(1, size)]
    port.copy(into[rank], parts[rank])
    port.wait(started)
