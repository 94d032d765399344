"""Point-to-point messages with MPI's matching rules and RDMA's speed, from Python.

Three ways in::

    from mooncake_mpi import MPI                          # instead of: from mpi4py import MPI
    comm = mooncake_mpi.Intracomm(MPI.COMM_WORLD)         # one communicator
    mpirun -n 2 python -m mooncake_mpi run script.py      # an unmodified mpi4py program

Importing the package starts nothing: MPI is initialised when ``MPI`` or ``Intracomm`` is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mooncake_mpi import MPI, config
    from mooncake_mpi.buffers.gpu_latency import gpu_latency
    from mooncake_mpi.communicators.intracomm import Intracomm
    from mooncake_mpi.errors import Error
    from mooncake_mpi.memory import shared_arrays
    from mooncake_mpi.memory.gpu_pool import gpu_pool
    from mooncake_mpi.memory.numpy_memory import numpy_allocator
    from mooncake_mpi.memory.shared_arrays import empty, empty_like, zeros
    from mooncake_mpi.traffic import DetourWarning, lane_of, stats, transfers

__all__ = [
    "MPI",
    "DetourWarning",
    "Error",
    "Intracomm",
    "__version__",
    "config",
    "empty",
    "empty_like",
    "gpu_latency",
    "gpu_pool",
    "lane_of",
    "numpy_allocator",
    "shared_arrays",
    "stats",
    "transfers",
    "zeros",
]

# Name -> its module, and whether it is in it: otherwise it is the module.
_MODULES = {
    "MPI": ("MPI", False),
    "config": ("config", False),
    "shared_arrays": ("memory.shared_arrays", False),
    "Intracomm": ("communicators.intracomm", True),
    "Error": ("errors", True),
    "empty": ("memory.shared_arrays", True),
    "empty_like": ("memory.shared_arrays", True),
    "zeros": ("memory.shared_arrays", True),
    "DetourWarning": ("traffic", True),
    "gpu_latency": ("buffers.gpu_latency", True),
    "lane_of": ("traffic", True),
    "stats": ("traffic", True),
    "transfers": ("traffic", True),
    "numpy_allocator": ("memory.numpy_memory", True),
    "gpu_pool": ("memory.gpu_pool", True),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("mooncake_mpi")
        except PackageNotFoundError:  # a source tree on sys.path
            return "unknown"
    if name == "_native":
        try:
            return import_module(f"{__name__}._native")
        except ModuleNotFoundError:
            raise ImportError(_not_built()) from None
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in {"Intracomm", "Error"}:
        import_module("mpi4py.MPI")  # which under `run` is the mirror, that imports them
    path, is_inside = _MODULES[name]
    module = import_module(f"{__name__}.{path}")
    return getattr(module, name) if is_inside else module


def _not_built() -> str:
    """Why there is no native module, and what to do."""
    folder = __path__[0]
    top = folder.rpartition("/")[0]
    if folder.endswith("/mooncake_mpi") and _is_source_tree(top):
        return (
            f"{folder} is the source of mooncake_mpi, without the native module, and hides the "
            f"package that is installed: start from another folder than {top}, or install it "
            "there so that both are one (pip install --no-build-isolation -e .)"
        )
    return f"the native module of mooncake_mpi is missing in {folder}: install the package again"


def _is_source_tree(folder: str) -> bool:
    from os.path import isdir, isfile

    return isfile(f"{folder}/pyproject.toml") and isdir(f"{folder}/native")  # noqa: PTH112, PTH113


def __dir__() -> list[str]:
    return sorted(__all__)
