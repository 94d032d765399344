"""Agreements of a communicator's members that are under way at this process.

Called in the program's threads, by the engine too when something that nobody waits for is done; no
lock of its own. Agreements travel through the engine on a channel of their own, numbered alike at
every member, as they are collective. One that its caller has left by an exception goes on without
it: the other members, who may be deciding, go on hearing from this process, and the next agreement
starts afresh.
"""

from __future__ import annotations

import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.constants import AGREEMENT_CHANNEL, BUFFERED
from mooncake_mpi.errors import Error, make_error
from mooncake_mpi.failures.agreement import Agreement, Value
from mooncake_mpi.requests.composites import CompositeRequest
from mooncake_mpi.requests.statuses import fill_empty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.failures.agreement import Message, Outgoing
    from mooncake_mpi.requests.request import Request

_TAG = 0


class Agreements:
    """What arrives for the agreements of one communicator, and which of them are under way."""

    def __init__(self, communicator: _native.Communicator) -> None:
        self._communicator = communicator
        self._next = 0
        self._runs: dict[int, Run] = {}
        self._early: dict[int, list[tuple[int, Message]]] = {}
        self._receives: dict[int, Request] = {}
        self._watched: set[int] = set()

    @staticmethod
    def of(communicator: _native.Communicator) -> Agreements:
        """The one object of that communicator."""
        known: dict[str, Any] = cast("Any", communicator).__dict__
        if "agreements" not in known:
            known["agreements"] = Agreements(communicator)
        return cast("Agreements", known["agreements"])

    def begin(self, run: Run) -> None:
        """Let ``run`` have the next number, and what has come for it already."""
        number, self._next = self._next, self._next + 1
        run.number = number
        self._runs[number] = run
        for rank in run.agreement.living:
            if rank not in self._receives:
                self._post(rank)
        self.send(number, run.agreement.start())
        for source, message in self._early.pop(number, ()):
            self._give(number, source, message)

    def send(self, number: int, outgoing: Outgoing) -> None:
        """Send what an agreement has to say."""
        for dest, message in outgoing:
            text = pickle.dumps((number, message))
            try:
                # Buffered: on its way whatever becomes of this agreement.
                _native.isend_bytes(
                    self._communicator, text, dest, _TAG, BUFFERED, AGREEMENT_CHANNEL
                )
            except Error as error:
                if error.name != "ERR_PROC_FAILED":
                    raise

    def poll(self) -> None:
        """Take what has arrived, for every agreement that is under way."""
        busy = True
        while busy and self._runs:
            busy = False
            for rank, request in list(self._receives.items()):
                if self._receives.get(rank) is request and request._poll():
                    busy = True
                    self._take(rank, request)
            self._end_decided()
        if not self._runs:
            self._rest()

    def pending(self) -> list[Request]:
        """The receives that wait for what others say."""
        return list(self._receives.values())

    def attend(self) -> None:
        """Go on with agreements that nobody polls, whenever something arrives."""
        self.poll()
        for request in self.pending():
            if id(request) in self._watched:
                continue
            self._watched.add(id(request))

            def arrived(watched: int = id(request), _alive: Request = request) -> None:
                self._watched.discard(watched)
                with suppress(Error):  # the communicator may have been freed since
                    self.attend()

            if not _native.call_when_done(request, arrived):
                self._watched.discard(id(request))
                return self.attend()
        return None

    def _post(self, rank: int) -> None:
        self._receives[rank] = _native.post_recv_any_size(
            self._communicator, rank, _TAG, AGREEMENT_CHANNEL
        )

    def _take(self, rank: int, request: Request) -> None:
        """What a receive from ``rank`` brought: a message, or word of its death."""
        try:
            request._wait()
        except Error as error:
            del self._receives[rank]
            if error.name != "ERR_PROC_FAILED":
                raise
            for number, run in list(self._runs.items()):
                self.send(number, run.agreement.fail(rank))
            return
        self._post(rank)
        number, message = pickle.loads(request._result)  # noqa: S301 - from a process of the job
        self._give(number, rank, message)

    def _give(self, number: int, source: int, message: Message) -> None:
        if number in self._runs:
            self.send(number, self._runs[number].agreement.receive(source, message))
        elif number >= self._next:
            self._early.setdefault(number, []).append((source, message))

    def _end_decided(self) -> None:
        for number, run in list(self._runs.items()):
            if run.agreement.decision is not None:
                del self._runs[number]
                run.decided()

    def _rest(self) -> None:
        """Nothing is under way: take the receives back, and keep what they brought meanwhile."""
        receives, self._receives = self._receives, {}
        for rank, request in receives.items():
            request.Cancel()
            status = MPI.Status()
            try:
                request._wait(status)
            except Error:
                continue
            if not status.Is_cancelled():
                number, message = pickle.loads(request._result)  # noqa: S301 - as above
                self._give(number, rank, message)


class Run:
    """The driver of one agreement at this process.

    Args:
        communicator: whose members agree.
        flag: see :class:`~mooncake_mpi.failures.agreement.Value`.
        data: bytes that every survivor gets from this process.
    """

    number: int

    def __init__(self, communicator: _native.Communicator, flag: int, data: bytes = b"") -> None:
        self._communicator = communicator
        ranks, acknowledged = communicator.failures()
        own = Value(
            flag,
            frozenset(ranks),
            frozenset(ranks[:acknowledged]),
            {communicator.rank: data},
        )
        self.agreement = Agreement(communicator.rank, communicator.size, own)
        self._agreements = Agreements.of(communicator)
        self._agreements.begin(self)

    @property
    def value(self) -> Value:
        """What was agreed on."""
        return cast("Value", self.agreement.decision)

    def check(self) -> None:
        """Raise what the members did not all acknowledge."""
        failed = sorted(self.value.failed - self.value.acknowledged)
        if failed:
            error = make_error(
                "ERR_PROC_FAILED",
                f"rank {', '.join(map(str, failed))} has failed, and not every rank has "
                "acknowledged that",
            )
            cast("Any", error).flag = self.value.flag
            raise error

    def decided(self) -> None:
        """The decision is known; called once, whether or not somebody waits for it."""

    def _poll(self) -> bool:
        if self.agreement.decision is None:
            self._agreements.poll()
        return self.agreement.decision is not None

    def _pending(self) -> Sequence[Any]:
        return self._agreements.pending()

    def _complete(self, status: MPI.Status | None) -> Any:
        if status is not None:
            fill_empty(status)

    def _look(self, status: MPI.Status) -> None:
        fill_empty(status)

    def _leave(self) -> None:
        self._agreements.attend()

    def _cancel(self) -> None:
        """Nothing: a collective operation is not cancelled."""


class RunIntoBuffer(Run):
    """The driver of ``Iagree``."""

    def __init__(self, communicator: _native.Communicator, memory: Any) -> None:
        self._memory = memory
        super().__init__(communicator, memory[0])

    def _complete(self, status: MPI.Status | None) -> None:
        super()._complete(status)
        self._memory[0] = self.value.flag
        self.check()


def finish(run: Run) -> None:
    """Wait for an agreement of a blocking call; left by an exception, it goes on by itself.

    Raises:
        Error: ``ERR_PROC_FAILED``, not everybody had acknowledged a failure.
    """
    try:
        CompositeRequest(run)._wait()
    except BaseException:
        run._leave()
        raise
    run.check()
