"""Communicators whose point-to-point messages travel through the engine.

Called in the program's threads, no lock of its own. They are communicators of mpi4py: whatever is
not point-to-point stays the MPI library's.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.communicators import derived
from mooncake_mpi.communicators.collectives import for_host_memory
from mooncake_mpi.communicators.comm import Comm
from mooncake_mpi.communicators.duplication import Duplication
from mooncake_mpi.communicators.intercomm import Intercomm, everywhere
from mooncake_mpi.communicators.predefined import PREDEFINED, is_running, rebuild
from mooncake_mpi.communicators.references import (
    REPLACEMENTS,
    accelerate,
    attach,
    is_ours,
    replaced,
    stands_for_library,
)
from mooncake_mpi.errhandlers import report, reporting
from mooncake_mpi.errors import Error, make_error
from mooncake_mpi.interruptions import certain_all
from mooncake_mpi.library_requests.giving import giver
from mooncake_mpi.requests.composites import CompositeRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from mooncake_mpi.communicators.topologies import Cartcomm, Distgraphcomm, Graphcomm
    from mooncake_mpi.requests.request import Request

_Method = TypeVar("_Method", bound="Callable[..., Any]")


def collective(method: _Method) -> _Method:
    """A method that the MPI library must not even begin in a forked child; errors are reported."""

    @wraps(method)
    def call(self: Intracomm, *args: Any, **kwargs: Any) -> Any:
        if _native.left_behind():
            raise make_error("ERR_COMM", _native.LEFT_BEHIND)
        try:
            return method(self, *args, **kwargs)
        except Error as error:
            report(error, self)
            raise

    call.is_reported = True  # type: ignore[attr-defined]
    return cast("_Method", call)


@for_host_memory
@reporting
@stands_for_library
class Intracomm(Comm, MPI.Intracomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Intracomm`` with point-to-point messages through the engine.

    Creating one is collective over ``comm``; wrapping the same communicator again gives the same
    matching space, a duplicate has one of its own.

    Args:
        comm: the communicator to wrap; ``None`` gives a null communicator.

    Raises:
        TypeError: an intercommunicator.
        Error: ``ERR_OTHER`` where a process cannot start its engine.
    """

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Intracomm
    _topology: int | None = None

    def __new__(cls, comm: MPI.Comm | None = None) -> Intracomm:
        """Wrap ``comm``, collectively.

        A program that wraps a communicator by hand has mpi4py's own names beside it, whose requests
        are the MPI library's: so are those of this communicator, as well as the engine's.
        """
        if comm is None:
            null = MPI.Comm.__new__(cls)
            null._communicator = null._giver = None
            return null
        if comm != MPI.COMM_NULL and comm.Is_inter():
            raise TypeError("expecting an intracommunicator")
        if cls._topology is not None and comm != MPI.COMM_NULL:
            topology = comm.Get_topology()
            if topology != cls._topology:
                raise TypeError(f"expecting a communicator of the topology of {cls.__name__}")
        # Not super(): of a class with two mpi4py bases the interpreter takes the first one's only.
        return attach(MPI.Comm.__new__(cls, cast("Any", comm)), giver())

    def __reduce__(self) -> str | tuple[Any, ...]:
        for name in ("COMM_WORLD", "COMM_SELF", "COMM_NULL"):
            if self == getattr(MPI, name):
                kind = type(self)
                # Which class mpi4py's name means depends on how the program was started.
                known = kind.__name__ if kind in REPLACEMENTS.values() else kind
                return (rebuild, (known, name, PREDEFINED.get(name) is self))
        return super().__reduce__()

    # --- communicators made from this one ---

    @collective
    def Dup(self, info: MPI.Info | None = None) -> Self:
        """A duplicate with a matching space of its own."""
        return cast("Self", self._duplicated(super().Dup, info))

    @collective
    def Dup_with_info(self, info: MPI.Info) -> Self:
        """A duplicate with hints."""
        return cast("Self", self._duplicated(super().Dup_with_info, info))

    @collective
    def Clone(self) -> Self:
        """As :meth:`Dup`."""
        return cast("Self", self._duplicated(super().Clone))

    @collective
    def Idup(  # type: ignore[override]
        self, info: MPI.Info | None = None
    ) -> tuple[Self, Request]:
        """Start duplicating: the communicator is usable when the request is complete."""
        return cast("tuple[Self, Request]", self._idup(*super().Idup(info)))

    @collective
    def Idup_with_info(  # type: ignore[override]
        self, info: MPI.Info
    ) -> tuple[Self, Request]:
        """Start duplicating with hints."""
        return cast("tuple[Self, Request]", self._idup(*super().Idup_with_info(info)))

    def _idup(self, comm: Any, request: MPI.Request) -> tuple[Any, Request]:
        comm._giver = self._giver
        return comm, self._given(CompositeRequest(Duplication(self, comm, request)))

    @collective
    def Create(self, group: MPI.Group) -> Intracomm:
        """A communicator of ``group``."""
        return cast("Intracomm", self._derived(super().Create, group))

    @collective
    def Create_group(self, group: MPI.Group, tag: int = 0) -> Intracomm:
        """A communicator of ``group``, by its members alone."""
        return cast("Intracomm", accelerate(super().Create_group(group, tag), self._giver))

    @collective
    def Split(self, color: int = 0, key: int = 0) -> Intracomm:
        """Communicators of the processes of equal ``color``, ordered by ``key``."""
        return cast("Intracomm", self._derived(super().Split, color, key))

    @collective
    def Split_type(
        self, split_type: int, key: int = 0, info: MPI.Info = MPI.INFO_NULL
    ) -> Intracomm:
        """Communicators of processes of one kind, such as those of one node."""
        return cast("Intracomm", self._derived(super().Split_type, split_type, key, info))

    @collective
    def Create_cart(
        self, dims: Sequence[int], periods: Sequence[bool] | None = None, reorder: bool = False
    ) -> Cartcomm:
        """A communicator with a Cartesian topology."""
        return cast("Cartcomm", self._derived(super().Create_cart, dims, periods, reorder))

    @collective
    def Create_graph(
        self, index: Sequence[int], edges: Sequence[int], reorder: bool = False
    ) -> Graphcomm:
        """A communicator with a graph topology."""
        return cast("Graphcomm", self._derived(super().Create_graph, index, edges, reorder))

    @collective
    def Create_dist_graph_adjacent(
        self,
        sources: Sequence[int],
        destinations: Sequence[int],
        sourceweights: Sequence[int] | None = None,
        destweights: Sequence[int] | None = None,
        info: MPI.Info = MPI.INFO_NULL,
        reorder: bool = False,
    ) -> Distgraphcomm:
        """A communicator with a distributed graph topology, by neighbours."""
        made = self._derived(
            super().Create_dist_graph_adjacent,
            *(sources, destinations, sourceweights, destweights, info, reorder),
        )
        return cast("Distgraphcomm", made)

    @collective
    def Create_dist_graph(
        self,
        sources: Sequence[int],
        degrees: Sequence[int],
        destinations: Sequence[int],
        weights: Sequence[int] | None = None,
        info: MPI.Info = MPI.INFO_NULL,
        reorder: bool = False,
    ) -> Distgraphcomm:
        """A communicator with a distributed graph topology."""
        made = self._derived(
            super().Create_dist_graph, sources, degrees, destinations, weights, info, reorder
        )
        return cast("Distgraphcomm", made)

    def _derived(self, make: Callable[..., Any], *given: Any) -> Any:
        """What the library makes of members of this one, accelerated.

        The other processes wait in the same two steps: only behind those an interruption is raised.
        """
        derivation = derived.Derivation(self, self._checked_communicator())
        comm, interruption = derivation.run(partial(make, *given))
        return self._given_side(comm, derivation.communicator, interruption)

    def _duplicated(self, make: Callable[..., Any], *given: Any) -> Any:
        """As :meth:`_derived`, of the same members.

        What is taken of the spares is what the other processes take for the same duplicate: nothing
        may come between it, the library's call, and the exchange where there is one.
        """
        known = self._communicator
        if known is None:
            known = self._checked_communicator()
        if not known.has_spares:
            return self._duplicated_with_spares(known, make, *given)
        results: list[Any] = []
        try:
            interruption = certain_all(results, (known.take_spare, partial(make, *given)))
        except MPI.Exception:  # the other processes have taken it, too
            raise
        except BaseException:  # no call comes before this one: a handler would raise behind it
            if results and not results[1:]:
                known.put_back(results[0])
            raise
        spare, comm = results
        return self._given_side(comm, derived.duplicate(comm, spare), interruption)

    def _duplicated_with_spares(
        self, known: _native.Communicator, make: Callable[..., Any], *given: Any
    ) -> Any:
        exchange = derived.Exchange(self, known)
        results: list[Any] = []
        interruption = certain_all(results, (partial(make, *given), *exchange.calls))
        comm, *_, spare = results
        if spare is None:
            exchange.refuse(comm, interruption)
        return self._given_side(comm, derived.duplicate(comm, spare), interruption)

    def _given_side(self, comm: Any, communicator: Any, interruption: BaseException | None) -> Any:
        if interruption is not None:
            raise interruption
        made = replaced(comm)
        if is_ours(made):
            made._communicator, made._giver = communicator, self._giver
        return made

    def free(self) -> None:
        """Free the communicator; of one that MPI made, the object alone unless it is the name."""
        if not any(self is name for name in PREDEFINED.values()):
            super().free()

    # --- intercommunicators ---

    @collective
    def Create_intercomm(
        self, local_leader: int, peer_comm: MPI.Intracomm, remote_leader: int, tag: int = 0
    ) -> Any:
        """An intercommunicator; its messages are the MPI library's, what it merges to is not."""
        made = super().Create_intercomm(local_leader, peer_comm, remote_leader, tag)
        return MPI.Intercomm.__new__(Intercomm, made) if everywhere() else made

    @classmethod
    def Create_from_group(
        cls,
        group: MPI.Group,
        stringtag: str = "org.mpi4py",
        info: MPI.Info = MPI.INFO_NULL,
        errhandler: MPI.Errhandler | None = None,
    ) -> Intracomm:
        """A communicator of ``group``, such as one of a session, by its members."""
        made = MPI.Intracomm.Create_from_group(group, stringtag, info, errhandler)
        return cast("Intracomm", accelerate(made, giver()) if is_running() else made)
