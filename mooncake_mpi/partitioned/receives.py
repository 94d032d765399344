"""The receiving end of a partitioned message, driven by :mod:`mooncake_mpi.partitioned.request`.

Called in the program's threads and in the completer's; several may ask for partitions at once,
under the end's lock. The receives of the partitions are posted as soon as it is known how the
sender cuts the message, which the receiver learns only when it looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.constants import PARTITION_DATA, STANDARD
from mooncake_mpi.errors import Error, make_error
from mooncake_mpi.partitioned.ends import End
from mooncake_mpi.partitioned.introductions import Introduction, Introductions, Setup
from mooncake_mpi.requests.statuses import fill_status

if TYPE_CHECKING:
    from mooncake_mpi.buffers.bufferspec import Elements
    from mooncake_mpi.requests.request import Request


class PartitionedReceive(End):
    """The receiving end, with a number of partitions of its own.

    Args:
        communicator: native side of the communicator.
        elements: one partition's elements, the first of the buffer; ``None`` with ``PROC_NULL``.
        partitions: number of partitions.
        source: rank of the sender.
        tag: matches the send.
    """

    def __init__(
        self,
        communicator: _native.Communicator,
        elements: Elements | None,
        partitions: int,
        source: int,
        tag: int,
    ) -> None:
        super().__init__(communicator, elements, partitions, tag, writable=True)
        self._source = source
        self._setup: Setup | None = None
        self._introduction: Introduction | None = None
        self._withdrawal: Request | None = None  # word that the sender was freed before it started
        self._introductions = Introductions.of(communicator, source, tag)
        self._introductions.wait(self)
        self._unpacked: set[int] = set()
        self._posted = False
        self._error: Error | None = None

    def start(self) -> None:
        """Begin a message; its parts are posted as soon as the sender's cut is known."""
        super().start()
        self._unpacked.clear()
        self._posted = False
        self._advance()

    def _advance(self) -> bool:
        """Post the receives of the parts if the sender's cut is known; whether they are."""
        if self._withdrawal is not None and self._withdrawal._test():
            self._forget_sender()
        if self._posted:
            return True
        if self._setup is None and not self._learn():
            return False
        self._posted = True
        self._post(cast("Setup", self._setup))
        return True

    def _learn(self) -> bool:
        """Take the sender's cut if it has come, and reply that it is known."""
        if not self._introductions.arrived(self):
            return False
        self._setup = setup = cast("Introduction", self._introduction).take()
        if self._source == MPI.PROC_NULL:
            return True
        self._introductions.forget(self)
        self._withdrawal = self._expect_word(self._source, setup.withdrawal_tag)
        self._send_word(self._source, setup.reply_tag, STANDARD)
        return True

    def _forget_sender(self) -> None:
        """The sender was freed before it started: the next one that introduces itself is meant."""
        for part in self._parts:
            if part is not None:
                part.Cancel()
        self._parts, self._posted = [], False
        self._setup = self._withdrawal = self._error = None
        self._introductions.wait(self)

    def _withdraw(self) -> None:
        if self._withdrawal is not None:
            self._withdrawal.Cancel()
        self._introductions.leave(self)

    def _post(self, setup: Setup) -> None:
        self._parts = []
        if setup.nbytes > self._nbytes:
            self._error = make_error(
                "ERR_TRUNCATE",
                f"message truncated: rank {self._source} sends {setup.nbytes} bytes in partitions, "
                f"the buffer has {self._nbytes}",
            )
            return
        nbytes = setup.part_nbytes
        self._parts = [
            _native.post_recv(
                self._communicator,
                self._address + part * nbytes,
                nbytes,
                self._keepalive,
                self._source,
                setup.part_tag(part),
                PARTITION_DATA,
            )
            for part in range(setup.partitions)
        ]

    def arrived(self, partition: int) -> bool:
        """Whether a partition is in the user's buffer; true while the request is not started.

        Raises:
            MPI.Exception: ``ERR_ARG``, no such partition.
        """
        with self._lock:
            self._check(partition)
            if not self.active:
                return True
            if not self._advance():
                _native.progress()
                return False
            if not all(self._is_done(part) for part in self._parts_of(partition)):
                return False
            self._unpack(partition)
            return self._error is None

    def _parts_of(self, partition: int) -> range:
        """The sender's partitions that a partition of ours overlaps."""
        setup = self._setup
        if setup is None or not self._parts:
            return range(0)
        mine, theirs = self.partition_nbytes, setup.part_nbytes
        if mine == 0 or theirs == 0:  # of an empty message, as if it had bytes
            mine, theirs = setup.partitions, self._partitions
        first = partition * mine // theirs
        end = -(-(partition + 1) * mine // theirs)
        return range(min(first, setup.partitions), min(end, setup.partitions))

    def _unpack(self, partition: int) -> None:
        if self._packed is not None and partition not in self._unpacked:
            self._packed.unpack_range(*self._elements_of(partition))
            self._unpacked.add(partition)  # a signal may have interrupted it

    def _poll(self) -> bool:
        """Whether every partition is here."""
        with self._lock:
            if not self._advance():
                return False
            if not all(self._is_done(part) for part in range(len(self._parts))):
                return False
            for partition in range(self._partitions):
                self._unpack(partition)
            if self._withdrawal is not None:  # it has started
                self._withdrawal.Cancel()
                self._withdrawal = None
            return True

    def _pending(self) -> list[Request]:
        """The sender's cut, or the parts under way and word of their end."""
        if self._posted:
            return super()._pending() + ([self._withdrawal] if self._withdrawal is not None else [])
        return self._introduction.pending() if self._introduction is not None else []

    def _complete(self, status: MPI.Status | None) -> None:
        """End the message; the request may be started again.

        Raises:
            MPI.Exception: ``ERR_TRUNCATE``, the sender's message is longer than the buffer.
        """
        self.active = False
        if status is not None:
            self._look(status)
        if self._error is not None:
            raise self._error

    def _look(self, status: MPI.Status) -> None:
        nbytes = 0 if self._setup is None else self._setup.nbytes
        source, tag = self._source, self._tag
        if source == MPI.PROC_NULL:
            tag = MPI.ANY_TAG
        fill_status(status, source, tag, MPI.SUCCESS, nbytes, cancelled=False)
