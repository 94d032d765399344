"""Communicators by the number of their context, for what a message of an object names.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mooncake_mpi import _native

# Those that are not freed yet.
_communicators: dict[int, _native.Communicator] = {}


def know(communicator: _native.Communicator) -> None:
    """Messages may name ``communicator`` from now on."""
    _communicators[communicator.number] = communicator


def forget(communicator: _native.Communicator) -> None:
    """``communicator`` is being freed."""
    _communicators.pop(communicator.number, None)


def find(number: int) -> _native.Communicator | None:
    """The communicator of that context; ``None`` if it was freed."""
    return _communicators.get(number)
