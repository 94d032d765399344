"""Making communicators of those members of another one who are alive.

Called in the program's threads, by the engine too when an agreement that nobody waits for goes on;
no lock of its own. Addresses are exchanged in an agreement: the MPI library, which may not
communicate any more, has no part in it.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, TypeVar

from mpi4py import MPI

from mooncake_mpi.engine import refusals, runtime
from mooncake_mpi.failures.agreements import Run
from mooncake_mpi.requests.composites import CompositeRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi import _native
    from mooncake_mpi.requests.request import Request

_Kind = TypeVar("_Kind", bound=type[MPI.Comm])

# The class of the communicators that are made here; it has the methods that make them.
_kinds: list[type[MPI.Comm]] = []


def made_by_shrinking(kind: _Kind) -> _Kind:
    """The class of the communicators that are made here."""
    _kinds[:] = [kind]
    return kind


def _new_comm() -> Any:
    """A communicator that is not yet made: to the MPI library it has this process alone."""
    return MPI.Comm.__new__(_kinds[0], MPI.COMM_SELF.Dup())


def shrink(parent: Any) -> Any:
    """Make a communicator of those members of ``parent`` who are alive."""
    making = Making(parent, None, list)
    try:
        CompositeRequest(making).Wait()
    except BaseException:
        making._leave()
        raise
    return making.comm


def ishrink(parent: Any) -> tuple[Any, Request]:
    """Start making a communicator of those members of ``parent`` who are alive."""
    making = Making(parent, None, list)
    return making.comm, CompositeRequest(making)


class Making(Run):
    """The driver of a call that makes a communicator of members of ``parent``.

    Args:
        parent: the communicator whose members take part.
        brought: what the choice needs of each member.
        choose: gives the members of the new communicator, in order, from what each brought.
    """

    def __init__(
        self, parent: Any, brought: Any, choose: Callable[[dict[int, Any]], list[int]]
    ) -> None:
        self._parent_group = parent.Get_group()
        self._choose = choose
        self._new: _native.Communicator | None = None
        self._failure: Exception | None = None
        try:
            # As many members as it can have: messages of those who are ready first may come early.
            self._new, entry = runtime.new_communicator(parent)
        except Exception as error:  # noqa: BLE001 - raised at every member
            self._failure, entry = error, refusals.refusal(error)
        self.comm = _new_comm()
        self.comm._communicator = None
        self.comm._giver = parent._giver
        self._wanted = True
        super().__init__(parent._checked_communicator(), -1, pickle.dumps((entry, brought)))

    def _leave(self) -> None:
        self._wanted = False
        if self.agreement.decision is None:
            super()._leave()
        else:
            self.decided()

    def decided(self) -> None:
        """Its caller has left: nobody will use the communicator."""
        if not self._wanted:
            self._give_up()

    def _give_up(self) -> None:
        if self._new is not None:
            self._new.close()
        self.comm.Free()
        self._parent_group.Free()

    def _complete(self, status: MPI.Status | None) -> None:
        super()._complete(status)
        mine = self._communicator.rank
        brought = {
            rank: pickle.loads(data)  # noqa: S301 - from a process of the job
            for rank, data in sorted(self.value.data.items())
            if rank not in self.value.failed
        }
        refused = refusals.refusals({rank: entry for rank, (entry, _) in brought.items()})
        if self._new is None or refused:
            self._give_up()
            raise runtime.not_made(refused, self._failure)
        members = self._choose({rank: other for rank, (_, other) in brought.items()})
        if mine not in members:
            self._give_up()
            return
        self._new.reshape(members.index(mine), len(members))
        entries = [brought[rank][0] for rank in members]
        longest = max(map(len, entries))
        joined = bytearray().join(entry.ljust(longest, b"\0") for entry in entries)
        self.comm._communicator = runtime.activate(self.comm, self._new, joined, longest)
        self.comm._group = self._parent_group.Incl(members)
        self._parent_group.Free()
