"""Living on after a process has failed (MPI 5.0 and ULFM's names, as mpi4py gives them).

None of it needs the MPI library, which may not communicate any more: failures are what the engine
has noticed, and agreements travel through the engine on a channel of their own.
"""

from __future__ import annotations

import pickle
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.agreement import Agreement, Value
from mooncake_mpi.composites import CompositeRequest
from mooncake_mpi.errors import Error, make_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mooncake_mpi.agreement import Outgoing
    from mooncake_mpi.requests import Request

_CHANNEL = 3
_TAG = 0
_BUFFERED = 3


class FailureMethods:
    """The methods of a communicator for its failed members; mixed into the communicators."""

    __slots__ = ()

    if TYPE_CHECKING:
        _checked_communicator: Callable[[], _native.Communicator]
        Get_group: Callable[[], MPI.Group]

    def Revoke(self) -> None:
        """Revoke the communicator at every rank, of which none needs to take part.

        Receives that have not matched, sends that have not begun, and all later calls raise
        ``ERR_REVOKED`` at every rank; a message that is being copied is finished.
        ``Agree``, ``Shrink``, ``Get_failed`` and ``Ack_failed`` go on working.
        """
        self._checked_communicator().revoke()

    def Is_revoked(self) -> bool:
        """Whether the communicator was revoked, here or (as far as is known here) elsewhere."""
        return self._checked_communicator().revoked

    def Get_failed(self) -> MPI.Group:
        """The group of the members that this process knows to have failed."""
        ranks, _ = self._checked_communicator().failures()
        group = self.Get_group()
        try:
            return group.Incl(ranks)
        finally:
            group.Free()

    def Ack_failed(self, num_to_ack: int | None = None) -> int:
        """Acknowledge the first ``num_to_ack`` failures that are known here (default: all).

        Receives from ``ANY_SOURCE`` go on without those members.

        Returns:
            How many failures are acknowledged now.
        """
        communicator = self._checked_communicator()
        known = len(communicator.failures()[0])
        return communicator.acknowledge(known if num_to_ack is None else max(0, num_to_ack))

    def Agree(self, flag: int) -> int:
        """Agree on the bitwise and of every survivor's ``flag``; collective over the survivors.

        Returns:
            The same value at every rank that returns, whoever dies meanwhile.

        Raises:
            Error: ``ERR_PROC_FAILED``, at every rank alike, when a member has failed and not every
                survivor had acknowledged that (``Ack_failed``); the agreed value is the error's
                ``flag``.
        """
        run = Run(self._checked_communicator(), flag)
        CompositeRequest(run).Wait()
        run.check()
        return run.value.flag

    def Iagree(self, flag: Any) -> Request:
        """Start agreeing on ``flag``, a writable buffer of one C int, which holds the result."""
        memory = MPI.buffer.frombuffer(flag).cast("i")
        return CompositeRequest(_IntoBuffer(self._checked_communicator(), memory))

    def Shrink(self) -> Any:
        """A communicator of the survivors, in the order of their ranks; collective over them.

        Messages and objects travel on it as ever, and it can be duplicated, split and shrunk. The
        MPI library has no such communicator, so its collective operations raise
        ``ERR_UNSUPPORTED_OPERATION`` there.
        """
        comm, request = self.Ishrink()
        request.Wait()
        return comm

    def Ishrink(self) -> tuple[Any, Request]:
        """Start shrinking: the communicator is usable when the request is complete."""
        # By name: that module's class derives from this one.
        survivors = import_module("mooncake_mpi.survivors")
        return cast("tuple[Any, Request]", survivors.shrink(self))


class Run:
    """The driver of one agreement at this process.

    Args:
        communicator: whose members agree.
        flag: see :class:`~mooncake_mpi.agreement.Value`.
        data: bytes that every survivor gets from this process.
    """

    def __init__(self, communicator: _native.Communicator, flag: int, data: bytes = b"") -> None:
        self._communicator = communicator
        ranks, acknowledged = communicator.failures()
        own = Value(
            flag,
            frozenset(ranks),
            frozenset(ranks[:acknowledged]),
            {communicator.rank: data},
        )
        self._agreement = Agreement(communicator.rank, communicator.size, own)
        # Agreements of a communicator are numbered alike everywhere, as they are collective.
        state = cast("Any", communicator)
        self._number: int = getattr(state, "agreements", 0)
        state.agreements = self._number + 1
        self._early: dict[int, list[tuple[int, Any]]] = state.__dict__.setdefault("early", {})
        self._receives = {rank: self._post(rank) for rank in self._agreement.living}
        self._send(self._agreement.start())
        for source, message in self._early.pop(self._number, ()):
            self._send(self._agreement.receive(source, message))

    @property
    def value(self) -> Value:
        """What was agreed on."""
        return cast("Value", self._agreement.decision)

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

    def _post(self, rank: int) -> _native.Request:
        return _native.post_recv_any_size(self._communicator, rank, _TAG, _CHANNEL)

    def _send(self, outgoing: Outgoing) -> None:
        for dest, message in outgoing:
            text = pickle.dumps((self._number, message))
            try:
                # Buffered: on its way whatever becomes of this agreement.
                _native.isend_bytes(self._communicator, text, dest, _TAG, _BUFFERED, _CHANNEL)
            except Error as error:
                if error.name != "ERR_PROC_FAILED":
                    raise

    def _take(self, rank: int, request: _native.Request) -> None:
        """What a receive from ``rank`` brought: a message, or word of its death."""
        try:
            request.Wait()
        except Error as error:
            if error.name != "ERR_PROC_FAILED":
                raise
            self._receives.pop(rank, None)
            self._send(self._agreement.fail(rank))
            return
        number, message = pickle.loads(request._result)  # noqa: S301 - from a process of the job
        if number == self._number:
            self._send(self._agreement.receive(rank, message))
        elif number > self._number:
            self._early.setdefault(number, []).append((rank, message))

    def _poll(self) -> bool:
        busy = True
        while busy and self._agreement.decision is None:
            busy = False
            for rank, request in list(self._receives.items()):
                if request._poll():
                    busy = True
                    self._receives[rank] = self._post(rank)
                    self._take(rank, request)
        if self._agreement.decision is None:
            return False
        for rank, request in self._receives.items():
            request.Cancel()
            if request._poll():
                self._end(rank, request)
        self._receives.clear()
        return True

    def _end(self, rank: int, request: _native.Request) -> None:
        """A receive that was posted for more than there was: cancelled, or matched meanwhile."""
        status = MPI.Status()
        try:
            request.Wait(status)
        except Error:
            return
        if not status.Is_cancelled():
            number, message = pickle.loads(request._result)  # noqa: S301 - from a process of the job
            if number > self._number:
                self._early.setdefault(number, []).append((rank, message))

    def _pending(self) -> Sequence[Any]:
        return list(self._receives.values())

    def _complete(self, status: MPI.Status | None) -> Any:
        if status is not None:
            from mooncake_mpi.statuses import fill_empty

            fill_empty(status)

    def _cancel(self) -> None:
        """Nothing: a collective operation is not cancelled."""


class _IntoBuffer(Run):
    """The driver of ``Iagree``."""

    def __init__(self, communicator: _native.Communicator, memory: Any) -> None:
        self._memory = memory
        super().__init__(communicator, memory[0])

    def _complete(self, status: MPI.Status | None) -> None:
        super()._complete(status)
        self._memory[0] = self.value.flag
        self.check()
