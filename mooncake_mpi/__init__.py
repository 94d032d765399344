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
    from mooncake_mpi.errors import Error
    from mooncake_mpi.intracomm import Intracomm
    from mooncake_mpi.numpy_memory import numpy_allocator
    from mooncake_mpi.shared_arrays import empty, empty_like, zeros

__all__ = [
    "MPI",
    "Error",
    "Intracomm",
    "__version__",
    "config",
    "empty",
    "empty_like",
    "numpy_allocator",
    "zeros",
]

_MODULES = {
    "MPI": None,
    "config": None,
    "Intracomm": "intracomm",
    "Error": "errors",
    "empty": "shared_arrays",
    "empty_like": "shared_arrays",
    "zeros": "shared_arrays",
    "numpy_allocator": "numpy_memory",
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
    module = _MODULES[name]
    if module is None:
        return import_module(f"{__name__}.{name}")
    if module in {"intracomm", "errors"}:
        import_module("mpi4py.MPI")  # which under `run` is the mirror, that imports them
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
