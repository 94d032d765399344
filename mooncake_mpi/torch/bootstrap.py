"""How the processes of a job under mpirun meet: ranks, a store, and a group's communicators.

Called in the thread that makes or leaves a group, no lock of its own; making is collective.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from mpi4py import MPI

from mooncake_mpi.communicators.intracomm import Intracomm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mooncake_mpi import _native

#: What torch's own way of meeting needs.
_TORCH_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
SCHEME = "mooncake-mpi"


def register() -> None:
    """Let ``init_process_group`` meet through MPI where its own variables are not set."""
    dist.register_rendezvous_handler(SCHEME, _meet)
    # The name is torch's own; where it is gone, init_method="mooncake-mpi://" is left.
    handlers = getattr(sys.modules.get("torch.distributed.rendezvous"), "_rendezvous_handlers", {})
    theirs = handlers.get("env")
    if theirs is not None:
        handlers["env"] = _meet_unless_told(theirs)


def _meet_unless_told(theirs: Callable[..., Any]) -> Callable[..., Any]:
    def meet(url: str, **options: Any) -> Iterator[Any]:
        told = "MASTER_ADDR" in os.environ and (
            "rank=" in url or all(name in os.environ for name in _TORCH_VARIABLES)
        )
        return theirs(url, **options) if told else _meet(url, **options)

    return meet


def _meet(url: str, timeout: Any = None, **_: Any) -> Iterator[Any]:  # noqa: ARG001 - torch's
    """Yield a store, the rank and the number of ranks."""
    world = MPI.COMM_WORLD
    yield _store(world, timeout), world.Get_rank(), world.Get_size()
    raise RuntimeError("mooncake_mpi: a job under MPI cannot meet again")


def _store(world: MPI.Intracomm, timeout: Any) -> Any:
    """A store of the job's: files of this user on one node, otherwise rank 0 serves it."""
    if world.Get_size() == 1:
        return dist.HashStore()
    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    on_one_node = world.allreduce(node.Get_size() == world.Get_size(), MPI.LAND)
    node.Free()
    limit = {} if timeout is None else {"timeout": timeout}
    if on_one_node:
        folder = tempfile.mkdtemp(prefix="mooncake_mpi-store-") if world.Get_rank() == 0 else None
        folder = world.bcast(folder)
        if world.Get_rank() == 0:
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return dist.FileStore(str(Path(str(folder)) / "store"), world.Get_size())
    if world.Get_rank() == 0:
        server = dist.TCPStore(
            _own_address(), 0, world.Get_size(), is_master=True, wait_for_workers=False, **limit
        )
        world.bcast((server.host, server.port))
        return server
    host, port = world.bcast(None)
    return dist.TCPStore(
        host, port, world.Get_size(), is_master=False, wait_for_workers=False, **limit
    )


def _own_address() -> str:
    """An address of this host that others may reach; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of no host
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())


def space_of(comm: Intracomm) -> _native.Communicator:
    """The engine's side of a communicator.

    Raises:
        DistBackendError: it was freed.
    """
    if comm._communicator is None:
        raise dist.DistBackendError("mooncake_mpi: the group's communicator was freed")
    return comm._communicator


def communicators(options: Any) -> tuple[Intracomm, Intracomm]:
    """A group's communicators: of its messages, and of its collectives; collective over it.

    Args:
        options: what torch tells a backend's creator.

    Raises:
        DistBackendError: the group's ranks are not those of the MPI job.
    """
    world = Intracomm(MPI.COMM_WORLD)
    ranks = list(options.global_ranks_in_group) or list(range(world.Get_size()))
    expected = ranks.index(world.Get_rank()) if world.Get_rank() in ranks else -1
    if options.group_size != len(ranks) or options.group_rank != expected:
        raise dist.DistBackendError(
            f"mooncake_mpi: torch says rank {options.group_rank} of {options.group_size}, and MPI "
            f"rank {world.Get_rank()} of {world.Get_size()}: start the job with mpirun, and leave "
            "rank and world_size out"
        )
    if len(ranks) == world.Get_size():
        messages = world.Dup()
    else:
        # Groups may be made in any order by processes that have several in common.
        tag = zlib.crc32(str(options.group_id).encode()) % 32768
        members = world.Get_group().Incl(ranks)
        messages = world.Create_group(members, tag)
        members.Free()
    MPI.Comm.Set_name(messages, f"torch group {options.group_id}"[:60])
    collectives = messages.Dup()
    for comm in (messages, collectives):
        MPI.Comm.Set_errhandler(comm, MPI.ERRORS_RETURN)
    return messages, collectives


def free(comms: tuple[Intracomm, Intracomm]) -> None:
    """Free a group's communicators, unless MPI has ended before them."""
    if MPI.Is_finalized():
        return
    for comm in reversed(comms):
        comm.Free()
