"""The driver of ``Idup``, a request of several parts.

Called in the program's threads and in the completer's, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mooncake_mpi.communicators import derived
from mooncake_mpi.requests.statuses import fill_empty

if TYPE_CHECKING:
    from collections.abc import Sequence


if TYPE_CHECKING:
    from mooncake_mpi.communicators.intracomm import Intracomm


class Duplication:
    """The driver of ``Idup``: the duplication, and the exchange of addresses beside it."""

    __slots__ = ("_comm", "_duplicate", "_entries", "_requests")

    def __init__(self, parent: Intracomm, comm: Any, request: MPI.Request) -> None:
        self._comm = comm
        self._duplicate = derived.Duplicate(parent._checked_communicator())
        entry = self._duplicate.entry
        self._entries = bytearray(len(entry) * parent.Get_size())
        # On the parent, whose group is the same: the duplicate cannot be used yet.
        exchange = MPI.Intracomm.Iallgather(parent, [entry, MPI.BYTE], [self._entries, MPI.BYTE])
        self._requests = [request, exchange]

    def _poll(self) -> bool:
        self._requests = [request for request in self._requests if not request.Test()]
        return not self._requests

    def _pending(self) -> Sequence[MPI.Request]:
        return self._requests

    def _complete(self, status: MPI.Status | None) -> None:
        if status is not None:
            fill_empty(status)
        self._comm._communicator = self._duplicate.join(self._comm, self._entries)

    def _look(self, status: MPI.Status) -> None:
        fill_empty(status)

    def _leave(self) -> None:
        _left.append(self)  # what the MPI library writes to

    def _cancel(self) -> None:
        """Nothing: a collective operation is not cancelled."""


_left: list[Duplication] = []
