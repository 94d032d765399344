"""The implementations that a benchmark compares: ours, the MPI library's, and torch's backends.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mooncake_mpi.bench.memories import AllocMemory, CupyMemory, Memory, TorchMemory
from mooncake_mpi.bench.options import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py import MPI

    from mooncake_mpi.bench.options import BenchOptions

OURS = "mooncake_mpi"
MODULES = {
    **dict.fromkeys(("torch", "gloo", "nccl"), "torch"),
    **dict.fromkeys(("cupy", "cupy-nccl", "copy"), "cupy"),
}
TORCH_BACKENDS = ("gloo", "nccl")


@dataclass(frozen=True)
class Peer:
    """One implementation under test.

    ``comm`` has ``Send``, ``Recv``, ``Isend``, ``Irecv``, ``Get_rank`` and ``Get_size`` as in
    mpi4py, ``waitall`` takes a list of its requests, ``adapt`` makes of an array in ``memory``, or
    of a small NumPy array, what these calls take.
    """

    name: str
    comm: Any
    waitall: Callable[[list[Any]], Any]
    memory: Memory
    adapt: Callable[[Any], Any]
    carries: bool = True  # bytes from rank to rank, which can be checked


def library_name(version_text: str) -> str:
    """``"Open MPI 5.0.11"`` from what MPI_Get_library_version says, or its first words."""
    found = re.search(r"(Open MPI|MPICH|Intel\(R\) MPI|MVAPICH)\D*(\d+(?:\.\d+)+)", version_text)
    if found:
        return f"{found.group(1)} {found.group(2)}"
    return " ".join(version_text.split()[:3]) or "MPI"


def agree(world: MPI.Intracomm, problem: str | None) -> None:
    """Go on only if no rank has a problem: an option fails on all ranks or on none; collective.

    Raises:
        OptionError: with the lowest such rank's text.
    """
    problems = world.allgather(problem)
    for rank, text in enumerate(problems):
        if text is not None:
            raise OptionError(text if problems[0] == text else f"{text} (rank {rank})")


def missing_parts(options: BenchOptions) -> str | None:
    """Why this process cannot do what was asked for, in one line; ``None`` if it can."""
    for wanted, argument in (
        (options.memory, "--memory"),
        *((p, "--against") for p in options.against),
    ):
        module = MODULES.get(wanted)
        if module is not None and find_spec(module) is None:
            return f"argument {argument}: {wanted} needs {module}, which is not installed"
    on_gpu = options.memory == "cupy" or not options.device.startswith("cpu")
    if options.device != "cpu" and options.memory not in {"torch", "cupy"}:
        return f"argument --device: only torch's and CuPy's memory has one, not {options.memory}"
    if on_gpu and not gpu_count(options.memory):
        return f"argument --memory: {options.memory} finds no GPU here"
    for name in ("nccl", "cupy-nccl", "copy"):
        if name in options.against and not on_gpu:
            return f"argument --against: {name} carries GPU memory only: --device cuda"
    if "gloo" in options.against and on_gpu:
        return "argument --against: gloo is compared in host memory only"
    return None


def gpu_count(module: str) -> int:
    """The GPUs that ``"torch"`` or ``"cupy"`` can use."""
    if module == "torch":
        import torch

        return int(torch.cuda.device_count())
    import cupy

    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0


def use_device(options: BenchOptions, node_rank: int) -> str:
    """The device of this rank: ``"cuda"`` means one for each rank of the node, in turn."""
    if options.device == "cpu" and options.memory != "cupy":
        return options.device
    _, _, index = options.device.partition(":")
    device = int(index) if index else node_rank % gpu_count(options.memory)
    if options.memory == "cupy" or {"cupy-nccl", "copy"} & set(options.against):
        import cupy

        cupy.cuda.Device(device).use()
    if options.memory == "torch" or "nccl" in options.against:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(device)
    return f"cuda:{device}"


def same(array: Any) -> Any:
    """The array itself."""
    return array


def node_rank_of(world: MPI.Intracomm) -> int:
    """This process's rank among those of its node; collective."""
    from mpi4py import MPI

    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        return int(node.Get_rank())
    finally:
        node.Free()


