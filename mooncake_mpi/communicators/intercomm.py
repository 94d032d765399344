"""Intercommunicators, whose messages are the MPI library's."""

from __future__ import annotations

import sys
from typing import Any

from mpi4py import MPI

from mooncake_mpi.communicators.references import (
    accelerate,
)


class Intercomm(MPI.Intercomm):
    """An intercommunicator whose processes all run programs on this package."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"

    def Merge(self, high: bool = False) -> Any:
        """An intracommunicator of both groups."""
        return accelerate(super().Merge(high))


def everywhere() -> bool:
    """Whether the program has this package's communicators alone, by whatever name."""
    return sys.modules.get("mpi4py.MPI") is not MPI
