"""The predefined communicators of ``mooncake_mpi.MPI``, which are names before MPI is initialised.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mpi4py import MPI

from mooncake_mpi.communicators.references import (
    REPLACEMENTS,
)
from mooncake_mpi.engine import runtime

if TYPE_CHECKING:
    from mooncake_mpi import _native
    from mooncake_mpi.communicators.comm import Comm
    from mooncake_mpi.communicators.intracomm import Intracomm

#: The predefined communicators of ``mooncake_mpi.MPI``, by name: pickled as the names they are.
PREDEFINED: dict[str, Intracomm] = {}


def rebuild(cls: type[Intracomm] | str, name: str, predefined: bool) -> Intracomm:
    """The communicator of that name, for pickle."""
    if predefined and name in PREDEFINED:
        return PREDEFINED[name]
    kind: Any = cls
    if isinstance(cls, str):
        kind = next(kind for kind in REPLACEMENTS.values() if kind.__name__ == cls)
    return cast("Intracomm", kind(getattr(MPI, name)))


def predefined(comm: MPI.Intracomm) -> Intracomm:
    """One of MPI's own communicators for a program whose MPI is ``mooncake_mpi.MPI``.

    Before MPI is initialised it is a name, as mpi4py's; :func:`start_predefined` is for then.
    """
    made = cast("Intracomm", MPI.Comm.__new__(REPLACEMENTS[MPI.Intracomm], comm))
    made._communicator = made._giver = None
    return made


def start_predefined() -> None:
    """Make the predefined communicators known to the engine; collective over all processes."""
    for comm in PREDEFINED.values():
        if comm._communicator is None:
            comm._communicator = runtime.communicator_of(comm)


def start_late(comm: Comm) -> _native.Communicator | None:
    """The engine's side of a communicator whose object is older than MPI's initialisation."""
    if any(comm is known for known in PREDEFINED.values()) and is_running():
        comm._communicator = runtime.communicator_of(cast("Any", comm))
    return comm._communicator


def is_running() -> bool:
    """Whether MPI may be called: it is initialised, and not finalised."""
    return MPI.Is_initialized() and not MPI.Is_finalized()
