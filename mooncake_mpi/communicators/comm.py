"""Communicators as objects: their point-to-point methods, those of the package's own included.

Called in the program's threads, no lock of its own; what messages need is locked by the engine.
"""

from __future__ import annotations

import copyreg
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mpi4py import MPI

from mooncake_mpi.communicators.collectives import for_host_memory
from mooncake_mpi.communicators.predefined import is_running, start_late
from mooncake_mpi.communicators.references import (
    CommType,
    attach_known,
    refer,
    referring,
    stands_for_library,
)
from mooncake_mpi.communicators.stream_order import StreamOrderMethods
from mooncake_mpi.engine import runtime
from mooncake_mpi.errhandlers import reporting
from mooncake_mpi.errors import make_error
from mooncake_mpi.failures.methods import FailureMethods
from mooncake_mpi.library_requests.messages import give_message
from mooncake_mpi.objects import messages
from mooncake_mpi.objects.messages import Message
from mooncake_mpi.objects.methods import SEND, ObjectMethods
from mooncake_mpi.requests.composites import CompositeRequest, SendAndReceive
from mooncake_mpi.unbound import is_method

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi import _native
    from mooncake_mpi.library_requests.giving import Giver
    from mooncake_mpi.requests.request import Prequest, Request

_Request = TypeVar("_Request", bound="Request")


