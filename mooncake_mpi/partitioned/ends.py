"""What the two ends of a partitioned message have in common: a buffer, cut into equal partitions.

Called in the program's threads and in the completer's; several may use one end at once, under its
lock.
"""

from __future__ import annotations

from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, cast

from mooncake_mpi import _native
from mooncake_mpi.buffers.bufferspec import Elements, Placed, place
from mooncake_mpi.buffers.packing import PackedBuffer
from mooncake_mpi.constants import PARTITION_DATA
from mooncake_mpi.errors import raise_error
from mooncake_mpi.requests.composites import Driver, complete_unwatched

if TYPE_CHECKING:
    from mooncake_mpi.requests.request import Request


_NOTHING = Placed(0, 0, None, None)


class End:
    """One end of a partitioned message: its buffer, cut into equal partitions.

    Attributes:
        active: whether a message is under way.
    """

    def __init__(
        self,
        communicator: _native.Communicator,
        elements: Elements | None,
        partitions: int,
        tag: int,
        writable: bool,
    ) -> None:
        self._communicator = communicator
        self._partitions = partitions
        self._tag = tag
        self._count = 0
        placed = _NOTHING
        if elements is not None:
            self._count = elements.count
            placed = place(replace(elements, count=elements.count * partitions), writable)
        if placed.stream is not None:
            raise_error(
                "ERR_BUFFER",
                "message: the buffer is in a GPU's memory, which partitioned messages do not take: "
                "pass an array of the host",
            )
        self._address, self._nbytes, self._keepalive = placed[:3]
        self._packed = self._keepalive if isinstance(self._keepalive, PackedBuffer) else None
        self._parts: list[Request | None] = []
        self.active = False
        self._ever_started = False
        # Several threads may contribute partitions, and ask for them, at once.
        self._lock = RLock()

    @property
    def partition_nbytes(self) -> int:
        """Length of one partition."""
        return self._nbytes // self._partitions if self._partitions else 0

    def start(self) -> None:
        """Begin a message.

        Raises:
            MPI.Exception: ``ERR_REQUEST``, one is under way.
        """
        if self.active:
            raise_error("ERR_REQUEST", "invalid request: it was started and is not complete")
        self.active = self._ever_started = True

    def _leave(self) -> None:
        """The request is freed: a message under way is completed, one never begun is withdrawn."""
        with self._lock:
            if self.active:
                complete_unwatched(cast("Driver", self))
            elif not self._ever_started:
                self._withdraw()

    def _withdraw(self) -> None:
        """Nothing of an end that never was started stays in the partner's way."""
        raise NotImplementedError

    def _expect_word(self, rank: int, tag: int) -> Request:
        """Receive a message of the other end that has no bytes."""
        return _native.post_recv(self._communicator, 0, 0, None, rank, tag, PARTITION_DATA)

    def _send_word(self, rank: int, tag: int, mode: _native.SendMode) -> None:
        _native.isend_bytes(self._communicator, b"", rank, tag, mode, PARTITION_DATA)

    def _elements_of(self, partition: int) -> tuple[int, int]:
        """The first of a partition's elements in the buffer, and the one behind the last."""
        first = partition * self._count
        return first, first + self._count

    def _check(self, partition: int) -> None:
        if not 0 <= partition < self._partitions:
            raise_error(
                "ERR_ARG", f"invalid partition: {partition} is not in [0, {self._partitions})"
            )

    def _is_done(self, part: int) -> bool:
        """Whether the message of a part is done; an unstarted one is."""
        request = self._parts[part]
        if request is None:
            return True
        if not request._test():
            return False
        self._parts[part] = None
        return True

    def _pending(self) -> list[Request]:
        """The messages under way; none while a partition has yet to be made ready."""
        with self._lock:
            return [part for part in self._parts if part is not None]

    def _cancel(self) -> None:
        """Nothing: partitioned messages are not cancelled (MPI 4.1, section 4.2)."""
