"""Gather: every rank sends its part to the root."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.collectives.port import Part, Port


def gather(port: Port, parts: Sequence[Part], mine: Part, root: int) -> None:
    """``parts`` of ``root`` become what each rank has as ``mine``; elsewhere they are not used."""
    if port.rank != root:
        port.wait((port.send(mine, root),))
        return
    arriving = [port.recv(part, rank) for rank, part in enumerate(parts) if rank != root]
    port.copy(parts[root], mine)
    port.wait(arriving)
