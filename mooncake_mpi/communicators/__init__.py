"""Communicators whose point-to-point messages travel through the engine.

Importing any module of this folder makes all classes of communicators known, to each other and to
what makes objects for the communicators of the MPI library.
"""

from __future__ import annotations

from contextlib import suppress

from mooncake_mpi import config
from mooncake_mpi.communicators.comm import Comm
from mooncake_mpi.communicators.intracomm import Intracomm
from mooncake_mpi.communicators.survivors import SurvivorComm
from mooncake_mpi.communicators.topologies import Cartcomm, Distgraphcomm, Graphcomm
from mooncake_mpi.memory import numpy_memory

__all__ = ["Cartcomm", "Comm", "Distgraphcomm", "Graphcomm", "Intracomm", "SurvivorComm"]

with suppress(config.ConfigError):  # told to every rank when the first communicator is made
    numpy_memory.install_if_set()
