"""Communicators by the number of their context, for what names no object: errors and messages.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpi4py import MPI

if TYPE_CHECKING:
    from mooncake_mpi import _native

# Those that are not freed yet, with the MPI library's handles.
_communicators: dict[int, tuple[_native.Communicator, int]] = {}


def know(communicator: _native.Communicator, comm: MPI.Comm) -> None:
    """``communicator`` is the engine's side of ``comm``."""
    _communicators[communicator.number] = communicator, comm.handle


def forget(communicator: _native.Communicator) -> None:
    """``communicator`` is being freed."""
    _communicators.pop(communicator.number, None)


def find(number: int) -> _native.Communicator | None:
    """The communicator of that context; ``None`` if it was freed."""
    known = _communicators.get(number)
    return known[0] if known is not None else None


def in_library(number: int) -> MPI.Comm | None:
    """The library's communicator of that context; ``None`` if it was freed."""
    known = _communicators.get(number)
    return MPI.Comm.fromhandle(known[1]) if known is not None else None
