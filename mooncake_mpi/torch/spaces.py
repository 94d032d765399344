"""What a group has of the engine: the communicators of its messages and of its collectives.

Made and left in the thread that makes or leaves a group, no lock of its own; making is collective.
How the members become known to each other is the only difference between the two kinds that there
are: :mod:`.mpi_spaces` of a job under mpirun, :mod:`.store_spaces` of processes that have met
through torch's own store, without an MPI library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mooncake_mpi import _native
    from mooncake_mpi.communicators.intracomm import Intracomm


class Spaces(Protocol):
    """A group's communicators.

    Attributes:
        messages: of the program's sends and receives.
        collectives: of the messages that collectives are made of.
    """

    messages: _native.Communicator
    collectives: _native.Communicator

    def communicator(self) -> Intracomm:
        """The communicator of the program's messages, for programs of mpi4py's API."""

    def close(self) -> None:
        """Leave the group: nothing matches in it any more."""


def made(options: Any) -> Spaces:
    """A new group's; collective over it.

    Args:
        options: what torch tells a backend's creator.

    Raises:
        DistBackendError: a member cannot take part, or has not come.
    """
    from mooncake_mpi.torch import bootstrap

    if bootstrap.met_through_mpi(options.store):
        from mooncake_mpi.torch.mpi_spaces import MpiSpaces

        return MpiSpaces(options)
    from mooncake_mpi.torch.store_spaces import StoreSpaces

    return StoreSpaces(options)
