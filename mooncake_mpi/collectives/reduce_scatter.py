"""Reduce-scatter: pairwise exchange, the next part under way while one is combined."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.collectives.port import Part, Port, Reduction


def reduce_scatter(port: Port, mine: Part, parts: Sequence[Part], reduction: Reduction) -> None:
    """``mine`` becomes the reduction of what all ranks have in ``parts`` for this one."""
    rank, size = port.rank, port.size
    port.copy(mine, parts[rank])
    if size == 1:
        return
    places = [port.empty_like(mine) for _ in range(min(2, size - 1))]
    arriving = port.recv(places[0], (rank - 1) % size)
    sent = [port.send(parts[(rank + at) % size], (rank + at) % size) for at in range(1, size)]
    for at in range(1, size):
        port.wait((arriving,))
        if at + 1 < size:
            arriving = port.recv(places[at % 2], (rank - at - 1) % size)
        reduction(mine, places[(at - 1) % 2])
    port.wait(sent)
