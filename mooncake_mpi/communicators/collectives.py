"""Collectives of the MPI library, kept away from memory that it cannot reach.

Called in the program's threads, no lock of its own. They are the library's: one that was not built
for CUDA loads from a GPU's address as if it were the host's, and the program is gone.
"""

from __future__ import annotations

import ctypes
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from mpi4py import MPI

from mooncake_mpi import config
from mooncake_mpi.buffers.exporters import PLAIN_TYPES, export, is_array

if TYPE_CHECKING:
    from collections.abc import Callable

_Class = TypeVar("_Class", bound=type)

_NAMES = (
    "Allgather",
    "Allgatherv",
    "Allreduce",
    "Alltoall",
    "Alltoallv",
    "Alltoallw",
    "Bcast",
    "Exscan",
    "Gather",
    "Gatherv",
    "Neighbor_allgather",
    "Neighbor_allgatherv",
    "Neighbor_alltoall",
    "Neighbor_alltoallv",
    "Neighbor_alltoallw",
    "Reduce",
    "Reduce_scatter",
    "Reduce_scatter_block",
    "Scan",
    "Scatter",
    "Scatterv",
)
_METHODS = [
    form for name in _NAMES for form in (name, "I" + name[0].lower() + name[1:], name + "_init")
]

#: Arguments of collectives that lie in the host's memory, or are no buffers, whatever they hold.
_HARMLESS: set[type] = {
    type(None),
    int,
    str,
    type(MPI.IN_PLACE),
    type(MPI.BOTTOM),
    MPI.Op,
    MPI.Info,
    MPI.buffer,
}


def for_host_memory(kind: _Class) -> _Class:
    """Let the collectives that a class has of mpi4py's raise where the library would crash."""
    for name in _METHODS:
        try:
            method = type.__getattribute__(kind, name)  # not as a program that calls it is given it
        except AttributeError:
            continue
        if not hasattr(method, "__wrapped__"):  # by a base class
            setattr(kind, name, _guarded(method, name))
    return kind


def _guarded(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(method)
    def call(self: MPI.Comm, *args: Any, **kwargs: Any) -> Any:
        for argument in (*args, *kwargs.values()) if kwargs else args:
            kind = type(argument)
            if kind is list or kind is tuple:  # a buffer specification
                kind = type(argument[0]) if argument else int
            if kind not in PLAIN_TYPES and kind not in _HARMLESS:
                _check(argument, name)
        return method(self, *args, **kwargs)

    return call


def _check(argument: Any, name: str) -> None:
    """Raise if an argument of a collective is in a GPU's memory, which the library cannot reach."""
    array = argument[0] if isinstance(argument, (list, tuple)) and argument else argument
    if not is_array(array):
        return
    try:
        memory = export(array, writable=False, with_format=False)
    except Exception:  # noqa: BLE001 - in mpi4py's own words
        return
    on_device = memory.stream is not None and memory.nbytes != 0
    if on_device and not is_cuda_aware():
        raise RuntimeError(
            f"{name}: an array is in a GPU's memory, and the MPI library, whose collectives these "
            "are, is not CUDA-aware: copy to the host first (cupy.asnumpy(array), tensor.cpu())"
        )


@cache
def is_cuda_aware() -> bool:
    """Whether the MPI library takes addresses of GPUs, by the setting or as it says itself."""
    said = config.load().cuda_aware
    if said is not None:
        return said
    # mpi4py's module leads to the library that it is linked with.
    ask = getattr(ctypes.CDLL(MPI.__file__), "MPIX_Query_cuda_support", None)
    return ask is not None and bool(ask())
