"""Scatter: the root sends each rank its part."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.collectives.port import Part, Port


def scatter(port: Port, mine: Part, parts: Sequence[Part], root: int) -> None:
    """``mine`` becomes what ``root`` has in ``parts`` for this rank."""
    if port.rank != root:
        port.wait((port.recv(mine, root),))
        return
    sent = [port.send(part, rank) for rank, part in enumerate(parts) if rank != root]
    port.copy(mine, parts[root])
    port.wait(sent)
