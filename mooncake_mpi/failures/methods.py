"""Living on after a process has failed (MPI 5.0 and ULFM's names, as mpi4py gives them).

Called in the program's threads, no lock of its own. None of it needs the MPI library, which may not
communicate any more: failures are what the engine has noticed, and agreements travel through the
engine on a channel of their own.
"""

from __future__ import annotations

from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, Any, cast

from mpi4py import MPI

from mooncake_mpi.errhandlers import reporting
from mooncake_mpi.failures.agreements import Run, RunIntoBuffer, finish
from mooncake_mpi.failures.shrinking import ishrink, shrink
from mooncake_mpi.requests.composites import CompositeRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi import _native
    from mooncake_mpi.communicators.intracomm import Intracomm
    from mooncake_mpi.requests.request import Request


_FLAG = Struct("i")


@reporting
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
        # What of the library's own is under way ends, too, where the library can do that.
        with suppress(NotImplementedError, MPI.Exception):
            self._revoke_in_library()

    def _revoke_in_library(self) -> None:
        MPI.Comm.Revoke(cast("Any", self))

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
        finish(run)
        return run.value.flag

    def Iagree(self, flag: Any) -> Request:
        """Start agreeing on ``flag``, a writable buffer of one C int, which holds the result."""
        memory = MPI.buffer.frombuffer(flag)
        if memory.nbytes != _FLAG.size:
            raise ValueError(f"expecting a buffer of {_FLAG.size} bytes, got {memory.nbytes}")
        number = memory.cast("i")
        return CompositeRequest(RunIntoBuffer(self._checked_communicator(), number))

    def Shrink(self) -> Intracomm:
        """A communicator of the survivors, in the order of their ranks; collective over them.

        Messages and objects travel on it as ever, and it can be duplicated, split and shrunk. The
        MPI library has no such communicator, so its collective operations raise
        ``ERR_UNSUPPORTED_OPERATION`` there.
        """
        return cast("Intracomm", shrink(self))

    def Ishrink(self) -> tuple[Intracomm, Request]:
        """Start shrinking: the communicator is usable when the request is complete."""
        return ishrink(self)
