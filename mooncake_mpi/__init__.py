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
    from mooncake_mpi.communicators.intracomm import Intracomm
    from mooncake_mpi.errors import Error
    from mooncake_mpi.memory import shared_arrays
    from mooncake_mpi.memory.numpy_memory import numpy_allocator
    from mooncake_mpi.memory.shared_arrays import empty, empty_like, zeros
    from mooncake_mpi.traffic import DetourWarning, transfers

__all__ = [
    "MPI",
    "DetourWarning",
    "Error",
    "Intracomm",
    "__version__",
    "config",
    "empty",
    "empty_like",
    "numpy_allocator",
    "shared_arrays",
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
    "transfers": ("traffic", True),
    "numpy_allocator": ("memory.numpy_memory", True),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("mooncake_mpi")
        except PackageNotFoundError:  # a source tree on sys.path
            return "unknown"
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in {"Intracomm", "Error"}:
        import_module("mpi4py.MPI")  # which under `run` is the mirror, that imports them
    path, is_inside = _MODULES[name]
    module = import_module(f"{__name__}.{path}")
    return getattr(module, name) if is_inside else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
