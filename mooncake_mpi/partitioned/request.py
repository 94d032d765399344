"""Partitioned communication (MPI 4.1, chapter 4): one message, contributed and received in parts.

Called in the program's threads and in the completer's; the two ends have the locks.

``Psend_init`` tells the receiver how it cuts the message, on a channel of its own, where
``Precv_init`` matches it in the order of the calls by rank and tag. Every partition then travels as
a message that only these two requests know the tag of.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, Literal

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.buffers.bufferspec import parse
from mooncake_mpi.errhandlers import reported
from mooncake_mpi.errors import raise_error
from mooncake_mpi.partitioned.receives import PartitionedReceive
from mooncake_mpi.partitioned.sends import PartitionedSend
from mooncake_mpi.requests.composites import CompositeMethods
from mooncake_mpi.requests.request import Prequest
from mooncake_mpi.requests.states import wait_for
from mooncake_mpi.requests.statuses import fill_empty

if TYPE_CHECKING:
    from collections.abc import Sequence

_WAIT_SLICE_MS = 50
_IDLE_SLICE_MS = 1


def psend_init(
    communicator: _native.Communicator, buf: Any, partitions: int, dest: int, tag: int
) -> PartitionedRequest:
    """Create a request for a send in ``partitions`` equal parts; a count is that of one part.

    Raises:
        MPI.Exception: ``ERR_RANK``, ``ERR_TAG`` or ``ERR_ARG``; and what a buffer specification
            raises.
    """
    partitions, dest, tag = map(_native.to_int, (partitions, dest, tag))
    _check(communicator, partitions, tag)
    elements = None if dest == MPI.PROC_NULL else parse(buf, False, partitions)  # noqa: FBT003
    return PartitionedRequest(PartitionedSend(communicator, elements, partitions, dest, tag))


def precv_init(
    communicator: _native.Communicator, buf: Any, partitions: int, source: int, tag: int
) -> PartitionedRequest:
    """Create a request for a receive in ``partitions`` equal parts; a count is that of one part.

    Raises:
        MPI.Exception: as :func:`psend_init`, and ``ERR_RANK`` or ``ERR_TAG`` for a wildcard, which
            MPI does not allow here.
    """
    partitions, source, tag = map(_native.to_int, (partitions, source, tag))
    if source == MPI.ANY_SOURCE:
        raise_error("ERR_RANK", "invalid rank: a partitioned receive takes no ANY_SOURCE")
    if tag == MPI.ANY_TAG:
        raise_error("ERR_TAG", "invalid tag: a partitioned receive takes no ANY_TAG")
    _check(communicator, partitions, tag)
    elements = None if source == MPI.PROC_NULL else parse(buf, True, partitions)  # noqa: FBT003
    return PartitionedRequest(PartitionedReceive(communicator, elements, partitions, source, tag))


def _check(communicator: _native.Communicator, partitions: int, tag: int) -> None:
    if partitions < 0:
        raise_error("ERR_ARG", f"invalid argument: partitions={partitions} is negative")
    _native.isend_bytes(communicator, b"", MPI.PROC_NULL, tag)  # refuses a bad tag


class PartitionedRequest(CompositeMethods, Prequest):
    """A persistent request whose message is sent or received in partitions."""

    __slots__ = ("_driver",)
    __module__ = "mpi4py.MPI"  # programs look for it there
    __qualname__ = "Prequest"

    _driver: PartitionedSend | PartitionedReceive | None

    def __new__(cls, driver: PartitionedSend | PartitionedReceive) -> PartitionedRequest:
        """An inactive request."""
        del driver
        return _native.Request.__new__(cls)

    def __init__(self, driver: PartitionedSend | PartitionedReceive) -> None:
        self._driver = driver

    @property
    def _state(self) -> str:
        if self._driver is None:
            return "null"
        return "active" if self._driver.active else "inactive"

    def _poll(self) -> bool:
        return self._driver is None or not self._driver.active or self._driver._poll()

    def _end(self, status: MPI.Status | None) -> None:
        driver = self._driver
        if driver is not None and driver.active:
            driver._complete(status)
        elif status is not None:
            fill_empty(status)

    def _look(self, status: MPI.Status) -> None:
        if self._driver is not None and self._driver.active:
            self._driver._look(status)
        else:
            fill_empty(status)

    @reported
    def Start(self) -> None:
        """Begin a message.

        Raises:
            MPI.Exception: ``ERR_REQUEST``, it is under way already; ``ERR_COMM``, this process was
                forked.
        """
        driver = self._live_driver()
        if _native.left_behind():
            raise_error("ERR_COMM", _native.LEFT_BEHIND)
        driver.start()

    def _wait(self, status: MPI.Status | None = None) -> Literal[True]:
        """Wait until the message is complete; other threads may go on making partitions ready."""
        while not self._poll():
            wait_for([self], _WAIT_SLICE_MS if self._pending() else _IDLE_SLICE_MS)
        self._end(status)
        return True

    @reported
    def Free(self) -> None:
        """Let go of the request; a message under way completes by itself."""
        self._live_driver()
        super().Free()

    @reported
    def Pready(self, partition: int) -> None:
        """Mark a partition of a started send as ready to be sent.

        Raises:
            MPI.Exception: ``ERR_REQUEST``, not a started send; ``ERR_ARG``, no such partition, or
                one that was marked before.
        """
        self._send().ready([_native.to_int(partition)])

    @reported
    def Pready_range(self, partition_low: int, partition_high: int) -> None:
        """Mark the partitions from ``partition_low`` to ``partition_high``, both included."""
        low, high = _native.to_int(partition_low), _native.to_int(partition_high)
        if low > high:
            raise_error("ERR_ARG", f"partition_low={low} is above partition_high={high}")
        self._send().ready(range(low, high + 1))

    @reported
    def Pready_list(self, partitions: Sequence[int]) -> None:
        """Mark several partitions."""
        self._send().ready([index(partition) for partition in partitions])

    @reported
    def Parrived(self, partition: int) -> bool:
        """Whether a partition of a started receive is here.

        Raises:
            MPI.Exception: ``ERR_REQUEST``, not a receive; ``ERR_ARG``, no such partition.
        """
        driver = self._live_driver()
        if not isinstance(driver, PartitionedReceive):
            raise_error("ERR_REQUEST", "invalid request: it is not a partitioned receive")
        return driver.arrived(_native.to_int(partition))

    def _send(self) -> PartitionedSend:
        driver = self._live_driver()
        if not isinstance(driver, PartitionedSend):
            raise_error("ERR_REQUEST", "invalid request: it is not a partitioned send")
        return driver

    def _live_driver(self) -> PartitionedSend | PartitionedReceive:
        if self._driver is None:
            raise_error("ERR_REQUEST", "invalid request: it is null")
        return self._driver


PartitionedRequest.__name__ = "Prequest"
