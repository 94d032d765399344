"""Communicators whose point-to-point messages travel through the engine.

They are communicators of mpi4py: whatever is not point-to-point stays the MPI library's.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mpi4py import MPI

from mooncake_mpi import _native, config
from mooncake_mpi.communicators import derived
from mooncake_mpi.communicators.comm import (
    REPLACEMENTS,
    Comm,
    install,
    is_ours,
    replaced,
    set_late_start,
)
from mooncake_mpi.engine import runtime
from mooncake_mpi.errhandlers import reporting
from mooncake_mpi.errors import make_error
from mooncake_mpi.library_requests.handles import giver
from mooncake_mpi.memory import numpy_memory
from mooncake_mpi.requests.composites import CompositeRequest
from mooncake_mpi.requests.statuses import fill_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mooncake_mpi.library_requests.handles import Giver
    from mooncake_mpi.requests.request import Request

_Comm = TypeVar("_Comm", bound=MPI.Comm)
_Method = TypeVar("_Method", bound="Callable[..., Any]")


def _collective(method: _Method) -> _Method:
    """A method that the MPI library must not even begin in a forked child."""

    @wraps(method)
    def call(self: Intracomm, *args: Any, **kwargs: Any) -> Any:
        if _native.left_behind():
            raise make_error("ERR_COMM", _native.LEFT_BEHIND)
        return method(self, *args, **kwargs)

    return cast("_Method", call)


@reporting
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
        return _attach(MPI.Comm.__new__(cls, cast("Any", comm)), giver())

    def __reduce__(self) -> str | tuple[Any, ...]:
        for name in ("COMM_WORLD", "COMM_SELF", "COMM_NULL"):
            if self == getattr(MPI, name):
                kind = type(self)
                # Which class mpi4py's name means depends on how the program was started.
                known = kind.__name__ if kind in REPLACEMENTS.values() else kind
                return (_rebuild, (known, name, PREDEFINED.get(name) is self))
        return super().__reduce__()

    # --- communicators made from this one ---

    @_collective
    def Dup(self, info: MPI.Info | None = None) -> Any:
        """A duplicate with a matching space of its own."""
        return self._derived(super().Dup(info), same_group=True)

    @_collective
    def Dup_with_info(self, info: MPI.Info) -> Any:
        """A duplicate with hints."""
        return self._derived(super().Dup_with_info(info), same_group=True)

    @_collective
    def Clone(self) -> Any:
        """As :meth:`Dup`."""
        return self._derived(super().Clone(), same_group=True)

    @_collective
    def Idup(self, info: MPI.Info | None = None) -> Any:
        """Start duplicating: the communicator is usable when the request is complete."""
        return self._idup(*super().Idup(info))

    @_collective
    def Idup_with_info(self, info: MPI.Info) -> Any:
        """Start duplicating with hints."""
        return self._idup(*super().Idup_with_info(info))

    def _idup(self, comm: Any, request: MPI.Request) -> tuple[Any, Request]:
        comm._giver = self._giver
        return comm, self._given(CompositeRequest(_Duplication(self, comm, request)))

    @_collective
    def Create(self, group: MPI.Group) -> Any:
        """A communicator of ``group``."""
        return self._derived(super().Create(group))

    @_collective
    def Create_group(self, group: MPI.Group, tag: int = 0) -> Any:
        """A communicator of ``group``, by its members alone."""
        return _accelerate(super().Create_group(group, tag), self._giver)

    @_collective
    def Split(self, color: int = 0, key: int = 0) -> Any:
        """Communicators of the processes of equal ``color``, ordered by ``key``."""
        return self._derived(super().Split(color, key))

    @_collective
    def Split_type(self, split_type: int, key: int = 0, info: MPI.Info = MPI.INFO_NULL) -> Any:
        """Communicators of processes of one kind, such as those of one node."""
        return self._derived(super().Split_type(split_type, key, info))

    @_collective
    def Create_cart(
        self, dims: Sequence[int], periods: Sequence[bool] | None = None, reorder: bool = False
    ) -> Any:
        """A communicator with a Cartesian topology."""
        return self._derived(super().Create_cart(dims, periods, reorder))

    @_collective
    def Create_graph(
        self, index: Sequence[int], edges: Sequence[int], reorder: bool = False
    ) -> Any:
        """A communicator with a graph topology."""
        return self._derived(super().Create_graph(index, edges, reorder))

    @_collective
    def Create_dist_graph_adjacent(self, *args: Any, **kwargs: Any) -> Any:
        """A communicator with a distributed graph topology, by neighbours."""
        return self._derived(super().Create_dist_graph_adjacent(*args, **kwargs))

    @_collective
    def Create_dist_graph(self, *args: Any, **kwargs: Any) -> Any:
        """A communicator with a distributed graph topology."""
        return self._derived(super().Create_dist_graph(*args, **kwargs))

    def _derived(self, comm: Any, *, same_group: bool = False) -> Any:
        """``comm``, which the library has just made of members of this one, accelerated."""
        parent = self._checked_communicator()
        communicator = derived.derived(self, parent, comm, same_group=same_group)
        made = replaced(comm)
        if is_ours(made):
            made._communicator, made._giver = communicator, self._giver
        return made

    def free(self) -> None:
        """Free the communicator; of one that MPI made, the object alone unless it is the name."""
        if not any(self is name for name in PREDEFINED.values()):
            super().free()

    # --- intercommunicators ---

    @_collective
    def Create_intercomm(
        self, local_leader: int, peer_comm: MPI.Intracomm, remote_leader: int, tag: int = 0
    ) -> Any:
        """An intercommunicator; its messages are the MPI library's, what it merges to is not."""
        made = super().Create_intercomm(local_leader, peer_comm, remote_leader, tag)
        return MPI.Intercomm.__new__(Intercomm, made) if _everywhere() else made

    @classmethod
    def Create_from_group(
        cls,
        group: MPI.Group,
        stringtag: str = "org.mpi4py",
        info: MPI.Info = MPI.INFO_NULL,
        errhandler: MPI.Errhandler | None = None,
    ) -> Any:
        """A communicator of ``group``, such as one of a session, by its members."""
        made = MPI.Intracomm.Create_from_group(group, stringtag, info, errhandler)
        return _accelerate(made, giver()) if is_running() else made


