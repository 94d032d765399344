"""Communicators with a topology (MPI 4.1, chapter 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mooncake_mpi.communicators.intracomm import Intracomm, collective
from mooncake_mpi.communicators.references import (
    stands_for_library,
)
from mooncake_mpi.errhandlers import reporting

if TYPE_CHECKING:
    from collections.abc import Sequence


@reporting
@stands_for_library
class Cartcomm(Intracomm, MPI.Cartcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Cartcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Cartcomm
    _topology = MPI.CART

    @collective
    def Sub(self, remain_dims: Sequence[bool]) -> Any:
        """Communicators of the remaining dimensions."""
        return self._derived(super().Sub(remain_dims))


@stands_for_library
class Graphcomm(Intracomm, MPI.Graphcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Graphcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Graphcomm
    _topology = MPI.GRAPH


@stands_for_library
class Distgraphcomm(Intracomm, MPI.Distgraphcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Distgraphcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Distgraphcomm
    _topology = MPI.DIST_GRAPH
