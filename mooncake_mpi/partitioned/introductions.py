"""How partitioned receives learn which sends they belong to.

Called in the program's threads and in the completer's, no lock of its own. A partitioned send
introduces itself by a message of its own, and each partitioned receive of that rank and tag takes
one, in the order in which they were made (MPI 4.1, section 4.2). A receive that is freed before it
was started passes what it took on to the next.
"""

from __future__ import annotations

from heapq import heapify, heappop, heapreplace
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.constants import PARTITION_SETUP
from mooncake_mpi.partitioned.tags import data_tag, new_numbers, reply_tag

if TYPE_CHECKING:
    from mooncake_mpi.requests.request import Request


class Setup(NamedTuple):
    """How the sender cuts the message: its first message to the receiver.

    Attributes:
        first_number: of those that the sender has chosen: one for each partition, the reply has the
            first too, and the last is for word that the sender was freed before it started.
    """

    partitions: int
    first_number: int
    nbytes: int

    @staticmethod
    def of(partitions: int, nbytes: int) -> Setup:
        """For a new message."""
        return Setup(partitions, new_numbers(max(1, partitions) + 1), nbytes)

    @property
    def part_nbytes(self) -> int:
        """Length of one partition."""
        return self.nbytes // self.partitions if self.partitions else 0

    def part_tag(self, part: int) -> int:
        """Tag of a partition."""
        return data_tag(self.first_number + part)

    @property
    def withdrawal_tag(self) -> int:
        """Tag of the sender's word that it was freed before it started."""
        return data_tag(self.first_number + max(1, self.partitions))

    @property
    def reply_tag(self) -> int:
        """Tag of the receiver's word that it knows the cut."""
        return reply_tag(self.first_number)


SETUP = Struct("<QIQ")


class Introduction:
    """A receive that is posted for an introduction, or one that was passed on.

    Attributes:
        turn: of the receivers that wait those with a lower one are served before.
    """

    __slots__ = ("_memory", "_message", "_setup", "turn")

    def __init__(
        self, communicator: _native.Communicator, source: int, tag: int, turn: int
    ) -> None:
        self.turn = turn
        self._setup: Setup | None = Setup(0, 0, 0) if source == MPI.PROC_NULL else None
        self._memory = memory = MPI.buffer.allocate(SETUP.size)
        self._message: Request = _native.post_recv(
            communicator, memory.address, memory.nbytes, memory, source, tag, PARTITION_SETUP
        )

    def arrived(self) -> bool:
        """Whether it has come.

        Raises:
            MPI.Exception: ``ERR_PROC_FAILED``, the sender's process has ended.
        """
        if self._setup is None and self._message._test():
            self._setup = Setup(*SETUP.unpack(self._memory.tobytes()))
        return self._setup is not None

    def take(self) -> Setup:
        """What has come."""
        return cast("Setup", self._setup)

    def pending(self) -> list[Request]:
        """The receive, while it waits."""
        return [self._message] if self._setup is None else []

    def replace(self, setup: Setup) -> Setup | None:
        """Have ``setup`` instead; gives what had come, so that another receive can have that."""
        had = self.withdraw()
        self._setup = setup
        return had

    def withdraw(self) -> Setup | None:
        """Wait no longer; gives what has come."""
        if not self._message:
            return self._setup
        self._message.Cancel()
        status = MPI.Status()
        if self._setup is None and self._message._test(status) and not status.Is_cancelled():
            self._setup = Setup(*SETUP.unpack(self._memory.tobytes()))
        return self._setup


class Receiver(Protocol):
    """What waits for an introduction."""

    _introduction: Introduction | None


class Introductions:
    """Those of one rank and tag on one communicator: who waits, and what nobody took."""

    def __init__(self, communicator: _native.Communicator, source: int, tag: int) -> None:
        self._key = (communicator, source, tag)
        self._waiting: dict[int, Receiver] = {}  # in the order of their turns
        self._turns = 0
        self._looking: set[int] = set()  # those of them that have asked, and it had not come
        # What receivers that left had taken, with their turns: still to be given to those that
        # wait, and what was left over.
        self._passed_on: list[tuple[int, Setup]] = []
        self._spare: list[tuple[int, Setup]] = []

    @staticmethod
    def of(communicator: _native.Communicator, source: int, tag: int) -> Introductions:
        """The one object for that rank and tag."""
        known: dict[Any, Introductions] = cast("Any", communicator).__dict__.setdefault(
            "introductions", {}
        )
        key = (source, tag)
        if key not in known:
            known[key] = Introductions(communicator, source, tag)
        return known[key]

    def wait(self, receiver: Receiver) -> None:
        """Let ``receiver`` have the next introduction."""
        self._turns += 1
        receiver._introduction = Introduction(*self._key, self._turns)
        self._waiting[id(receiver)] = receiver
        self._passed_on += self._spare
        self._spare = []

    def arrived(self, receiver: Receiver) -> bool:
        """Whether the introduction of ``receiver`` has come."""
        if self._passed_on:
            self._pass_on()
        introduction = receiver._introduction
        arrived = introduction is not None and introduction.arrived()
        if not arrived:
            self._looking.add(id(receiver))
        return arrived

    def forget(self, receiver: Receiver) -> None:
        """``receiver`` knows its sender."""
        self._waiting.pop(id(receiver), None)
        self._looking.discard(id(receiver))

    def leave(self, receiver: Receiver) -> None:
        """``receiver`` is freed: what it took goes to the next that waits, and so on."""
        introduction = receiver._introduction
        had = None if introduction is None else introduction.withdraw()
        if introduction is not None and had is not None:
            self._passed_on.append((introduction.turn, had))
        receiver._introduction = None
        self.forget(receiver)
        if self._passed_on and self._looking:
            self._pass_on()

    def _pass_on(self) -> None:
        """Let those that wait move up, once for all that have left."""
        given, self._passed_on, self._spare = self._passed_on + self._spare, [], []
        heapify(given)
        for other in list(self._waiting.values()):
            if not given:
                break
            introduction = other._introduction
            if introduction is None or introduction.turn < given[0][0]:
                continue
            had = introduction.replace(given[0][1])
            if had is None:
                heappop(given)
            else:
                heapreplace(given, (introduction.turn, had))
        self._spare += given
