"""Communicators whose point-to-point messages travel through the engine.

They are communicators of mpi4py: whatever is not point-to-point stays the MPI library's.
"""

from __future__ import annotations

from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mpi4py import MPI

from mooncake_mpi import _native, config, derived, library_requests, messages, numpy_memory, runtime
from mooncake_mpi.composites import CompositeRequest, SendAndReceive
from mooncake_mpi.errhandlers import reporting
from mooncake_mpi.errors import make_error
from mooncake_mpi.failures import FailureMethods
from mooncake_mpi.messages import Message
from mooncake_mpi.objects import SEND, ObjectMethods
from mooncake_mpi.statuses import fill_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mooncake_mpi.library_requests import Giver
    from mooncake_mpi.requests import Prequest, Request

_Comm = TypeVar("_Comm", bound=MPI.Comm)
_Method = TypeVar("_Method", bound="Callable[..., Any]")
_Request = TypeVar("_Request", bound="Request")


def _collective(method: _Method) -> _Method:
    """A method that the MPI library must not even begin in a forked child."""

    @wraps(method)
    def call(self: Intracomm, *args: Any, **kwargs: Any) -> Any:
        if _native.left_behind():
            raise make_error("ERR_COMM", _native.LEFT_BEHIND)
        return method(self, *args, **kwargs)

    return cast("_Method", call)


