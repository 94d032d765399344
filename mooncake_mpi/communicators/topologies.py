"""Communicators with a topology (MPI 4.1, chapter 8)."""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any, cast

from mpi4py import MPI

from mooncake_mpi.communicators.collectives import for_host_memory
from mooncake_mpi.communicators.intracomm import Intracomm, collective
from mooncake_mpi.communicators.references import (
    REPLACEMENTS,
    CommType,
    stands_for_library,
)
from mooncake_mpi.errhandlers import reporting

if TYPE_CHECKING:
    from collections.abc import Sequence


@for_host_memory
@reporting
@stands_for_library
class Cartcomm(Intracomm, MPI.Cartcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Cartcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Cartcomm
    _topology = MPI.CART

    @collective
    def Sub(self, remain_dims: Sequence[bool]) -> Cartcomm:
        """Communicators of the remaining dimensions."""
        return cast("Cartcomm", self._derived(super().Sub, remain_dims))


@for_host_memory
@stands_for_library
class Graphcomm(Intracomm, MPI.Graphcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Graphcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Graphcomm
    _topology = MPI.GRAPH


@for_host_memory
@stands_for_library
class Distgraphcomm(Intracomm, MPI.Distgraphcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Distgraphcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Distgraphcomm
    _topology = MPI.DIST_GRAPH


def _class(name: str) -> type[MPI.Comm]:
    return REPLACEMENTS[getattr(MPI, name)]


def _reduce_class(kind: Any) -> str | tuple[Any, ...]:
    """How pickle finds a class: those here are not what ``mpi4py.MPI`` has under their names."""
    known = REPLACEMENTS.get(kind._library) is kind
    return (_class, (kind._library.__name__,)) if known else cast("str", kind.__qualname__)


copyreg.pickle(CommType, _reduce_class)
