"""torch.distributed's own backends behind mpi4py's names, so that the same loops measure them.

Called in the benchmark's one thread, without a lock.

What is timed is what a user of torch calls: ``dist.send``, ``recv``, ``isend``, ``irecv``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mooncake_mpi.bench.options import OptionError

if TYPE_CHECKING:
    from mpi4py import MPI


def as_tensor(array: Any) -> Any:
    """A tensor over the same memory: of a NumPy or a CuPy array; a tensor is itself."""
    torch: Any = import_module("torch")
    if isinstance(array, torch.Tensor):
        return array
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.from_dlpack(array)


def as_gpu_tensor(array: Any) -> Any:
    """The same for nccl, which takes no host memory: of a NumPy array a copy on the current GPU."""
    tensor = as_tensor(array)
    return tensor.cuda() if isinstance(array, np.ndarray) else tensor


def open_backend(world: MPI.Intracomm, name: str) -> TorchBackend:
    """Torch's default process group over ``world``, met through a file of rank 0; collective.

    Raises:
        OptionError: the job spans several nodes, which share no such file.
    """
    from mpi4py import MPI

    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        if not world.allreduce(node.Get_size() == world.Get_size(), MPI.LAND):
            raise OptionError(f"argument --against: {name} is compared on one node only")
    finally:
        node.Free()
    if world.Get_size() == 1:
        raise OptionError(
            f"argument --against: {name} sends nothing to itself: use 2 ranks or more"
        )
    # Otherwise gloo asks the resolver for the address of the host's name, which may not have one.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    folder = tempfile.mkdtemp(prefix="mooncake_mpi-bench-") if world.Get_rank() == 0 else None
    folder = world.bcast(folder)
    dist: Any = import_module("torch.distributed")
    store = dist.FileStore(str(Path(folder) / "store"), world.Get_size())
    dist.init_process_group(name, store=store, rank=world.Get_rank(), world_size=world.Get_size())
    kind = GroupedBackend if name == "nccl" else TorchBackend
    return kind(world, dist, folder)


class TorchBackend:
    """``torch.distributed``'s default group with mpi4py's names; tags as in MPI."""

    def __init__(self, world: MPI.Intracomm, dist: Any, folder: str) -> None:
        self._world = world
        self._dist = dist
        self.name = "torch gloo"
        self._folder = folder
        self._send, self._recv = dist.send, dist.recv
        self._isend, self._irecv = dist.isend, dist.irecv

    def Get_rank(self) -> int:
        """As in mpi4py."""
        return int(self._world.Get_rank())

    def Get_size(self) -> int:
        """As in mpi4py."""
        return int(self._world.Get_size())

    def Send(self, tensor: Any, dest: int, tag: int) -> None:
        """As in mpi4py."""
        self._send(tensor, dest, None, tag)

    def Recv(self, tensor: Any, source: int, tag: int) -> None:
        """As in mpi4py."""
        self._recv(tensor, source, None, tag)

    def Isend(self, tensor: Any, dest: int, tag: int) -> Any:
        """As in mpi4py."""
        return self._isend(tensor, dest, None, tag)

    def Irecv(self, tensor: Any, source: int, tag: int) -> Any:
        """As in mpi4py."""
        return self._irecv(tensor, source, None, tag)

    def waitall(self, works: list[Any]) -> None:
        """Return when all have completed."""
        for work in works:
            work.wait()

    def close(self) -> None:
        """Leave the process group, and remove the file through which the ranks met; collective."""
        self._world.Barrier()
        self._dist.destroy_process_group()
        self._world.Barrier()
        if self._world.Get_rank() == 0:
            shutil.rmtree(self._folder, ignore_errors=True)


class GroupedBackend(TorchBackend):
    """nccl: non-blocking operations start together, and the host waits for the stream.

    It has no tags. Operations of both directions that were started one by one on a stream would
    wait for each other for ever.
    """

    def __init__(self, world: MPI.Intracomm, dist: Any, folder: str) -> None:
        super().__init__(world, dist, folder)
        torch: Any = import_module("torch")
        self._synchronize = torch.cuda.current_stream().synchronize
        version = ".".join(map(str, torch.cuda.nccl.version()))
        self.name = f"torch nccl {version}"

    def Send(self, tensor: Any, dest: int, tag: int) -> None:  # noqa: ARG002
        """Return when the host knows that the message has left."""
        self._send(tensor, dest)
        self._synchronize()

    def Recv(self, tensor: Any, source: int, tag: int) -> None:  # noqa: ARG002
        """Return when the host knows that the message has arrived."""
        self._recv(tensor, source)
        self._synchronize()

    def Isend(self, tensor: Any, dest: int, tag: int) -> Any:  # noqa: ARG002
        """An operation that ``waitall`` starts."""
        return self._dist.P2POp(self._isend, tensor, dest)

    def Irecv(self, tensor: Any, source: int, tag: int) -> Any:  # noqa: ARG002
        """An operation that ``waitall`` starts."""
        return self._dist.P2POp(self._irecv, tensor, source)

    def waitall(self, works: list[Any]) -> None:
        """Start all as one group, and return when the host knows that they have completed."""
        for work in self._dist.batch_isend_irecv(works):
            work.wait()
        self._synchronize()
