"""Which ways this process's messages take: counters for each peer, and a warning of a slow one.

Called in any thread of the program, no lock of its own: the engine counts under its lock.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mooncake_mpi.communicators.comm import Comm

#: The ways, as :func:`transfers` names them, and what each is.
PATHS = {
    "copy": "the processors of the node copy the bytes from one process's memory into the other's",
    "rdma": "an RDMA adapter reads them",
    "stream": "they travel in packets",
    "push": "the copy engine of the sender's GPU brings them into the receiver's array",
    "pull": "the copy engine of the receiver's GPU takes them from the sender's array",
    "kernel": "a kernel in the stream that waits for the message, from one array into the other",
    "staged": "an array of a GPU, by way of pinned memory of the host",
    "parked": "a small array of a GPU, which its sender kept on the host until the receive came",
}


class DetourWarning(RuntimeWarning):
    """Messages of 1 MiB or more between GPUs of one node take a longer way than they could.

    Given once for each peer, with the reason, by the process that knows it; under an ``"error"``
    filter it is written to standard error, as no call has failed.
    """


@dataclass(frozen=True)
class Traffic:
    """What has taken one way, in one direction."""

    #: Whole messages.
    messages: int
    #: Their bytes; of a message that was cut, at the receiver those that it took.
    nbytes: int


@dataclass(frozen=True)
class Transfers:
    """What this process has exchanged with one other, since it started."""

    #: In the communicator that was asked about; None if none was.
    rank: int | None
    #: The other process's id, on its own node.
    pid: int
    #: Whether it is on this node.
    near: bool
    #: The lane that carries packets to it; empty before the first.
    lane: str
    #: By way, one of :data:`PATHS`; ways that nothing took are not in it.
    sent: Mapping[str, Traffic]
    received: Mapping[str, Traffic]
    #: Why messages take a longer way than they could, the driver's words among them.
    troubles: tuple[str, ...]


def transfers(comm: Comm | None = None) -> list[Transfers]:
    """Messages and bytes to each other process and from it, by the way that they took.

    A message is counted when it is complete, at both ends; one between a GPU and the host is
    ``"staged"`` at the GPU's end and whatever it was for the host at the other; one whose receive
    came too late is ``"parked"`` at its sender, and what it was for the receiver there. Small
    messages between memory of hosts, which travel with their envelope
    (``MOONCAKE_MPI_EAGER_LIMIT``), are not counted, and neither are messages without bytes.

    Args:
        comm: whose ranks to tell of, in order. The counts are of the processes, whatever the
            communicator that a message was sent in. None: every process that this one knows.

    Returns:
        One entry for each rank or process, this one included; none before the first communicator.

    Raises:
        Error: of class ``ERR_COMM``; the communicator is not carried by the engine, or was freed.
    """
    from mooncake_mpi import _native

    communicator = None if comm is None else comm._checked_communicator()
    return [
        Transfers(
            rank=peer["rank"],
            pid=peer["pid"],
            near=peer["near"],
            lane=peer["lane"],
            sent={path: Traffic(*counts) for path, counts in peer["sent"].items()},
            received={path: Traffic(*counts) for path, counts in peer["received"].items()},
            troubles=tuple(peer["troubles"]),
        )
        for peer in _native.transfers(communicator)
    ]


def lane_of(comm: Comm, rank: int) -> str:
    """The lane that carries messages to a rank, such as ``"shm"`` or ``"tcp"``.

    Args:
        comm: a communicator that the engine carries.
        rank: in it.

    Raises:
        Error: of class ``ERR_COMM``, the communicator is not carried by the engine, or was freed;
            ``ERR_RANK``; ``ERR_OTHER``, no lane reaches the rank, and the text says why.
    """
    from mooncake_mpi import _native
    from mooncake_mpi.errors import make_error

    communicator = comm._checked_communicator()
    if not 0 <= rank < communicator.size:
        raise make_error("ERR_RANK", f"invalid rank: {rank} of {communicator.size}")
    lane: str = _native.lane_of(communicator, rank)
    if lane not in _native.LANES:
        raise make_error("ERR_OTHER", f"no lane reaches rank {rank}: {lane}")
    return lane


def stats() -> dict[str, int]:
    """Counters of this process's engine since it started, by name.

    What is counted is for people who look for the reason of something; names may come and go with
    versions. Messages and bytes by peer are :func:`transfers`.
    """
    from mooncake_mpi import _native

    return _native.stats()


def warn_of_detour(text: str) -> None:
    """What the engine calls, between two instructions of the program."""
    warnings.warn(text, DetourWarning, stacklevel=2)
