"""Communicators that the MPI library made of members of another one, made known to the engine.

Called in the program's threads, no lock of its own. The members know each other: only their heads
are exchanged. They are over the parent, since the first messages of a new communicator take some
libraries longer than making it.
"""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.engine import refusals
from mooncake_mpi.engine.runtime import not_made, over, tie
from mooncake_mpi.interruptions import certain, is_interruption


def derived(
    parent: MPI.Intracomm, known: _native.Communicator, comm: MPI.Comm
) -> tuple[_native.Communicator | None, BaseException | None]:
    """The engine's side of ``comm``, which the library made of members of ``parent``.

    Collective over ``parent``. Where the handler of a signal raises the others are told first: it
    is given, too.

    Args:
        parent: the communicator whose members made ``comm``.
        known: its engine's side.
        comm: may be null at some members.

    Raises:
        Error: ``ERR_OTHER``, a process cannot take part; at every process of ``parent``.
    """
    communicator: _native.Communicator | None = None
    failure: BaseException | None = None
    ranks: list[int] = []  # in the parent
    head = _native.HEAD_OF_NO_MEMBER
    if comm != MPI.COMM_NULL:
        try:  # everything that can fail
            ranks = _ranks_in(parent, comm)
            rank, size = comm.Get_rank(), comm.Get_size()
            communicator = _native.Communicator(rank, size, known.tag_ub)
            communicator.inherit(known, ranks, comm.Get_name())
            tie(comm, communicator)
            head = communicator.head
        except BaseException as error:  # noqa: BLE001 - raised below, at every process
            failure, head = error, _native.HEAD_OF_REFUSAL
    heads = bytearray(len(head) * known.size)
    _, interruption = certain(MPI.Intracomm.Allgather, parent, head, heads)
    if communicator is not None and failure is None:
        accepted = communicator.join_heads(heads, ranks)
    else:
        accepted = not refusals.Heads(heads).refuse()
    if not accepted:
        _refuse(parent, comm, failure)
    return communicator, interruption


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

    def refuse(self, comm: MPI.Comm) -> NoReturn:
        """Free ``comm``, the duplicate, and raise at every process why one cannot take part."""
        _refuse(self._parent, comm, self._failure)


def duplicate(comm: MPI.Comm, spare: _native.Communicator) -> _native.Communicator:
    """The engine's side of ``comm``, a duplicate; local.

    Args:
        comm: of the same members in the same order as what the library has duplicated.
        spare: taken at every process for the same duplicate.
    """
    tie(comm, spare)
    spare.begin(comm.Get_name())
    return spare


def _refuse(parent: MPI.Intracomm, comm: MPI.Comm, failure: BaseException | None) -> NoReturn:
    refused = refusals.told(over(parent), failure)
    if comm != MPI.COMM_NULL:
        MPI.Comm.Free(comm)
    if failure is not None and is_interruption(failure):
        raise failure  # the others have heard of it
    raise not_made(refused, failure)


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
            Error: ``ERR_OTHER``, as :func:`derived`.
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
