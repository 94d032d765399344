"""A group's communicators in a job of MPI's: those of mpi4py, which the engine knows.

Called in the thread that makes or leaves a group, no lock of its own; making is collective.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from mpi4py import MPI

from mooncake_mpi.communicators.intracomm import Intracomm
from mooncake_mpi.torch.meeting import Meeting

if TYPE_CHECKING:
    from mooncake_mpi import _native


class MpiSpaces:
    """See :class:`.spaces.Spaces`.

    Args:
        options: what torch tells a backend's creator.

    Raises:
        DistBackendError: the group's ranks are not those of the MPI job, or one has not come in
            time.
    """

    def __init__(self, options: Any) -> None:
        world = Intracomm(MPI.COMM_WORLD)
        ranks = list(options.global_ranks_in_group) or list(range(world.Get_size()))
        expected = ranks.index(world.Get_rank()) if world.Get_rank() in ranks else -1
        if options.group_size != len(ranks) or options.group_rank != expected:
            raise dist.DistBackendError(
                f"mooncake_mpi: torch says rank {options.group_rank} of {options.group_size}, and "
                f"MPI rank {world.Get_rank()} of {world.Get_size()}: leave rank and world_size out"
            )
        _await_members(options)
        if ranks == list(range(world.Get_size())):
            self._messages = world.Dup()
        else:
            # Groups may be made in any order by processes that have several in common; their names
            # may differ from member to member.
            tag = zlib.crc32(repr(ranks).encode()) % 32768
            members = world.Get_group().Incl(ranks)
            self._messages = world.Create_group(members, tag)
            members.Free()
        MPI.Comm.Set_name(self._messages, f"torch group {options.group_id}"[:60])
        self._collectives = self._messages.Dup()
        for comm in (self._messages, self._collectives):
            MPI.Comm.Set_errhandler(comm, MPI.ERRORS_RETURN)
        self.messages = _of_engine(self._messages)
        self.collectives = _of_engine(self._collectives)

    def communicator(self) -> Intracomm:
        """The communicator of the program's messages."""
        return self._messages

    def close(self) -> None:
        """Free the communicators, unless MPI has ended before them."""
        if MPI.Is_finalized():
            return
        self._collectives.Free()
        self._messages.Free()


def _await_members(options: Any) -> None:
    """Return once all have come: what MPI would wait for without end."""
    if options.group_size > 1:
        meeting = Meeting(options)
        try:
            meeting.exchange(b"here")
        except BaseException:
            meeting.leave()
            raise


def _of_engine(comm: Any) -> _native.Communicator:
    if comm._communicator is None:
        raise dist.DistBackendError("mooncake_mpi: the group's communicator was freed")
    return comm._communicator  # type: ignore[no-any-return]
