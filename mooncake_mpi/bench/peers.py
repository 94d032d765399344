"""The communicators that a benchmark compares: ours, and the MPI library's through mpi4py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

OURS = "mooncake_mpi"


@dataclass(frozen=True)
class Peer:
    """One implementation under test; ``waitall`` is its own ``Request.Waitall``."""

    name: str
    comm: MPI.Intracomm
    waitall: Callable[[list[MPI.Request]], Any]


def library_name(version_text: str) -> str:
    """``"Open MPI 5.0.11"`` from what MPI_Get_library_version says, or its first words."""
    found = re.search(r"(Open MPI|MPICH|Intel\(R\) MPI|MVAPICH)\D*(\d+(?:\.\d+)+)", version_text)
    if found:
        return f"{found.group(1)} {found.group(2)}"
    return " ".join(version_text.split()[:3]) or "MPI"


def make_peers(against: str) -> list[Peer]:
    """Ours first, then the MPI library unless ``against`` is ``"none"``; collective."""
    from mpi4py import MPI

    import mooncake_mpi
    from mooncake_mpi.requests import Request

    ours = mooncake_mpi.Intracomm(MPI.COMM_WORLD)
    peers = [Peer(OURS, ours, Request.Waitall)]
    if against == "mpi":
        theirs = library_name(MPI.Get_library_version())
        peers.append(Peer(theirs, MPI.COMM_WORLD, MPI.Request.Waitall))
    return peers
