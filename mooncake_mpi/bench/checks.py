"""Before every row, through the same calls: the measured paths carry the right bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mooncake_mpi.bench.methods import DATA_TAG

if TYPE_CHECKING:
    from mooncake_mpi.bench.memories import Buffer, Bytes
    from mooncake_mpi.bench.peers import Peer

_PATTERN_PERIOD = 251  # prime: shifted or swapped blocks of a power of two do not look alike


class WrongBytesError(RuntimeError):
    """A message arrived with other bytes than were sent."""


def make_pattern(size_bytes: int, seed: int) -> Bytes:
    """Bytes that differ for each seed and at each small shift, shape ``(size_bytes,)``."""
    period = ((np.arange(_PATTERN_PERIOD, dtype=np.uint32) * 7 + seed * 31) % 256).astype(np.uint8)
    return np.resize(period, size_bytes) if size_bytes else np.empty(0, np.uint8)


def check_exchange(peer: Peer, out: Buffer, into: Buffer, partner: int, first: bool) -> None:
    """Send a pattern both ways between this rank and ``partner`` and compare every byte.

    It touches every page of both buffers. One of the two ranks is ``first`` to send.

    Raises:
        WrongBytesError: a byte differs, with its position.
    """
    if not peer.carries:
        return
    comm = peer.comm
    out.write(make_pattern(out.size_bytes, seed=comm.Get_rank()))
    into.write(np.zeros(into.size_bytes, np.uint8))
    if first:
        comm.Send(out.carrier, partner, DATA_TAG)
        comm.Recv(into.carrier, partner, DATA_TAG)
    else:
        comm.Recv(into.carrier, partner, DATA_TAG)
        comm.Send(out.carrier, partner, DATA_TAG)
    wrong = np.flatnonzero(into.read() != make_pattern(into.size_bytes, seed=partner))
    if wrong.size:
        raise WrongBytesError(
            f"{peer.name}, {into.size_bytes} B message: {wrong.size} wrong bytes, "
            f"the first at {int(wrong[0])}"
        )


def check_ring(peer: Peer) -> None:
    """One lap of a token to which each rank adds its rank + 1; rank 0 checks the sum.

    Raises:
        WrongBytesError: the token came back with another sum.
    """
    comm = peer.comm
    rank, size = comm.Get_rank(), comm.Get_size()
    token = np.zeros(1, np.int64)
    carrier = peer.adapt(token)
    if rank == 0:
        token[0] = 1
        request = comm.Isend(peer.adapt(token.copy()), (rank + 1) % size, DATA_TAG)
        comm.Recv(carrier, size - 1, DATA_TAG)
        peer.waitall([request])
        if token[0] != size * (size + 1) // 2:
            raise WrongBytesError(f"{peer.name}, ring of {size}: the token holds {int(token[0])}")
    else:
        comm.Recv(carrier, rank - 1, DATA_TAG)
        token += rank + 1
        comm.Send(carrier, (rank + 1) % size, DATA_TAG)
