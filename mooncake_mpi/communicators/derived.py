"""Communicators that the MPI library made of members of another one, made known to the engine.

Called in the program's threads, no lock of its own. The members know each other: only their heads
are exchanged. They are over the parent, since the first messages of a new communicator take some
libraries longer than making it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.engine import refusals
from mooncake_mpi.engine.runtime import not_made, over, tie
from mooncake_mpi.interruptions import certain_all, is_interruption

if TYPE_CHECKING:
    from collections.abc import Callable


class Derivation:
    """The engine's side of what the MPI library makes of members of ``parent``.

    What the handler of a signal raises comes behind the library's call and the exchange: the others
    wait in both.

    Args:
        parent: the communicator whose members make one.
        known: its engine's side.

    Attributes:
        communicator: ``None`` at a process that is no member.
    """

    def __init__(self, parent: MPI.Intracomm, known: _native.Communicator) -> None:
        self._parent = parent
        self._known = known
        self._failure: Exception | None = None
        self._ranks: list[int] = []  # in the parent
        self._heads = bytearray(_native.HEAD_BYTES * known.size)
        self._exchanged: list[Any] = []
        self.communicator: _native.Communicator | None = None

    def run(self, make: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        """What the library has made, and what a handler has raised meanwhile; collective.

        Args:
            make: the library's call.

        Raises:
            Error: ``ERR_OTHER``, a process cannot take part; at every process of ``parent``.
        """
        made: list[Any] = []
        interruption: BaseException | None = None
        while not self._exchanged:
            try:
                if not made:
                    interruption = certain_all(made, [make])
                head = self._head_of(made[0])
                exchange = partial(MPI.Intracomm.Allgather, self._parent, head, self._heads)
                interruption = certain_all(self._exchanged, [exchange]) or interruption
            except BaseException as error:  # noqa: PERF203 - the others wait from here on
                if not made or not is_interruption(error):
                    raise
                interruption = error
        self._join(made[0], interruption)
        return made[0], interruption

    def _head_of(self, comm: MPI.Comm) -> bytes:
        """What the others are told; begun anew where a handler has left it."""
        if comm == MPI.COMM_NULL and self._failure is None:
            return _native.HEAD_OF_NO_MEMBER
        try:
            if self._failure is None:
                self.communicator = self._member_of(comm)
        except Exception as error:
            if is_interruption(error):
                raise
            self._failure = error
        member = self.communicator
        if member is None or self._failure is not None:
            return _native.HEAD_OF_REFUSAL
        return member.head

    def _member_of(self, comm: MPI.Comm) -> _native.Communicator:
        self._ranks = _ranks_in(self._parent, comm)
        rank, size = comm.Get_rank(), comm.Get_size()
        communicator = _native.Communicator(rank, size, self._known.tag_ub)
        communicator.inherit(self._known, self._ranks, comm.Get_name())
        tie(comm, communicator)
        return communicator

    def _join(self, comm: MPI.Comm, interruption: BaseException | None) -> None:
        if self.communicator is not None and self._failure is None:
            accepted = self.communicator.join_heads(self._heads, self._ranks)
        else:
            accepted = not refusals.Heads(self._heads).refuse()
        if not accepted:
            _refuse(self._parent, comm, self._failure, interruption)


class Exchange:
    """What makes several duplicates known to the members at once: most are not collective then.

    Where this process cannot take part the others are told: it does not raise that.

    Args:
        parent: the communicator that is being duplicated.
        known: its engine's side, which has no spare.

    Attributes:
        calls: behind the library's, with no handler between them: see ``certain_all``. The last one
            gives what this duplicate takes; ``None`` where a process cannot take part.
    """

    def __init__(self, parent: MPI.Intracomm, known: _native.Communicator) -> None:
        self._parent = parent
        self._failure: Exception | None = None
        mine = _native.HEAD_OF_REFUSAL * known.spares_at_once
        try:
            mine = known.make_spares()
        except Exception as error:
            if is_interruption(error):  # nobody waits yet
                raise
            self._failure = error
        heads = bytearray(len(mine) * known.size)
        self.calls = (
            partial(MPI.Intracomm.Allgather, parent, mine, heads),
            partial(known.keep_spares, heads),
            known.take_spare,
        )

    def refuse(self, comm: MPI.Comm, interruption: BaseException | None) -> NoReturn:
        """Free ``comm``, the duplicate, and raise at every process why one cannot take part."""
        _refuse(self._parent, comm, self._failure, interruption)


def duplicate(comm: MPI.Comm, spare: _native.Communicator) -> _native.Communicator:
    """The engine's side of ``comm``, a duplicate; local.

    Args:
        comm: of the same members in the same order as what the library has duplicated.
        spare: taken at every process for the same duplicate.
    """
    tie(comm, spare)
    spare.begin(comm.Get_name())
    return spare


def _refuse(
    parent: MPI.Intracomm,
    comm: MPI.Comm,
    failure: BaseException | None,
    interruption: BaseException | None,
) -> NoReturn:
    refused = refusals.told(over(parent), failure)
    if comm != MPI.COMM_NULL:
        MPI.Comm.Free(comm)
    raise interruption or not_made(refused, failure)


class Duplicate:
    """The engine's side of a duplicate that the library is still making.

    Args:
        known: the engine's side of the communicator that is duplicated.

    Attributes:
        entry: what every process must have of this one, of the same length in each.
    """

    def __init__(self, known: _native.Communicator) -> None:
        self._communicator: _native.Communicator | None = None
        self._failure: Exception | None = None
        try:
            self._communicator = _native.Communicator(known.rank, known.size, known.tag_ub)
            self._communicator.inherit(known, [])
            self.entry = refusals.padded(self._communicator.head)
        except Exception as error:  # noqa: BLE001 - raised at every process, by join()
            self._failure, self.entry = error, refusals.refusal(error)

    def join(self, comm: MPI.Comm, entries: bytearray) -> _native.Communicator:
        """Tie it to ``comm``, which is complete, with the entries of all processes.

        Raises:
            Error: ``ERR_OTHER``, as :class:`Derivation`.
        """
        refused = refusals.among(entries)
        if self._communicator is None or refused:
            if self._communicator is not None:
                self._communicator.close()
            MPI.Comm.Free(comm)
            raise not_made(refused, self._failure)
        tie(comm, self._communicator)
        self._communicator.join(refusals.unpadded(entries).numbers)
        return self._communicator


def _ranks_in(parent: MPI.Intracomm, comm: MPI.Comm) -> list[int]:
    """The ranks in ``parent`` of the members of ``comm``."""
    mine, theirs = comm.Get_group(), MPI.Intracomm.Get_group(parent)
    try:
        return mine.Translate_ranks(None, theirs)
    finally:
        mine.Free()
        theirs.Free()
