"""Barrier: dissemination, in as many rounds as the number of ranks has bits.

And one through a rank that learns of every other whether it has come.
"""

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


def monitored_barrier(port: Port) -> None:
    """As :func:`barrier`; what rank 0 waits for is all who have not called."""
    others = range(1, port.size)
    if port.rank:
        port.wait((port.send(None, 0),))
        port.wait((port.recv(None, 0),))
        return
    port.wait([port.recv(None, rank) for rank in others])
    port.wait([port.send(None, rank) for rank in others])
