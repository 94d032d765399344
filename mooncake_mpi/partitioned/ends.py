"""The two ends of a partitioned message, driven by :mod:`mooncake_mpi.partitioned.request`.

The receiver can post the receives of the partitions only once it knows how the sender cuts the
message, and it learns that only when it looks. A sender that waits for it meanwhile, while the
receiver waits in another call, would wait for ever: so until the receiver has replied that it
knows, the engine keeps a copy of the partitions (buffered mode); from then on they are sent from
where they lie.
"""

from __future__ import annotations

from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING, cast

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.buffers.bufferspec import Elements, Placed, place
from mooncake_mpi.buffers.packing import PackedBuffer
from mooncake_mpi.errors import Error, make_error, raise_error
from mooncake_mpi.partitioned.introductions import SETUP, Introduction, Introductions, Setup
from mooncake_mpi.partitioned.side_channels import (
    DATA_CHANNEL,
    SETUP_CHANNEL,
    data_tag,
    new_numbers,
    reply_tag,
)
from mooncake_mpi.requests.composites import Driver, complete_unwatched
from mooncake_mpi.requests.statuses import fill_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mooncake_mpi.requests.request import Request


_NOTHING = Placed(0, 0, None, None)

STANDARD, BUFFERED = 0, 3


class _End:
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
        self._address, self._nbytes, self._keepalive, _ = placed
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


class PartitionedSend(_End):
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
        first = self._first_number = new_numbers(max(1, partitions) + 1)
        setup = SETUP.pack(partitions, first, self._nbytes)
        self._setup = _native.isend_bytes(communicator, setup, dest, tag, STANDARD, SETUP_CHANNEL)
        self._reply = _native.post_recv(
            communicator, 0, 0, None, dest, reply_tag(first), DATA_CHANNEL
        )
        self._ready: set[int] = set()

    def _withdraw(self) -> None:
        self._reply.Cancel()
        tag = data_tag(self._first_number + max(1, self._partitions))
        _native.isend_bytes(self._communicator, b"", self._dest, tag, BUFFERED, DATA_CHANNEL)

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
            first = partition * self._count
            self._packed.pack_range(first, first + self._count)
        nbytes = self.partition_nbytes
        return _native.post_send(
            self._communicator,
            self._address + partition * nbytes,
            nbytes,
            self._keepalive,
            self._dest,
            data_tag(self._first_number + partition),
            STANDARD if self._reply._test() else BUFFERED,
            DATA_CHANNEL,
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


class PartitionedReceive(_End):
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
        if self._introduction is None or not self._introduction.arrived():
            return False
        self._setup = setup = self._introduction.take()
        if self._source == MPI.PROC_NULL:
            return True
        self._introductions.forget(self)
        tag = data_tag(setup.first_number + max(1, setup.partitions))
        self._withdrawal = _native.post_recv(
            self._communicator, 0, 0, None, self._source, tag, DATA_CHANNEL
        )
        _native.isend_bytes(
            *(self._communicator, b"", self._source, reply_tag(setup.first_number)),
            *(STANDARD, DATA_CHANNEL),
        )
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
        nbytes = setup.nbytes // setup.partitions if setup.partitions else 0
        self._parts = [
            _native.post_recv(
                self._communicator,
                self._address + part * nbytes,
                nbytes,
                self._keepalive,
                self._source,
                data_tag(setup.first_number + part),
                DATA_CHANNEL,
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
        mine, theirs = self.partition_nbytes, setup.nbytes // setup.partitions
        if mine == 0 or theirs == 0:  # of an empty message, as if it had bytes
            mine, theirs = setup.partitions, self._partitions
        first = partition * mine // theirs
        end = -(-(partition + 1) * mine // theirs)
        return range(min(first, setup.partitions), min(end, setup.partitions))

    def _unpack(self, partition: int) -> None:
        if self._packed is not None and partition not in self._unpacked:
            self._unpacked.add(partition)
            first = partition * self._count
            self._packed.unpack_range(first, first + self._count)

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
