"""The sending end of a partitioned message, driven by :mod:`mooncake_mpi.partitioned.request`.

Called in the program's threads and in the completer's; several may contribute partitions at once,
under the end's lock. A sender that waited for the receiver to learn how the message is cut, while
the receiver waits in another call, would wait for ever. So until the receiver has replied that it
knows, the engine keeps a copy of the partitions (buffered mode); from then on they are sent from
where they lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.constants import BUFFERED, PARTITION_DATA, PARTITION_SETUP, STANDARD
from mooncake_mpi.errors import raise_error
from mooncake_mpi.partitioned.ends import End
from mooncake_mpi.partitioned.introductions import SETUP, Setup
from mooncake_mpi.requests.statuses import fill_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mooncake_mpi.buffers.bufferspec import Elements
    from mooncake_mpi.requests.request import Request


class PartitionedSend(End):
    """The sending end.

    Args:
        communicator: native side of the communicator.
        elements: one partition's elements, the first of the buffer; ``None`` with ``PROC_NULL``.
        partitions: number of partitions.
        dest: rank of the receiver.
        tag: matches the receive.
    """

    def __init__(
        self,
        communicator: _native.Communicator,
        elements: Elements | None,
        partitions: int,
        dest: int,
        tag: int,
    ) -> None:
        super().__init__(communicator, elements, partitions, tag, writable=False)
        self._dest = dest
        self._setup = setup = Setup.of(partitions, self._nbytes)
        self._announcement = _native.isend_bytes(
            communicator, SETUP.pack(*setup), dest, tag, STANDARD, PARTITION_SETUP
        )
        self._reply = self._expect_word(dest, setup.reply_tag)
        self._ready: set[int] = set()

    def _withdraw(self) -> None:
        self._reply.Cancel()
        self._send_word(self._dest, self._setup.withdrawal_tag, BUFFERED)

    def start(self) -> None:
        """Begin a message; no partition is ready."""
        super().start()
        self._ready.clear()
        self._parts = [None] * self._partitions

    def ready(self, partitions: Iterable[int]) -> None:
        """Send partitions.

        Raises:
            MPI.Exception: ``ERR_REQUEST``, not started; ``ERR_ARG``, no such partition or one that
                is ready already.
        """
        with self._lock:
            if not self.active:
                raise_error("ERR_REQUEST", "invalid request: it was not started")
            for partition in partitions:
                self._check(partition)
                if partition in self._ready:
                    raise_error("ERR_ARG", f"invalid partition: {partition} is ready already")
                self._parts[partition] = self._post(partition)
                self._ready.add(partition)

    def _post(self, partition: int) -> Request:
        if self._packed is not None:
            self._packed.pack_range(*self._elements_of(partition))
        nbytes = self.partition_nbytes
        return _native.post_send(
            self._communicator,
            self._address + partition * nbytes,
            nbytes,
            self._keepalive,
            self._dest,
            self._setup.part_tag(partition),
            STANDARD if self._reply._test() else BUFFERED,
            PARTITION_DATA,
        )

    def _poll(self) -> bool:
        """Whether every partition was made ready and is sent."""
        with self._lock:
            done = [self._is_done(part) for part in range(len(self._parts))]
            everything = self._dest == MPI.PROC_NULL or len(self._ready) == self._partitions
            return everything and all(done)

    def _complete(self, status: MPI.Status | None) -> None:
        """End the message; the request may be started again."""
        self.active = False
        if status is not None:
            self._look(status)

    def _look(self, status: MPI.Status) -> None:
        rank = self._communicator.rank
        fill_status(status, rank, self._tag, MPI.SUCCESS, self._nbytes, cancelled=False)
