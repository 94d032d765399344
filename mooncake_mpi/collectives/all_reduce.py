"""All-reduce: recursive doubling of small parts, a ring of large ones.

Two ranks whose reductions are quick exchange large ones: as many bytes as in a ring, in one step.
All ranks end with the same bits: what they combine is the same pairs, and reductions commute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mooncake_mpi.collectives.port import chunks, split

if TYPE_CHECKING:
    from mooncake_mpi.collectives.port import Part, Port, Reduction

_PIECE_BYTES = 32 << 20
_PIECES_AHEAD = 4


def all_reduce(port: Port, part: Part, reduction: Reduction) -> None:
    """Every rank's ``part`` becomes the reduction of all."""
    if port.size == 1:
        return
    if port.size == 2 and port.reduces_quickly(part):
        _exchange(port, part, reduction)
    elif port.nbytes(part) <= port.small_bytes(part) or len(part) < port.size:
        _recursive_doubling(port, part, reduction)
    else:
        _ring(port, part, reduction)


def _recursive_doubling(port: Port, part: Part, reduction: Reduction) -> None:
    rank, scratch = port.rank, port.empty_like(part)
    power = 1 << (port.size.bit_length() - 1)
    extra = port.size - power
    # Each rank beyond the power of two hands its part to a neighbour, and is told the result.
    if rank < 2 * extra and rank % 2 == 0:
        port.wait((port.send(part, rank + 1),))
        port.wait((port.recv(part, rank + 1),))
        return
    if rank < 2 * extra:
        port.wait((port.recv(scratch, rank - 1),))
        reduction(part, scratch)
    place = rank // 2 if rank < 2 * extra else rank - extra
    distance = 1
    while distance < power:
        other = place ^ distance
        peer = 2 * other + 1 if other < extra else other + extra
        received = port.recv(scratch, peer)
        port.wait((received, port.send(part, peer)))
        reduction(part, scratch)
        distance *= 2
    if rank < 2 * extra:
        port.wait((port.send(part, rank - 1),))


def _exchange(port: Port, part: Part, reduction: Reduction) -> None:
    other, pieces = 1 - port.rank, chunks(port, part, _PIECE_BYTES)
    rooms = [port.empty_like(pieces[-1]) for _ in pieces[:_PIECES_AHEAD]]  # none is longer
    places = [rooms[at % len(rooms)][: len(piece)] for at, piece in enumerate(pieces)]
    started = [
        (port.recv(place, other), port.send(piece, other))
        for place, piece in zip(places[: len(rooms)], pieces, strict=False)
    ]
    for at, piece in enumerate(pieces):
        port.wait(started[at])
        reduction(piece, places[at])
        ahead = at + len(rooms)
        if ahead < len(pieces):
            started.append((port.recv(places[ahead], other), port.send(pieces[ahead], other)))


def _ring(port: Port, part: Part, reduction: Reduction) -> None:
    rank, size = port.rank, port.size
    left, right = (rank - 1) % size, (rank + 1) % size
    pieces = split(part, size)
    scratch = port.empty_like(pieces[-1])  # none is longer
    for step in range(size - 1):
        mine, theirs = pieces[(rank - step) % size], pieces[(rank - step - 1) % size]
        place = scratch[: len(theirs)]
        received = port.recv(place, left)
        port.wait((received, port.send(mine, right)))
        reduction(theirs, place)
    for step in range(size - 1):
        mine, theirs = pieces[(rank - step + 1) % size], pieces[(rank - step) % size]
        received = port.recv(theirs, left)
        port.wait((received, port.send(mine, right)))
