"""How the processes of a job meet: torch's own ways, and MPI's where those are not asked for.

Called in the thread that makes the default group, no lock of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py import MPI

#: What torch's own way of meeting needs.
_TORCH_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
SCHEME = "mooncake-mpi"

# In the stores that are made here.
_MARK = "mooncake_mpi/met through MPI"


def register() -> None:
    """Let ``init_process_group`` meet through MPI where its own variables are not set."""
    dist.register_rendezvous_handler(SCHEME, _meet)
    # The name is torch's own; where it is gone, init_method="mooncake-mpi://" is left.
    handlers = getattr(sys.modules.get("torch.distributed.rendezvous"), "_rendezvous_handlers", {})
    theirs = handlers.get("env")
    if theirs is not None:
        handlers["env"] = _meet_unless_told(theirs)


def met_through_mpi(store: Any) -> bool:
    """Whether a group's store was made here: its ranks are those of the MPI job."""
    while isinstance(store, dist.PrefixStore):
        store = store.underlying_store
    return bool(store.check([_MARK]))


def _meet_unless_told(theirs: Callable[..., Any]) -> Callable[..., Any]:
    def meet(url: str, **options: Any) -> Iterator[Any]:
        told = "MASTER_ADDR" in os.environ and (
            "rank=" in url or all(name in os.environ for name in _TORCH_VARIABLES)
        )
        return theirs(url, **options) if told else _meet(url, **options)

    return meet


def _meet(url: str, timeout: Any = None, **_: Any) -> Iterator[Any]:
    """Yield a store, the rank and the number of ranks."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # no mpi4py, or no library for it
        raise ValueError(
            f"mooncake_mpi: {url} meets through MPI, which cannot be loaded ({error}); torchrun, "
            f"{', '.join(_TORCH_VARIABLES)}, or another init_method need none"
        ) from error
    world = MPI.COMM_WORLD
    store = _store(world, timeout)
    store.set(_MARK, "")
    yield store, world.Get_rank(), world.Get_size()
    raise RuntimeError("mooncake_mpi: a job under MPI cannot meet again")


def _store(world: MPI.Intracomm, timeout: Any) -> Any:
    """A store of the job's: files of this user on one node, otherwise rank 0 serves it."""
    from mpi4py import MPI

    if world.Get_size() == 1:
        return dist.HashStore()
    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    on_one_node = world.allreduce(node.Get_size() == world.Get_size(), MPI.LAND)
    node.Free()
    limit = {} if timeout is None else {"timeout": timeout}
    if on_one_node and (store := _file_store(world)) is not None:
        return store
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


def _file_store(world: MPI.Intracomm) -> Any | None:
    """A file of this user, which has no name any more; ``None`` where not everybody can open it.

    torch opens it again for each call, also for the last ones, when the processes end one after the
    other: nobody could remove it by its name without disturbing those who end later.
    """
    from mpi4py import MPI

    folder = tempfile.mkdtemp(prefix="mooncake_mpi-store-") if world.Get_rank() == 0 else None
    folder = str(world.bcast(folder))
    path = ""
    with suppress(OSError):  # a container's own temporary folder
        # open for as long as the process lives
        path = f"/proc/self/fd/{os.open(Path(folder) / 'store', os.O_RDWR | os.O_CREAT, 0o600)}"
    is_open = world.allreduce(os.access(path, os.R_OK | os.W_OK), MPI.LAND)
    if world.Get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
    return dist.FileStore(path, world.Get_size()) if is_open else None


def _own_address() -> str:
    """An address of this host that others may reach; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address of no host
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())
