"""``python -m mooncake_mpi info``: what runs here, and how messages travel.

Called in the command's one thread, without a lock.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mooncake_mpi.communicators.intracomm import Intracomm
    from mooncake_mpi.traffic import Traffic

_WIDTH = 36
#: Seconds that a rank has to reach rank 0, before it is said how it is reached.
_PATIENCE = 2.0
# What the engine does not carry.
_ELSEWHERE = (
    "on intercommunicators, until they are merged",
    "on communicators that C or Fortran code made (wrap them: mooncake_mpi.Intracomm)",
    "on what Spawn, Connect and Accept lead to, merged or not",
    "by mpi4py.util.pkl5, and by C and Fortran code",
)


def main(arguments: Sequence[str]) -> int:
    """Print versions, the MPI library, the lanes from rank 0 and the settings; on rank 0 only."""
    parser = argparse.ArgumentParser(
        prog="python -m mooncake_mpi info",
        description="Versions, the MPI library, the lane to every rank, settings and counters.",
    )
    parser.parse_args(arguments)

    from mpi4py import MPI

    from mooncake_mpi.communicators.intracomm import Intracomm

    world = Intracomm(MPI.COMM_WORLD)
    _connect(world)
    lines = list(_lines(world)) if world.Get_rank() == 0 else []
    world.Barrier()  # the others stay until rank 0 has looked at them
    for name, value in lines:
        sys.stdout.write(f"{name:<{_WIDTH}}{value}\n")
    return 0


def _connect(world: Intracomm) -> None:
    """Let rank 0 hear from every rank that reaches it soon: ways are made by the first message."""
    from mpi4py import MPI

    from mooncake_mpi import _native
    from mooncake_mpi.errors import Error

    with suppress(Error):
        if world.Get_rank() != 0:
            world.Isend([b"", MPI.BYTE], 0, 0)
            return
        communicator = world._checked_communicator()
        waiting = {
            rank
            for rank in range(1, world.Get_size())
            if _native.lane_of(communicator, rank) in _native.LANES
        }
        deadline = time.monotonic() + _PATIENCE
        while waiting and time.monotonic() < deadline:
            for rank in list(waiting):
                if world.iprobe(rank, 0):
                    world.Recv([bytearray(), MPI.BYTE], rank, 0)
                    waiting.discard(rank)


def _lines(world: Intracomm) -> Iterator[tuple[str, object]]:
    import mpi4py
    import numpy as np
    from mpi4py import MPI

    from mooncake_mpi import __version__, _native

    yield "mooncake_mpi", __version__
    yield "Python", f"{platform.python_version()} ({sys.executable})"
    yield "mpi4py", mpi4py.__version__
    yield "NumPy", np.__version__
    vendor, version = MPI.get_vendor()
    standard = ".".join(map(str, MPI.Get_version()))
    yield "MPI library", f"{vendor} {'.'.join(map(str, version))} (MPI {standard})"
    yield "processes", f"{world.Get_size()}, {len(os.sched_getaffinity(0))} cores for this one"
    for ranks, way in lanes(world):
        yield f"lane to {ranks}", way
    yield from transferred(world)
    yield "memory for messages", _memory()
    yield from tcp()
    yield from rdma()
    yield "messages of the MPI library", _ELSEWHERE[0]
    yield from (("", line) for line in _ELSEWHERE[1:])
    yield from _settings()
    yield from ((f"  {name}", value) for name, value in sorted(_native.stats().items()))


def lanes(world: Intracomm) -> Iterator[tuple[str, str]]:
    """Ranks that are reached in the same way, and the way."""
    from mooncake_mpi import _native

    communicator = world._checked_communicator()

    def way(rank: int) -> str:
        lane: str = _native.lane_of(communicator, rank)
        if rank == world.Get_rank():
            return lane
        if lane not in {"self", "shm"}:
            route = _native.route_to(communicator, rank)
            return f"{lane}, {route}" if route else lane
        single = _native.cross_memory_with(communicator, rank)
        copies = "one copy (process_vm_readv)" if single else "through shared memory"
        return f"{lane}, large messages: {copies}"

    for text, ranks in groupby(range(world.Get_size()), way):
        members = list(ranks)
        last = f"-{members[-1]}" if len(members) > 1 else ""
        yield f"rank{'s' if last else ''} {members[0]}{last}", text


def transferred(world: Intracomm) -> Iterator[tuple[str, str]]:
    """What went to each rank and came from it, by path, and why it took a longer way."""
    from mooncake_mpi.traffic import transfers

    for peer in transfers(world):
        for name, paths in (("to", peer.sent), ("from", peer.received)):
            if paths:
                yield f"transfers {name} rank {peer.rank}", _by_path(paths)
        for trouble in peer.troubles:
            yield f"  not as they could, rank {peer.rank}", trouble


def _by_path(paths: Mapping[str, Traffic]) -> str:
    return ", ".join(
        f"{path}: {traffic.messages} of {traffic.nbytes:,} bytes" for path, traffic in paths.items()
    )


def _memory() -> str:
    """Whether this process can make memory that others map."""
    from mooncake_mpi import _native

    address = _native.allocate_block(1)
    if not address:
        return "none: MPI.Alloc_mem and mooncake_mpi.empty give ordinary memory"
    _native.free_block(address)
    return "mapped by the ranks of the node (MPI.Alloc_mem, mooncake_mpi.empty)"


def tcp() -> Iterator[tuple[str, str]]:
    """The addresses of rank 0's host that other hosts are told, and why not the others."""
    from mooncake_mpi import _native

    for entry in _native.tcp_addresses():
        use = "used" if entry["chosen"] else "not used"
        yield (
            f"address of {entry['interface']}",
            f"{entry['address']}, {use} by tcp: {entry['reason']}",
        )


def rdma() -> Iterator[tuple[str, str]]:
    """The RDMA ports of rank 0's machine, and why the verbs lane is off when it is."""
    from ipaddress import IPv6Address

    from mooncake_mpi import _native

    for port in _native.rdma_ports():
        name = f"RDMA port {port['device']}:{port['port']}"
        use = port["trouble"] or ("used once it is up" if port["waits"] else "used")
        yield name, f"{port['state']}, {port['link']}, MTU {port['mtu_bytes']}, {use}"
        for index, gid, kind in port["gids"]:
            address = IPv6Address(gid)
            chosen = ", chosen" if index == port["gid_index"] else ""
            yield f"  GID {index}", f"{address.ipv4_mapped or address} ({kind}{chosen})"
    missing = _native.missing_lanes()
    for lane in _native.LANES:
        yield f"{lane} lane", f"off: {missing[lane]}" if lane in missing else "on"


def _settings() -> Iterator[tuple[str, object]]:
    from mooncake_mpi.config import VARIABLES, load

    chosen = load().as_dict()
    for name, (variable, _) in VARIABLES.items():
        value = chosen.get(name)
        yield variable, "not set" if value in {None, ""} else value
    yield "counters", "of rank 0"
