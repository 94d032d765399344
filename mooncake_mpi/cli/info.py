"""``python -m mooncake_mpi info``: what runs here, and how messages travel.

Called in the command's one thread, without a lock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from ipaddress import IPv6Address
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mooncake_mpi.cli import launchers
from mooncake_mpi.config import HOST_ID, SETTINGS, unknown_variables

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
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    options = parser.parse_args(arguments)

    from mpi4py import MPI

    from mooncake_mpi.communicators.intracomm import Intracomm

    world = Intracomm(MPI.COMM_WORLD)
    _connect(world)
    hosts = world.allgather(platform.node())
    text = ""
    if world.Get_rank() == 0:
        if options.json:
            text = json.dumps(document(world, hosts), indent=2, default=str) + "\n"
        else:
            lines = _lines(world, hosts)
            text = "".join(f"{name:<{_WIDTH}}{value}\n" for name, value in lines)
    world.Barrier()  # the others stay until rank 0 has looked at them
    sys.stdout.write(text)
    return 0


def document(world: Intracomm, hosts: Sequence[str]) -> dict[str, Any]:
    """Everything that ``info`` tells, for programs.

    Args:
        world: all ranks; only this one is asked.
        hosts: the name of each rank's host.
    """
    from mooncake_mpi import _native
    from mooncake_mpi.traffic import transfers

    return {
        **{name.lower().replace(" ", "_"): text for name, text in _versions()},
        "processes": world.Get_size(),
        "cores": len(os.sched_getaffinity(0)),
        "ranks": [
            {"rank": rank, "host": host, "way": way}
            for rank, (host, way) in enumerate(zip(hosts, ways(world), strict=True))
        ],
        "gpu_memory": _gpu_memory(),
        "lanes": {name: _native.missing_lanes().get(name, "on") for name in _native.LANES},
        "transfers": [asdict(peer) for peer in transfers(world)],
        "tcp_addresses": _native.tcp_addresses(),
        "rdma_ports": [
            {**port, "gids": [(index, _gid(gid), kind) for index, gid, kind in port["gids"]]}
            for port in _native.rdma_ports()
        ],
        "settings": {
            variable: {"value": value, "set": is_set} for variable, value, is_set in _in_force()
        },
        "unknown_variables": unknown_variables(),
        "counters": _native.stats(),
    }


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


def _versions() -> Iterator[tuple[str, str]]:
    import mpi4py
    import numpy as np
    from mpi4py import MPI

    from mooncake_mpi import __version__

    yield "mooncake_mpi", __version__
    yield "Python", f"{platform.python_version()} ({sys.executable})"
    yield "mpi4py", mpi4py.__version__
    yield "NumPy", np.__version__
    vendor, version = MPI.get_vendor()
    standard = ".".join(map(str, MPI.Get_version()))
    yield "MPI library", f"{vendor} {'.'.join(map(str, version))} (MPI {standard})"


def _lines(world: Intracomm, hosts: Sequence[str]) -> Iterator[tuple[str, object]]:
    from mpi4py import MPI

    from mooncake_mpi import _native

    yield from _versions()
    yield "processes", f"{world.Get_size()}, {len(os.sched_getaffinity(0))} cores for this one"
    if (apart := launchers.trouble(world.Get_size(), MPI.get_vendor()[0])) is not None:
        yield "  not one job", apart[0]
    for ranks, way in lanes(world, hosts):
        yield f"lane to {ranks}", way
    yield from transferred(world)
    yield "memory for messages", _memory()
    yield "memory of GPUs", _gpu_memory()
    yield from tcp()
    yield from rdma()
    yield "messages of the MPI library", _ELSEWHERE[0]
    yield from (("", line) for line in _ELSEWHERE[1:])
    for variable, value, is_set in _in_force():
        yield variable, value if is_set else f"{value} (default)"
    for name, nearest in unknown_variables().items():
        yield name, "no setting" + (f": is {nearest} meant?" if nearest else "")
    yield "counters", "of rank 0"
    yield from ((f"  {name}", value) for name, value in sorted(_native.stats().items()))


def ways(world: Intracomm) -> Iterator[str]:
    """How each rank is reached, or why it is not."""
    from mooncake_mpi import _native

    communicator = world._checked_communicator()
    for rank in range(world.Get_size()):
        lane: str = _native.lane_of(communicator, rank)
        if lane not in _native.LANES:
            yield f"none: {lane}"
        elif rank == world.Get_rank():
            yield lane
        elif lane not in {"self", "shm"}:
            route = _native.route_to(communicator, rank)
            yield f"{lane}, {route}" if route else lane
        else:
            single = _native.cross_memory_with(communicator, rank)
            copies = "one copy (process_vm_readv)" if single else "through shared memory"
            yield f"{lane}, large messages: {copies}"


def lanes(world: Intracomm, hosts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Ranks that are reached in the same way, and the way; with the host of those that are not."""
    known = list(ways(world))

    def way(rank: int) -> str:
        missing = known[rank].startswith("none: ")
        return f"{known[rank]} (on {hosts[rank]})" if missing else known[rank]

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


def _gpu_memory() -> str:
    """Whether there is a CUDA driver for arrays of GPUs; the lane for them is on in any case."""
    from mooncake_mpi import _native

    trouble = _native.gpu_objection(0, 1)
    return "carried" if trouble.startswith("no GPU memory") else f"refused: {trouble}"


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
    from mooncake_mpi import _native

    for port in _native.rdma_ports():
        name = f"RDMA port {port['device']}:{port['port']}"
        use = port["trouble"] or ("used once it is up" if port["waits"] else "used")
        yield name, f"{port['state']}, {port['link']}, MTU {port['mtu_bytes']}, {use}"
        for index, gid, kind in port["gids"]:
            chosen = ", chosen" if index == port["gid_index"] else ""
            yield f"  GID {index}", f"{_gid(gid)} ({kind}{chosen})"
    missing = _native.missing_lanes()
    for lane in _native.LANES:
        yield f"{lane} lane", f"off: {missing[lane]}" if lane in missing else "on"


def _in_force() -> Iterator[tuple[str, str, bool]]:
    """Each setting's variable, the value that holds, and whether it was set."""
    known = {setting.variable: setting.default for setting in SETTINGS.values()}
    for variable, default in [*known.items(), (HOST_ID[0], "this machine")]:
        text = os.environ.get(variable, "").strip()
        yield variable, text or default, bool(text)


def _gid(gid: bytes) -> str:
    address = IPv6Address(gid)
    return str(address.ipv4_mapped or address)
