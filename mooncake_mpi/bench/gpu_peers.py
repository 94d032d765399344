"""What messages of GPU arrays are compared with: NCCL as CuPy binds it, and the bare copy engine.

Called in the benchmark's one thread, without a lock. Both have mpi4py's names, so that the same
loops measure them, and the host waits in every call until the GPU is done, as it does in ours.
"""

from __future__ import annotations

from contextlib import suppress
from ctypes import CDLL, RTLD_GLOBAL
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mooncake_mpi.bench.options import OptionError

if TYPE_CHECKING:
    from mpi4py import MPI


def place_of(array: Any) -> tuple[int, int]:
    """Address and bytes of an array of CuPy's or torch's."""
    if hasattr(array, "data_ptr"):
        return int(array.data_ptr()), int(array.numel() * array.element_size())
    return int(array.data.ptr), int(array.nbytes)


def on_device(array: Any) -> Any:
    """A copy in the GPU's memory of a NumPy array; any other is itself."""
    return import_module("cupy").asarray(array) if isinstance(array, np.ndarray) else array


def cupy_nccl() -> Any | None:
    """CuPy's module for NCCL; ``None`` where it finds no library, not even NVIDIA's wheel."""
    with suppress(ImportError):
        spec = find_spec("nvidia.nccl")
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            with suppress(OSError):
                CDLL(str(Path(folder) / "lib" / "libnccl.so.2"), mode=RTLD_GLOBAL)
    try:
        nccl: Any = import_module("cupy.cuda.nccl")
    except ImportError:
        return None
    return nccl if nccl.available else None


class OnStream:
    """A stream of its own, and what both have of mpi4py's names."""

    def __init__(self, world: MPI.Intracomm) -> None:
        self._world = world
        self._cuda: Any = import_module("cupy").cuda
        self._stream = self._cuda.Stream(non_blocking=True)

    def Get_rank(self) -> int:
        """As in mpi4py."""
        return int(self._world.Get_rank())

    def Get_size(self) -> int:
        """As in mpi4py."""
        return int(self._world.Get_size())


class CupyNccl(OnStream):
    """NCCL's send and recv; non-blocking operations start together, as one group."""

    def __init__(self, world: MPI.Intracomm) -> None:
        super().__init__(world)
        nccl = cupy_nccl()
        if nccl is None:
            raise OptionError("argument --against: cupy-nccl: CuPy finds no NCCL")
        self._nccl = nccl
        mark = world.bcast(nccl.get_unique_id() if world.Get_rank() == 0 else None)
        self._comm = nccl.NcclCommunicator(world.Get_size(), mark, world.Get_rank())
        version = int(nccl.get_version())
        self.name = f"nccl {version // 10000}.{version // 100 % 100}.{version % 100} (cupy)"

    def _start(self, operation: Any, array: Any, peer: int) -> None:
        address, size = place_of(array)
        if size:
            operation(address, size, self._nccl.NCCL_UINT8, peer, self._stream.ptr)

    def Send(self, array: Any, dest: int, tag: int) -> None:  # noqa: ARG002
        """Return when the host knows that the message has left."""
        self._start(self._comm.send, array, dest)
        self._stream.synchronize()

    def Recv(self, array: Any, source: int, tag: int) -> None:  # noqa: ARG002
        """Return when the host knows that the message has arrived."""
        self._start(self._comm.recv, array, source)
        self._stream.synchronize()

    def Send_enqueue(self, array: Any, dest: int, tag: int, *, stream: int) -> None:  # noqa: ARG002
        """In the order of a stream; return at once."""
        address, size = place_of(array)
        self._comm.send(address, size, self._nccl.NCCL_UINT8, dest, stream)

    def Recv_enqueue(self, array: Any, source: int, tag: int, *, stream: int) -> None:  # noqa: ARG002
        """In the order of a stream; return at once."""
        address, size = place_of(array)
        self._comm.recv(address, size, self._nccl.NCCL_UINT8, source, stream)

    def Isend(self, array: Any, dest: int, tag: int) -> Any:  # noqa: ARG002
        """An operation that ``waitall`` starts."""
        return self._comm.send, array, dest

    def Irecv(self, array: Any, source: int, tag: int) -> Any:  # noqa: ARG002
        """An operation that ``waitall`` starts."""
        return self._comm.recv, array, source

    def waitall(self, operations: list[Any]) -> None:
        """Start all as one group, and return when the host knows that they have completed."""
        self._nccl.groupStart()
        try:
            for operation in operations:
                self._start(*operation)
        finally:
            self._nccl.groupEnd()
        self._stream.synchronize()


class CopyEngine(OnStream):
    """No messages: the copies alone that they need, each to the partner's GPU by the sender.

    In a ping-pong the lower half of the ranks makes the copies of both directions.
    """

    name = "copy engine"

    def __init__(self, world: MPI.Intracomm) -> None:
        super().__init__(world)
        self._device = int(self._cuda.Device().id)
        half = world.Get_size() // 2
        rank = world.Get_rank()
        devices = world.allgather(self._device)
        self._partner_device = devices[(rank + half) % world.Get_size()]
        self._copies_back = rank < half
        self._targets: dict[int, Any] = {}
        if self._partner_device != self._device:
            self._reach()

    def _reach(self) -> None:
        """Have each GPU map the other's memory: without it a copy goes through the host's."""
        runtime = self._cuda.runtime
        for mine, other in (
            (self._partner_device, self._device),
            (self._device, self._partner_device),
        ):
            with self._cuda.Device(mine):
                try:
                    runtime.deviceEnablePeerAccess(other)
                except runtime.CUDARuntimeError as error:
                    if "AlreadyEnabled" not in str(error):
                        raise OptionError(f"argument --against: copy: {error}") from None

    def _copy(self, array: Any) -> None:
        if isinstance(array, np.ndarray):
            return
        address, size = place_of(array)
        if size not in self._targets:
            with self._cuda.Device(self._partner_device):
                made = import_module("cupy").empty(max(size, 1), np.uint8)
                self._cuda.get_current_stream().synchronize()
            self._targets[size] = made
        self._cuda.runtime.memcpyPeerAsync(
            int(self._targets[size].data.ptr),
            self._partner_device,
            address,
            self._device,
            size,
            self._stream.ptr,
        )

    def forget(self) -> None:
        """Give back what was copied to."""
        self._targets.clear()

    def Send(self, array: Any, dest: int, tag: int) -> None:  # noqa: ARG002
        """One copy, of those that this rank makes."""
        if self._copies_back:
            self._copy(array)
            self._stream.synchronize()

    def Recv(self, array: Any, source: int, tag: int) -> None:
        """As the copy of the other direction takes."""
        self.Send(array, source, tag)

    def Isend(self, array: Any, dest: int, tag: int) -> Any:  # noqa: ARG002
        """A copy that starts at once."""
        self._copy(array)

    def Irecv(self, array: Any, source: int, tag: int) -> Any:
        """Nothing: the other side copies."""

    def waitall(self, operations: list[Any]) -> None:  # noqa: ARG002
        """Return when the host knows that all copies are done."""
        self._stream.synchronize()
