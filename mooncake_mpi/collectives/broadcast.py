"""Broadcast: a binomial tree, which passes a large message on chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mooncake_mpi.collectives.port import chunks
from mooncake_mpi.collectives.tree import parent_and_children

if TYPE_CHECKING:
    from mooncake_mpi.collectives.port import Part, Port

_CHUNK_BYTES = 512 << 10


def broadcast(port: Port, part: Part, root: int) -> None:
    """Every rank's ``part`` becomes what ``root`` has there."""
    parent, children = parent_and_children(port.rank, port.size, root)
    # Between two ranks nothing is passed on, but both must cut alike.
    pieces = chunks(port, part, _CHUNK_BYTES) if port.size > 2 else [part]
    arriving: list[Any] = [] if parent is None else [port.recv(piece, parent) for piece in pieces]
    sent = []
    for at, piece in enumerate(pieces):
        if arriving:
            port.wait((arriving[at],))
        sent += [port.send(piece, child) for child in children]
    port.wait(sent)