@for_host_memory
@reporting
@stands_for_library
class Comm(ObjectMethods, FailureMethods, StreamOrderMethods, MPI.Comm, metaclass=CommType):  # type: ignore[misc]
    """An ``mpi4py.MPI.Comm`` with point-to-point messages through the engine.

    Args:
        comm: the communicator to refer to; where the engine does not carry it, the object is one of
            the MPI library, or of a class of the program's with the library's messages. ``None``
            gives a null communicator.
    """

    # Two slots, at a place that the native methods know, in this order.
    __slots__ = ("_communicator", "_giver")
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Comm
    if TYPE_CHECKING:
        _communicator: _native.Communicator | None
        _giver: Giver | None

    def __new__(cls, comm: MPI.Comm | None = None) -> Comm:
        """Refer to ``comm``."""
        if "_library" in cls.__dict__:
            return cast("Comm", refer(cls._library(cast("Any", comm))))
        return cast("Comm", attach_known(MPI.Comm.__new__(_kind_for(cls, comm), cast("Any", comm))))

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

        def Send_init(self, buf: Any, dest: int, tag: int = 0) -> Prequest:  # type: ignore[override]
            """Persistent standard send."""

        def Ssend_init(self, buf: Any, dest: int, tag: int = 0) -> Prequest:  # type: ignore[override]
            """Persistent synchronous send."""

        def Rsend_init(self, buf: Any, dest: int, tag: int = 0) -> Prequest:  # type: ignore[override]
            """Persistent ready send."""

        def Bsend_init(self, buf: Any, dest: int, tag: int = 0) -> Prequest:  # type: ignore[override]
            """Persistent buffered send."""

        def Recv_init(  # type: ignore[override]
            self, buf: Any, source: int = MPI.ANY_SOURCE, tag: int = MPI.ANY_TAG
        ) -> Prequest:
            """Persistent receive."""

        def _isendrecv(self, *args: Any) -> tuple[Request, Request]:
            """Start a send and a receive as one."""

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
        plain.Ibsend(buf, dest, sendtag)  # keeps a copy
        plain.Recv(buf, source, recvtag, status)

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
        both = self._isendrecv(sendbuf, dest, sendtag, recvbuf, source, recvtag)
        return self._given(CompositeRequest(SendAndReceive(*both)))

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

    def _plain(self) -> Comm:
        """The communicator, with the engine's own requests."""
        if self._giver is None:
            return self
        plain = MPI.Comm.__new__(Comm, cast("Any", self))
        plain._communicator, plain._giver = self._communicator, None
        return plain

    def _given(self, request: _Request) -> _Request:
        """What the program gets for ``request``, which receives too."""
        return request if self._giver is None else cast("Any", self._giver(request, not SEND))

    def Psend_init(  # type: ignore[override]
        self,
        buf: Any,
        partitions: int,
        dest: int,
        tag: int = 0,
        info: MPI.Info = MPI.INFO_NULL,  # noqa: ARG002 - the signature is mpi4py's
    ) -> Prequest:
        """A persistent send in ``partitions`` parts (MPI 4.1, section 4.2)."""
        from mooncake_mpi.partitioned.request import psend_init

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
        from mooncake_mpi.partitioned.request import precv_init

        request = precv_init(self._checked_communicator(), buf, partitions, source, tag)
        return self._given(request)

    def Mprobe(  # type: ignore[override]
        self,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message:
        """Wait for a message and take it (MPI 4.1, section 3.8.2)."""
        return self._given_message(Message.Probe(self, source, tag, status))

    def Improbe(  # type: ignore[override]
        self,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message | None:
        """Take a message if one waits (MPI 4.1, section 3.8.2)."""
        message = messages.take(self, source, tag, status, blocking=False)
        return None if message is None else self._given_message(message)

    def _given_message(self, message: Message) -> Message:
        """What the program gets for a message that was taken."""
        return message if self._giver is None else cast("Message", give_message(message))

    def free(self) -> None:
        """Free the communicator; of one that MPI made, the object alone becomes null."""
        super().free()
        if self == MPI.COMM_NULL:
            self._communicator = None

    @classmethod
    def fromhandle(cls, handle: int) -> Any:
        """The communicator of a handle of the MPI library."""
        return refer(cls._library.fromhandle(handle))

    @classmethod
    def fromint(cls, arg: int, /) -> Any:
        """The communicator of a number of the MPI library."""
        return refer(cls._library.fromint(arg))

    @classmethod
    def f2py(cls, arg: int) -> Any:
        """The communicator of a Fortran handle."""
        return refer(cls._library.f2py(arg))

    @classmethod
    def Create_errhandler(cls, errhandler_fn: Callable[[MPI.Comm, int], None]) -> MPI.Errhandler:
        """An error handler of the program's; it is given what a program has for a communicator."""
        return MPI.Comm.Create_errhandler(lambda comm, code: errhandler_fn(refer(comm), code))

    @classmethod
    def Create_keyval(
        cls, copy_fn: Any = None, delete_fn: Any = None, nopython: bool = False
    ) -> int:
        """A key for attributes of communicators; its functions are given the same."""
        return MPI.Comm.Create_keyval(referring(copy_fn), referring(delete_fn), nopython)

    def _checked_communicator(self) -> _native.Communicator:
        known = self._communicator
        if known is None:
            known = self._communicator = runtime.known(self) or start_late(self)
        if known is None and self != MPI.COMM_NULL:
            raise make_error(
                "ERR_COMM",
                "the engine does not carry this communicator: every process of it has to wrap it, "
                "mooncake_mpi.Intracomm(comm)",
            )
        if known is None:
            raise make_error("ERR_COMM", "invalid communicator: it is null or was freed")
        return known


class LibraryComm(Comm):
    """The messages of a communicator that the engine does not carry, in a class of the program's.

    Stands between that class and :class:`Comm`, so that the class's own methods come first and what
    they call of their base is the MPI library's.
    """

    __slots__ = ()
    __module__ = "mpi4py.MPI"
    _messages_in_library = True


def _give_to_library() -> None:
    for name, method in vars(MPI.Comm).items():
        if is_method(MPI.Comm, name) and getattr_static(Comm, name) is not method:
            setattr(LibraryComm, name, method)


_give_to_library()


def _kind_for(kind: type[Comm], comm: MPI.Comm | None) -> type[Comm]:
    """The class of an object of ``kind``, one of the program's, for ``comm``.

    Before MPI runs nobody knows what the engine will carry; methods ask when they are called.
    """
    if issubclass(kind, LibraryComm) or not is_running() or (comm and runtime.known(comm)):
        return kind
    made: type[Comm] | None = kind.__dict__.get("_of_library")
    if made is None:
        names = ("__module__", "__qualname__", "__doc__")
        known = {name: getattr(kind, name) for name in names}
        make: Any = type(kind)
        made = cast(
            "type[Comm]", make(kind.__name__, (kind, LibraryComm), {"__slots__": (), **known})
        )
        kind._of_library = made
    return made


def null_comm() -> MPI.Comm:
    """A null communicator of the library's base class, for pickle."""
    return MPI.Comm()


def _reduce_null(comm: MPI.Comm) -> str | tuple[Any, ...]:
    """How pickle takes one, whose class it may not find under its name."""
    known = comm.__reduce__()
    return (null_comm, ()) if comm == MPI.COMM_NULL and not isinstance(known, str) else known


copyreg.pickle(MPI.Comm, _reduce_null)
