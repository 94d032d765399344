"""Partitioned communication (MPI 4.1, chapter 4): one message, contributed and received in parts.

``Psend_init`` tells the receiver how it cuts the message, on a channel of its own, where
``Precv_init`` matches it in the order of the calls by rank and tag. Every partition then travels as
a message that only these two requests know the tag of.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.bufferspec import parse
from mooncake_mpi.errors import raise_error
from mooncake_mpi.partitions import PartitionedReceive, PartitionedSend
from mooncake_mpi.requests import CompositePrequest

if TYPE_CHECKING:
    from collections.abc import Sequence


class PartitionedRequest(CompositePrequest):
    """A persistent request whose message is sent or received in partitions."""

    __slots__ = ()

    _operation: PartitionedSend | PartitionedReceive

    def Pready(self, partition: int) -> None:
        """Mark a partition of a started send as ready to be sent.

        Raises:
            MPI.Exception: ``ERR_REQUEST``, not a started send; ``ERR_ARG``, no such partition, or
                one that was marked before.
        """
        self._send().ready([index(partition)])

    def Pready_range(self, partition_low: int, partition_high: int) -> None:
        """Mark the partitions from ``partition_low`` to ``partition_high``, both included."""
        low, high = index(partition_low), index(partition_high)
        if low > high:
            raise_error("ERR_ARG", f"partition_low={low} is above partition_high={high}")
        self._send().ready(range(low, high + 1))

    def Pready_list(self, partitions: Sequence[int]) -> None:
        """Mark several partitions."""
        self._send().ready([index(partition) for partition in partitions])

    def Parrived(self, partition: int) -> bool:
        """Whether a partition of a started receive is here.

        Raises:
            MPI.Exception: ``ERR_REQUEST``, not a receive; ``ERR_ARG``, no such partition.
        """
        operation = self._operation if self else None
        if not isinstance(operation, PartitionedReceive):
            raise_error("ERR_REQUEST", "invalid request: it is not a partitioned receive")
        return operation.arrived(index(partition))

    def _send(self) -> PartitionedSend:
        operation = self._operation if self else None
        if not isinstance(operation, PartitionedSend):
            raise_error("ERR_REQUEST", "invalid request: it is not a partitioned send")
        return operation


class PartitionedMethods:
    """The methods of a communicator that make partitioned requests, with mpi4py's signatures."""

    __slots__ = ()

    if TYPE_CHECKING:
        _communicator: _native.Communicator

    def Psend_init(
        self,
        buf: Any,
        partitions: int,
        dest: int,
        tag: int = 0,
        info: MPI.Info = MPI.INFO_NULL,
    ) -> PartitionedRequest:
        """Create a request for a send in ``partitions`` equal parts; a count is that of one."""
        del info
        communicator = self._communicator
        _check_partitions(partitions)
        _native.isend_bytes(communicator, b"", MPI.PROC_NULL, tag)  # checks the tag
        elements = None if dest == MPI.PROC_NULL else parse(buf, False, partitions)  # noqa: FBT003
        return PartitionedRequest(PartitionedSend(communicator, elements, partitions, dest, tag))

    def Precv_init(
        self,
        buf: Any,
        partitions: int,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        info: MPI.Info = MPI.INFO_NULL,
    ) -> PartitionedRequest:
        """Create a request for a receive in ``partitions`` equal parts.

        Raises:
            MPI.Exception: ``ERR_RANK`` or ``ERR_TAG`` for a wildcard, which MPI does not allow.
        """
        del info
        communicator = self._communicator
        _check_partitions(partitions)
        if source == MPI.ANY_SOURCE:
            raise_error("ERR_RANK", "invalid rank: a partitioned receive takes no ANY_SOURCE")
        if tag == MPI.ANY_TAG:
            raise_error("ERR_TAG", "invalid tag: a partitioned receive takes no ANY_TAG")
        _native.isend_bytes(communicator, b"", MPI.PROC_NULL, tag)  # checks the tag
        elements = None if source == MPI.PROC_NULL else parse(buf, True, partitions)  # noqa: FBT003
        return PartitionedRequest(
            PartitionedReceive(communicator, elements, partitions, source, tag)
        )


def _check_partitions(partitions: int) -> None:
    if index(partitions) < 0:
        raise_error("ERR_ARG", f"invalid argument: partitions={partitions} is negative")
