"""Reduce: a binomial tree, towards the root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mooncake_mpi.collectives.port import chunks
from mooncake_mpi.collectives.tree import parent_and_children

if TYPE_CHECKING:
    from mooncake_mpi.collectives.port import Part, Port, Reduction

_CHUNK_BYTES = 512 << 10


def reduce(port: Port, part: Part, reduction: Reduction, root: int) -> None:
    """``part`` of ``root`` becomes the reduction of all; on other ranks it is used as scratch."""
    parent, children = parent_and_children(port.rank, port.size, root)
    pieces = chunks(port, part, _CHUNK_BYTES)
    # The smallest subtree is ready first.
    places = [(child, port.empty_like(part)) for child in reversed(children)]
    arriving = []
    for child, place in places:
        scratch = chunks(port, place, _CHUNK_BYTES)
        arriving.append([(piece, port.recv(piece, child)) for piece in scratch])
    sent = []
    for at, piece in enumerate(pieces):
        for one in arriving:
            theirs, received = one[at]
            port.wait((received,))
            reduction(piece, theirs)
        if parent is not None:
            sent.append(port.send(piece, parent))
    port.wait(sent)
