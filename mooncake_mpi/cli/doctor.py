"""``python -m mooncake_mpi doctor``: whether messages travel here, and what is in their way.

Called in the command's one thread, without a lock.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mooncake_mpi.cli import launchers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mooncake_mpi.communicators.intracomm import Intracomm

_SIZES = (0, 8, 4_000, 3_000_000)
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives
_PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
_ENOUGH_BYTES = 64 << 20


def main(arguments: Sequence[str]) -> int:
    """Send messages around all ranks and look at the machine; rank 0 prints what was found.

    Returns:
        0 if every message arrived whole and nothing is left pending, else 1; 1 also where the
        processes of the launcher are no job.
    """
    parser = argparse.ArgumentParser(
        prog="python -m mooncake_mpi doctor",
        description="Send messages of several sizes around all ranks, look for what slows or stops "
        "them, and list the operations that are left pending.",
    )
    parser.add_argument(
        "--hang",
        nargs="*",
        type=int,
        metavar="PID",
        help="say what the running processes of this user wait for (those given, or all), and "
        "which wait for each other; start it without mpirun",
    )
    options = parser.parse_args(arguments)
    if options.hang is not None:
        from mooncake_mpi.cli.hang import explain

        return explain(options.hang)

    from mpi4py import MPI

    from mooncake_mpi.communicators.intracomm import Intracomm

    if (apart := launchers.trouble(MPI.COMM_WORLD.Get_size(), MPI.get_vendor()[0])) is not None:
        text, rank = apart
        if rank == 0:  # the others would say the same
            sys.stdout.write(f"FAILED  {text}\n")
        return 1
    world = Intracomm(MPI.COMM_WORLD)
    hosts = world.allgather(platform.node())
    problems = [*_unreached(world, hosts), *_messages(world), *_pending()]
    hints = list(_hints(world))
    reports = world.gather((problems, hints), root=0)
    cores = len(set().union(*world.allgather(os.sched_getaffinity(0))))
    if reports is not None:
        for text in _misspelt():
            sys.stdout.write(f"hint    {text}\n")
        if cores < world.Get_size():
            sys.stdout.write(f"hint    {world.Get_size()} ranks share {cores} core(s)\n")
        for rank, (problems_there, hints_there) in enumerate(reports):
            for text in problems_there:
                sys.stdout.write(f"FAILED  rank {rank}: {text}\n")
            for text in hints_there:
                sys.stdout.write(f"hint    rank {rank}: {text}\n")
        if len(reports) == 1:
            sys.stdout.write(
                "hint    one process alone: no message between processes was tested "
                "(mpirun -n 2 mooncake-mpi doctor)\n"
            )
        elif not any(there for there, _ in reports):
            sys.stdout.write(f"ok      messages travel between {len(reports)} ranks\n")
    failed: bool = world.bcast(any(there for there, _ in reports or []), root=0)
    return int(failed)


def _misspelt() -> Iterator[str]:
    """Variables that look like settings and are none."""
    from mooncake_mpi.config import unknown_variables

    for name, nearest in unknown_variables().items():
        yield f"{name} is no setting" + (f": is {nearest} meant?" if nearest else "")


def _unreached(world: Intracomm, hosts: Sequence[str]) -> Iterator[str]:
    """Ranks that no lane reaches, with their host, why, and what can be done."""
    from mooncake_mpi import _native

    communicator = world._checked_communicator()
    for rank, host in enumerate(hosts):
        reason = _native.lane_of(communicator, rank)
        if reason in _native.LANES:
            continue
        off = ", ".join(f"{lane}: {why}" for lane, why in _native.missing_lanes().items())
        yield (
            f"no lane reaches rank {rank} on {host}: {reason}; lanes that are off here: "
            f"{off or 'none'}. Two hosts need a network that both have an address of "
            "(MOONCAKE_MPI_TCP_INTERFACES, MOONCAKE_MPI_TCP_PORTS for a firewall) and a setting of "
            "MOONCAKE_MPI_LANES that leaves tcp or verbs in"
        )


def _messages(world: Intracomm) -> Iterator[str]:
    """What is wrong with messages from each rank to each that is reached, itself included."""
    import numpy as np
    from mpi4py import MPI

    from mooncake_mpi import _native
    from mooncake_mpi.errors import Error

    rank, size = world.Get_rank(), world.Get_size()
    communicator = world._checked_communicator()
    mine = [_native.lane_of(communicator, other) in _native.LANES for other in range(size)]
    reached = world.allgather(mine)
    for distance in range(size):
        dest, source = (rank + distance) % size, (rank - distance) % size
        if not (reached[rank][dest] and reached[dest][rank]):
            dest = MPI.PROC_NULL  # told by _unreached
        if not (reached[rank][source] and reached[source][rank]):
            source = MPI.PROC_NULL
        for nbytes in _SIZES:
            into = np.zeros(nbytes, np.uint8)
            try:
                world.Sendrecv(np.full(nbytes, rank % 251, np.uint8), dest, 0, into, source, 0)
            except Error as error:
                yield f"{nbytes} bytes from rank {source}: {error}"
                continue
            if source != MPI.PROC_NULL and not (into == source % 251).all():
                yield f"{nbytes} bytes from rank {source} arrived changed"


def _pending() -> Iterator[str]:
    """Operations that nobody completed."""
    from mooncake_mpi import _native

    for operation in _native.pending():
        yield "pending " + ", ".join(f"{name} {value}" for name, value in operation.items())


def _hints(world: Intracomm) -> Iterator[str]:
    """What makes messages slower than they could be on this machine."""
    from mooncake_mpi import _native
    from mooncake_mpi.cli import rdma, tcp

    communicator = world._checked_communicator()
    others = [rank for rank in range(world.Get_size()) if rank != world.Get_rank()]
    near = [rank for rank in others if _native.lane_of(communicator, rank) == "shm"]
    if not all(_native.cross_memory_with(communicator, rank) for rank in near):
        scope = _PTRACE_SCOPE.read_text().strip() if _PTRACE_SCOPE.exists() else "not there"
        yield (
            "the kernel refuses process_vm_readv, so large messages are copied twice "
            f"({_PTRACE_SCOPE} is {scope}; a container needs CAP_SYS_PTRACE)"
        )
    if _SHARED_MEMORY.exists():
        free = shutil.disk_usage(_SHARED_MEMORY).free
        if free < _ENOUGH_BYTES:
            yield f"{_SHARED_MEMORY} has {free >> 20} MiB left: a container needs --shm-size"
    yield from rdma.hints(world)
    yield from tcp.hints(world)
