"""What is in the way of messages over RDMA, one line each; for ``doctor``.

Called in the command's one thread, without a lock.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mooncake_mpi.communicators.intracomm import Intracomm

ADAPTERS = Path("/sys/class/infiniband")
DEVICES = Path("/dev/infiniband")
_STATUS = Path("/proc/self/status")
_CAP_IPC_LOCK = 14
#: Two rails and a few peers, and a message of some MiB under way.
ENOUGH_LOCKED_BYTES = 64 << 20
#: Seconds until all rails to a peer are wired up.
PATIENCE = 3.0


def hints(world: Intracomm) -> Iterator[str]:
    """What this rank's machine lacks, and which ports do not reach whom; a collective call."""
    from mooncake_mpi import _native

    communicator = world._checked_communicator()
    ports = _native.rdma_ports()
    everywhere = world.gather([port for port in map(used_mtu, ports) if port])
    yield from mtu_hints(everywhere or [])
    lanes = {
        rank: _native.lane_of(communicator, rank)
        for rank in range(world.Get_size())
        if rank != world.Get_rank()
    }
    trouble = _native.missing_lanes().get("verbs")
    adapters = sorted(path.name for path in ADAPTERS.iterdir()) if ADAPTERS.is_dir() else []
    stranded = any(lane not in _native.LANES for lane in lanes.values())
    if trouble and (adapters or stranded):
        yield f"the lane to other hosts, verbs, is off: {trouble}"
    if adapters:
        yield from device_hints()
        yield from memory_hints()
    yield from port_hints(ports)
    remote = [rank for rank, lane in lanes.items() if lane == "verbs"]
    yield from path_hints(communicator, remote)


def used_mtu(port: dict[str, Any]) -> tuple[str, int] | None:
    """Name and MTU in bytes of a port that the lane uses."""
    if port["trouble"] or port["waits"]:
        return None
    return f"{port['device']}:{port['port']}", port["mtu_bytes"]


def mtu_hints(everywhere: Sequence[Sequence[tuple[str, int]]]) -> Iterator[str]:
    """Ports with a smaller MTU, in bytes, than others; `everywhere` has a list for each rank."""
    largest = max((mtu for ports in everywhere for _, mtu in ports), default=0)
    small = [
        f"{mtu} at {name} of rank {rank}"
        for rank, ports in enumerate(everywhere)
        for name, mtu in ports
        if mtu < largest
    ]
    if small:
        yield (
            f"the MTU of RDMA ports differs, and packets take the smaller: {largest}, but "
            + ", ".join(small)
        )


def device_hints() -> Iterator[str]:
    """Adapters that the kernel has and this process may not open."""
    nodes = sorted(DEVICES.glob("uverbs*"))
    if not nodes:
        yield f"there is no {DEVICES}/uverbs*: load ib_uverbs; a container needs --device {DEVICES}"
    for node in nodes:
        if not os.access(node, os.R_OK | os.W_OK):
            yield f"no permission on {node}: this user has to be allowed to read and write it"


def memory_hints() -> Iterator[str]:
    """A limit of locked memory that is too small for the lane's buffers."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY and limit < ENOUGH_LOCKED_BYTES and not may_lock():
        yield (
            f"only {limit >> 10} KiB of memory may be locked for RDMA adapters: raise the limit "
            "(ulimit -l unlimited, LimitMEMLOCK=infinity of the launcher's service)"
        )


def may_lock() -> bool:
    """Whether this process has CAP_IPC_LOCK, which no limit binds."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False


def port_hints(ports: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Ports that are not used though nobody left them out."""
    for port in ports:
        name = f"RDMA port {port['device']}:{port['port']}"
        if port["waits"]:
            yield f"{name} is {port['state']}; it is used once it is up"
        elif port["trouble"] and port["trouble"] != "not among the chosen devices":
            yield f"{name} is not used: {port['trouble']}"


def path_hints(communicator: Any, ranks: Sequence[int]) -> Iterator[str]:
    """Ports that are up and do not reach a rank."""
    from mooncake_mpi import _native

    deadline = time.monotonic() + PATIENCE
    for rank in ranks:
        while _native.path_troubles(communicator, rank) and time.monotonic() < deadline:
            time.sleep(0.05)  # paths other than the first are still being connected
        for trouble in _native.path_troubles(communicator, rank):
            yield f"an RDMA port does not reach rank {rank}: {trouble}"
