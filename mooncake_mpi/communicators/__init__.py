"""Communicators whose point-to-point messages travel through the engine.

Importing any module of this folder makes all classes of communicators known, to each other and to
what makes objects for the communicators of the MPI library.
"""

from __future__ import annotations

from mooncake_mpi.communicators.comm import Comm
from mooncake_mpi.communicators.intracomm import Intracomm
from mooncake_mpi.communicators.survivors import SurvivorComm

__all__ = ["Comm", "Intracomm", "SurvivorComm"]