@reporting
class Cartcomm(Intracomm, MPI.Cartcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Cartcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Cartcomm
    _topology = MPI.CART

    @_collective
    def Sub(self, remain_dims: Sequence[bool]) -> Any:
        """Communicators of the remaining dimensions."""
        return self._derived(super().Sub(remain_dims))


class Graphcomm(Intracomm, MPI.Graphcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Graphcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Graphcomm
    _topology = MPI.GRAPH


class Distgraphcomm(Intracomm, MPI.Distgraphcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Distgraphcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Distgraphcomm
    _topology = MPI.DIST_GRAPH


class Intercomm(MPI.Intercomm):
    """An intercommunicator whose processes all run programs on this package."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"

    def Merge(self, high: bool = False) -> Any:
        """An intracommunicator of both groups."""
        return _accelerate(super().Merge(high))


REPLACEMENTS.update(
    {
        MPI.Intracomm: Intracomm,
        MPI.Cartcomm: Cartcomm,
        MPI.Graphcomm: Graphcomm,
        MPI.Distgraphcomm: Distgraphcomm,
    }
)


class _Duplication:
    """The driver of ``Idup``: the duplication, and the exchange of addresses beside it."""

    __slots__ = ("_comm", "_duplicate", "_entries", "_requests")

    def __init__(self, parent: Intracomm, comm: Any, request: MPI.Request) -> None:
        self._comm = comm
        self._duplicate = derived.Duplicate(parent._checked_communicator())
        entry = self._duplicate.entry
        self._entries = bytearray(len(entry) * parent.Get_size())
        # On the parent, whose group is the same: the duplicate cannot be used yet.
        exchange = MPI.Intracomm.Iallgather(parent, [entry, MPI.BYTE], [self._entries, MPI.BYTE])
        self._requests = [request, exchange]

    def _poll(self) -> bool:
        self._requests = [request for request in self._requests if not request.Test()]
        return not self._requests

    def _pending(self) -> Sequence[MPI.Request]:
        return self._requests

    def _complete(self, status: MPI.Status | None) -> None:
        if status is not None:
            fill_empty(status)
        self._comm._communicator = self._duplicate.join(self._comm, self._entries)

    def _look(self, status: MPI.Status) -> None:
        fill_empty(status)

    def _leave(self) -> None:
        _left.append(self)  # what the MPI library writes to

    def _cancel(self) -> None:
        """Nothing: a collective operation is not cancelled."""


_left: list[_Duplication] = []


def _attach(comm: _Comm, giver: Giver | None) -> _Comm:
    null = comm == MPI.COMM_NULL
    cast("Any", comm)._communicator = None if null else runtime.communicator_of(cast("Any", comm))
    cast("Any", comm)._giver = giver
    return comm


def _accelerate(comm: Any, giver: Giver | None = None) -> Any:
    """An accelerated communicator for one that the MPI library has just made."""
    made = replaced(comm)
    return _attach(made, giver) if is_ours(made) else made


def _everywhere() -> bool:
    """Whether the program has this package's communicators alone, by whatever name."""
    return sys.modules.get("mpi4py.MPI") is not MPI


#: The predefined communicators of ``mooncake_mpi.MPI``, by name: pickled as the names they are.
PREDEFINED: dict[str, Intracomm] = {}


def _rebuild(cls: type[Intracomm] | str, name: str, predefined: bool) -> Intracomm:
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
    made = MPI.Comm.__new__(Intracomm, comm)
    made._communicator = made._giver = None
    return made


def start_predefined() -> None:
    """Make the predefined communicators known to the engine; collective over all processes."""
    for comm in PREDEFINED.values():
        if comm._communicator is None:
            comm._communicator = runtime.communicator_of(comm)


def _start_late(comm: Comm) -> _native.Communicator | None:
    if any(comm is known for known in PREDEFINED.values()) and is_running():
        comm._communicator = runtime.communicator_of(cast("Any", comm))
    return comm._communicator


def is_running() -> bool:
    """Whether MPI may be called: it is initialised, and not finalised."""
    return MPI.Is_initialized() and not MPI.Is_finalized()


for _kind in REPLACEMENTS.values():
    install(_kind)
set_late_start(_start_late)
with suppress(config.ConfigError):  # told to every rank when the first communicator is made
    numpy_memory.install_if_set()