@contextmanager
def open_peers(world: MPI.Intracomm, options: BenchOptions) -> Iterator[tuple[Peer, ...]]:
    """Ours first, then the others in the order of ``options.against``; collective.

    Raises:
        OptionError: something that was asked for is not there, or cannot carry such memory.
    """
    from mpi4py import MPI as library  # noqa: N811

    from mooncake_mpi import MPI as ours  # noqa: N811
    from mooncake_mpi.bench import gpu_peers, torch_peers

    agree(world, missing_parts(options))
    shared = Memory()
    if options.memory in {"torch", "cupy"}:
        device = use_device(options, node_rank_of(world))
        shared = CupyMemory() if options.memory == "cupy" else TorchMemory(device)
    is_alloc = options.memory == "alloc"

    peers = [
        Peer(
            OURS,
            # as a program has it whose MPI is the package's: with the engine's own requests
            ours.COMM_WORLD.Create_group(world.Get_group()),
            ours.Request.Waitall,
            AllocMemory(ours) if is_alloc else shared,
            same,
        )
    ]
    agree(world, refusal(peers[0]))
    opened = None
    for name in usable_peers(world, options):
        if name == "mpi":
            theirs = library_name(library.Get_library_version())
            memory = AllocMemory(library) if is_alloc else shared
            peers.append(Peer(theirs, world, library.Request.Waitall, memory, same))
        elif name in TORCH_BACKENDS:
            opened = torch_peers.open_backend(world, name)
            adapt = torch_peers.as_gpu_tensor if name == "nccl" else torch_peers.as_tensor
            peers.append(Peer(opened.name, opened, opened.waitall, shared, adapt))
        elif name == "cupy-nccl":
            nccl = gpu_peers.CupyNccl(world)
            peers.append(Peer(nccl.name, nccl, nccl.waitall, shared, gpu_peers.on_device))
        elif name == "copy":
            engine = gpu_peers.CopyEngine(world)
            peers.append(Peer(engine.name, engine, engine.waitall, shared, same, carries=False))
    try:
        yield tuple(peers)
    finally:
        if opened is not None:
            opened.close()


def usable_peers(world: MPI.Intracomm, options: BenchOptions) -> tuple[str, ...]:
    """The peers without those of NCCL that cannot work here, which is said; collective."""
    wanted = [name for name in options.against if name in {"nccl", "cupy-nccl"}]
    shares = bool(wanted) and world.Get_size() > gpu_count(options.memory)
    reasons: dict[str, str] = {}
    for name in wanted:
        if shares:
            reasons[name] = "ranks share a GPU, which NCCL refuses"
        elif not has_nccl(name):
            reasons[name] = f"{MODULES[name]} has no NCCL here"
    if world.Get_rank() == 0:
        for name, reason in reasons.items():
            print(f"without {name}: {reason}", flush=True)
    return tuple(name for name in options.against if name not in reasons)


def has_nccl(name: str) -> bool:
    """Whether torch, or CuPy, can load NCCL."""
    if name == "cupy-nccl":
        from mooncake_mpi.bench import gpu_peers

        return gpu_peers.cupy_nccl() is not None
    import torch

    return bool(torch.cuda.is_available() and torch.distributed.is_nccl_available())


def refusal(peer: Peer) -> str | None:
    """What the engine says against this kind of memory; ``None`` if it carries it."""
    out, into = peer.memory.new(8), peer.memory.new(8)
    rank = peer.comm.Get_rank()
    try:
        peer.comm.Sendrecv(out, rank, 0, into, rank, 0)
    except (BufferError, TypeError, ValueError) as error:
        return f"argument --memory: {peer.name} cannot send it: {error}"
    finally:
        peer.memory.free(out)
        peer.memory.free(into)
    return None
