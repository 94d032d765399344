"""What is in the way of messages between hosts over TCP, one line each; for ``doctor``.

Called in the command's one thread, without a lock.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mooncake_mpi.communicators.intracomm import Intracomm


def hints(world: Intracomm) -> Iterator[str]:
    """Why the lane is off or does not reach a rank, and a host name that means this host alone."""
    from mooncake_mpi import _native

    communicator = world._checked_communicator()
    lanes = {
        rank: _native.lane_of(communicator, rank)
        for rank in range(world.Get_size())
        if rank != world.Get_rank()
    }
    stranded = any(lane not in _native.LANES for lane in lanes.values())
    trouble = _native.missing_lanes().get("tcp")
    if trouble and stranded:
        yield f"the lane to other hosts, tcp, is off: {trouble}"
    remote = [rank for rank, lane in lanes.items() if lane == "tcp"]
    for rank in remote:
        for line in _native.path_troubles(communicator, rank):
            yield f"rank {rank} is not connected, {line}"
    if remote:
        yield from name_hints(socket.gethostname())


def name_hints(name: str) -> Iterator[str]:
    """A host name that resolves to loopback: nothing here looks names up, but others do."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(name, None)}
    except OSError:
        yield f"the host name {name} resolves to nothing, which MPI's launchers may trip over"
        return
    if found and all(ip_address(str(one).partition("%")[0]).is_loopback for one in found):
        yield (
            f"the host name {name} resolves to {', '.join(sorted(map(str, found)))}, this host "
            "alone: messages go by interfaces' addresses and are not affected, but MPI's launchers "
            "may be (/etc/hosts)"
        )
