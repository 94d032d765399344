"""A group's communicators where the processes have met through a store of torch's.

Called in the thread that makes or leaves a group, no lock of its own; making is collective. What
the engine has its peers know travels through the store, and nothing of MPI's is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from mooncake_mpi import _native
from mooncake_mpi.engine import introductions, surroundings
from mooncake_mpi.torch import leaving
from mooncake_mpi.torch.meeting import Meeting
from mooncake_mpi.torch.tensors import LARGEST_TAG

if TYPE_CHECKING:
    from mooncake_mpi.communicators.intracomm import Intracomm


class StoreSpaces:
    """See :class:`.spaces.Spaces`.

    Args:
        options: what torch tells a backend's creator.

    Raises:
        DistBackendError: a member cannot take part, or has not come in time.
    """

    def __init__(self, options: Any) -> None:
        meeting = Meeting(options)
        self._name = str(options.group_id)
        label = f"torch group {self._name}"[:60]

        def make() -> _native.Communicator:
            surroundings.start_alone()
            leaving.deliver_at_the_end_of_a_child()
            return _native.Communicator(options.group_rank, options.group_size, LARGEST_TAG)

        def activate(
            communicator: _native.Communicator, entries: bytearray, entry_bytes: int
        ) -> None:
            communicator.activate(entries, entry_bytes, label)

        try:
            self.messages = introductions.introduce(
                meeting.exchange, make, activate, _native.Communicator.close
            )
            try:
                self.collectives = introductions.duplicate(meeting.exchange, self.messages, label)
            except BaseException:
                self.messages.close()
                raise
        except introductions.RefusedError as refused:
            raise dist.DistBackendError(
                f"mooncake_mpi: group {self._name!r} cannot be made: {refused}"
            ) from refused.__cause__
        except BaseException:
            meeting.leave()
            raise

    def communicator(self) -> Intracomm:
        """Raises: a communicator of mpi4py's needs a job of MPI's."""
        raise dist.DistBackendError(
            f"mooncake_mpi: group {self._name!r} has no communicator: its processes have met "
            "through torch's store, and not through MPI"
        )

    def close(self) -> None:
        """Leave the group."""
        self.collectives.close()
        self.messages.close()