@reporting
class Intracomm(ObjectMethods, FailureMethods, MPI.Intracomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Intracomm`` with point-to-point messages through the engine.

    Creating one is collective over ``comm``; wrapping the same communicator again gives the same
    matching space, a duplicate has one of its own.

    Args:
        comm: the communicator to wrap; ``None`` gives a null communicator.

    Raises:
        TypeError: an intercommunicator.
        Error: ``ERR_OTHER`` where a process cannot start its engine.
    """

    # Two slots, at a place that the native methods know, in this order.
    __slots__ = ("_communicator", "_giver")
    __module__ = "mpi4py.MPI"  # programs look for it there
    _topology: int | None = None
    if TYPE_CHECKING:
        _communicator: _native.Communicator | None
        _giver: Giver | None

    def __new__(cls, comm: MPI.Comm | None = None) -> Intracomm:
        """Wrap ``comm``, collectively.

        A program that wraps a communicator by hand has mpi4py's own names beside it, whose requests
        are the MPI library's: so are those of this communicator, as well as the engine's.
        """
        if comm is not None and comm != MPI.COMM_NULL and comm.Is_inter():
            raise TypeError("expecting an intracommunicator")
        if comm is not None and cls._topology is not None and comm != MPI.COMM_NULL:
            topology = comm.Get_topology()
            if topology != cls._topology:
                raise TypeError(f"expecting a communicator of the topology of {cls.__name__}")
        # Not super(): of a class with two mpi4py bases the interpreter takes the first one's only.
        return _attach(MPI.Intracomm.__new__(cls, cast("Any", comm)), library_requests.giver())

    def __reduce__(self) -> str | tuple[Any, ...]:
        for name in ("COMM_WORLD", "COMM_SELF", "COMM_NULL"):
            if self == getattr(MPI, name):
                kind = type(self)
                # Which class mpi4py's name means depends on how the program was started.
                known = kind.__name__ if kind in _REPLACEMENTS.values() else kind
                return (_rebuild, (known, name, PREDEFINED.get(name) is self))
        return super().__reduce__()

    if TYPE_CHECKING:
        # Put on the class by the native module: no Python frame between the caller and the engine.
        def Isend(self, buf: Any, dest: int, tag: int = 0) -> Request:  # type: ignore[override]
            """Non-blocking send."""

        def Issend(self, buf: Any, dest: int, tag: int = 0) -> Request:  # type: ignore[override]
            """Non-blocking synchronous send."""

        def Irsend(self, buf: Any, dest: int, tag: int = 0) -> Request:  # type: ignore[override]
            """Non-blocking ready send."""

        def Ibsend(self, buf: Any, dest: int, tag: int = 0) -> Request:  # type: ignore[override]
            """Non-blocking buffered send."""

        def Irecv(  # type: ignore[override]
            self, buf: Any, source: int = MPI.ANY_SOURCE, tag: int = MPI.ANY_TAG
        ) -> Request:
            """Non-blocking receive."""

    def Sendrecv_replace(
        self,
        buf: Any,
        dest: int,
        sendtag: int = 0,
        source: int = MPI.ANY_SOURCE,
        recvtag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> None:
        """Send ``buf`` and receive into it (MPI 4.1, section 3.10)."""
        plain = self._plain()
        send = plain.Ibsend(buf, dest, sendtag)  # keeps a copy
        receive = plain.Irecv(buf, source, recvtag)
        try:
            CompositeRequest(SendAndReceive(send, receive)).Wait(status)
        except BaseException:
            _native.give_up(receive)
            raise

    def Isendrecv(  # type: ignore[override]
        self,
        sendbuf: Any,
        dest: int,
        sendtag: int = 0,
        recvbuf: Any = None,
        source: int = MPI.ANY_SOURCE,
        recvtag: int = MPI.ANY_TAG,
    ) -> Request:
        """Start a send and a receive that complete as one request."""
        plain = self._plain()
        receive = plain.Irecv(recvbuf, source, recvtag)
        return self._given(self._with_send(plain.Isend, sendbuf, dest, sendtag, receive))

    def Isendrecv_replace(  # type: ignore[override]
        self,
        buf: Any,
        dest: int,
        sendtag: int = 0,
        source: int = MPI.ANY_SOURCE,
        recvtag: int = MPI.ANY_TAG,
    ) -> Request:
        """Start sending a copy of ``buf`` and receiving into ``buf``."""
        # The copy is made before the receive may overwrite it; a buffered send keeps it.
        plain = self._plain()
        send = plain.Ibsend(buf, dest, sendtag)
        receive = plain.Irecv(buf, source, recvtag)
        return self._given(CompositeRequest(SendAndReceive(send, receive)))

    def _plain(self) -> Intracomm:
        """The communicator, with the engine's own requests."""
        if self._giver is None:
            return self
        plain = MPI.Intracomm.__new__(Intracomm, cast("Any", self))
        plain._communicator, plain._giver = self._communicator, None
        return plain

    def _given(self, request: _Request) -> _Request:
        """What the program gets for ``request``, which receives too."""
        return request if self._giver is None else cast("Any", self._giver(request, not SEND))

    def _with_send(
        self, start: Any, buf: Any, dest: int, tag: int, receive: Request
    ) -> CompositeRequest:
        try:
            send = start(buf, dest, tag)
        except BaseException:
            receive.Cancel()
            receive.Free()
            raise
        return CompositeRequest(SendAndReceive(send, receive))

    def Psend_init(  # type: ignore[override]
        self,
        buf: Any,
        partitions: int,
        dest: int,
        tag: int = 0,
        info: MPI.Info = MPI.INFO_NULL,  # noqa: ARG002 - the signature is mpi4py's
    ) -> Prequest:
        """A persistent send in ``partitions`` parts (MPI 4.1, section 4.2)."""
        from mooncake_mpi.partitioned import psend_init

        return self._given(psend_init(self._checked_communicator(), buf, partitions, dest, tag))

    def Precv_init(  # type: ignore[override]
        self,
        buf: Any,
        partitions: int,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        info: MPI.Info = MPI.INFO_NULL,  # noqa: ARG002 - the signature is mpi4py's
    ) -> Prequest:
        """A persistent receive in ``partitions`` parts (MPI 4.1, section 4.2)."""
        from mooncake_mpi.partitioned import precv_init

        request = precv_init(self._checked_communicator(), buf, partitions, source, tag)
        return self._given(request)

    def Mprobe(  # type: ignore[override]
        self,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message:
        """Wait for a message and take it (MPI 4.1, section 3.8.2)."""
        return Message.Probe(self, source, tag, status)

    def Improbe(  # type: ignore[override]
        self,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message | None:
        """Take a message if one waits (MPI 4.1, section 3.8.2)."""
        return messages.take(self, source, tag, status, blocking=False)

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
        made = _replaced(comm)
        if isinstance(made, Intracomm):
            made._communicator, made._giver = communicator, self._giver
        return made

    def free(self) -> None:
        """Free the communicator unless it is null or one that MPI made."""
        if self not in (MPI.COMM_WORLD, MPI.COMM_SELF):
            super().free()

    @classmethod
    def fromhandle(cls, handle: int) -> Any:
        """The communicator of a handle of the MPI library; as wrapping one, collective."""
        return _accelerate(MPI.Intracomm.fromhandle(handle))

    @classmethod
    def fromint(cls, arg: int, /) -> Any:
        """The communicator of a number of the MPI library."""
        return _accelerate(MPI.Intracomm.fromint(arg))

    @classmethod
    def f2py(cls, arg: int) -> Any:
        """The communicator of a Fortran handle."""
        return _accelerate(MPI.Intracomm.f2py(arg))

    def _checked_communicator(self) -> _native.Communicator:
        if self._communicator is None:
            raise make_error("ERR_COMM", "invalid communicator: it is null or was freed")
        return self._communicator


@reporting
class Cartcomm(Intracomm, MPI.Cartcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Cartcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _topology = MPI.CART

    @_collective
    def Sub(self, remain_dims: Sequence[bool]) -> Any:
        """Communicators of the remaining dimensions."""
        return self._derived(super().Sub(remain_dims))


class Graphcomm(Intracomm, MPI.Graphcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Graphcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _topology = MPI.GRAPH


class Distgraphcomm(Intracomm, MPI.Distgraphcomm):  # type: ignore[misc]
    """An ``mpi4py.MPI.Distgraphcomm`` with point-to-point messages through the engine."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    _topology = MPI.DIST_GRAPH


Accelerated = Intracomm

_REPLACEMENTS: dict[type, type[Intracomm]] = {
    MPI.Intracomm: Intracomm,
    MPI.Cartcomm: Cartcomm,
    MPI.Graphcomm: Graphcomm,
    MPI.Distgraphcomm: Distgraphcomm,
}


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
    made = _replaced(comm)
    return _attach(made, giver) if isinstance(made, Intracomm) else made


def _replaced(comm: Any) -> Any:
    """``comm`` as an object of the class that stands for its own, which knows no engine yet."""
    if not isinstance(comm, Intracomm):
        for library, ours in _REPLACEMENTS.items():
            if type(comm) is library:
                return MPI.Intracomm.__new__(ours, cast("Any", comm))
    return comm


def accelerated(comm: MPI.Intracomm) -> Intracomm:
    """``comm`` for a program whose MPI is ``mooncake_mpi.MPI``; collective."""
    return cast("Intracomm", _accelerate(comm))


#: The predefined communicators of ``mooncake_mpi.MPI``, by name: pickled as the names they are.
PREDEFINED: dict[str, Intracomm] = {}


def _rebuild(cls: type[Intracomm] | str, name: str, predefined: bool) -> Intracomm:
    if predefined and name in PREDEFINED:
        return PREDEFINED[name]
    if isinstance(cls, str):
        cls = next(kind for kind in _REPLACEMENTS.values() if kind.__name__ == cls)
    return cls(cast("Any", getattr(MPI, name)))


def _install() -> None:
    offset = MPI.Intracomm.__basicsize__
    if Intracomm.__basicsize__ != offset + 16:
        raise ImportError("mpi4py lays out communicators in a way that this version does not know")
    _native.install(Intracomm, offset)


_install()
with suppress(config.ConfigError):  # told to every rank when the first communicator is made
    numpy_memory.install_if_set()
