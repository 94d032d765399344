"""Barrier: dissemination, in as many rounds as the number of ranks has bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mooncake_mpi.collectives.port import Port


def barrier(port: Port) -> None:
    """Return when every rank has called."""
    distance = 1
    while distance < port.size:
        received = port.recv(None, (port.rank - distance) % port.size)
        sent = port.send(None, (port.rank + distance) % port.size)
        port.wait((received, sent))
        distance *= 2
