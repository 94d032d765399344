"""Messages taken by a matched probe (MPI 4.1, section 3.8.2), with mpi4py's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mpi4py import MPI

from mooncake_mpi import _native, objects
from mooncake_mpi.errors import make_error
from mooncake_mpi.statuses import fill_status
from mooncake_mpi.unbound import dispatching

if TYPE_CHECKING:
    from mooncake_mpi.intracomm import Accelerated
    from mooncake_mpi.requests import Request


_LIBRARY_CONSTANTS = (MPI.MESSAGE_NULL, MPI.MESSAGE_NO_PROC)


class _MessageType(dispatching(MPI.Message), type):  # type: ignore[misc]
    """Makes messages of the MPI library instances of the class that replaces theirs."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (
            cls.__base__ is object and isinstance(instance, MPI.Message)
        )


class Message(metaclass=_MessageType):
    """A message that was matched and waits to be received, exactly once.

    ``bool(message)`` is false once it was received.
    """

    __slots__ = ("__weakref__", "_matched", "_no_proc")

    def __init__(self, message: Message | MPI.Message | None = None) -> None:
        own = type.__instancecheck__(Message, message)
        if message is not None and not own and message not in _LIBRARY_CONSTANTS:
            raise TypeError(f"expected a Message, got {type(message).__name__}")
        self._matched: _native.MatchedMessage | None = getattr(message, "_matched", None)
        self._no_proc: bool = getattr(message, "_no_proc", message == MPI.MESSAGE_NO_PROC)

    def __bool__(self) -> bool:
        return self._no_proc or (self._matched is not None and not self._matched.received)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MPI.Message):
            return self._no_proc == (other == MPI.MESSAGE_NO_PROC) and bool(self) == bool(other)
        if not type.__instancecheck__(Message, other):
            return NotImplemented
        other = cast("Message", other)
        if not self or not other:
            return not self and not other
        return self._no_proc == other._no_proc and self._matched is other._matched

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        if self._matched is not None and self:
            raise ValueError("cannot pickle a message that is not received")
        return (_rebuild, (type(self), self._no_proc))

    @property
    def handle(self) -> int:
        """A number that no other live message has; the library's for the null message."""
        return id(self) if self else MPI.MESSAGE_NULL.handle

    def toint(self) -> int:
        """The library's number of the null message; -1 for others, which it does not know."""
        return -1 if self else MPI.MESSAGE_NULL.toint()

    def py2f(self) -> int:
        """As :meth:`toint`, the Fortran handle."""
        return -1 if self else MPI.MESSAGE_NULL.py2f()

    @classmethod
    def fromhandle(cls, handle: int) -> Message | MPI.Message:
        """The library's message of that handle."""
        return cls._of_library(MPI.Message.fromhandle(handle))

    @classmethod
    def fromint(cls, arg: int, /) -> Message | MPI.Message:
        """The library's message of that number."""
        return cls._of_library(MPI.Message.fromint(arg))

    @classmethod
    def f2py(cls, arg: int) -> Message | MPI.Message:
        """The library's message of that Fortran handle."""
        return cls._of_library(MPI.Message.f2py(arg))

    @classmethod
    def _of_library(cls, message: MPI.Message) -> Message | MPI.Message:
        return message or cls()

    def free(self) -> None:
        """Do nothing: a message is freed by receiving it."""

    @classmethod
    def Probe(
        cls,
        comm: Accelerated,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message:
        """Wait for a message of ``comm`` and take it."""
        return cast("Message", take(comm, source, tag, status, blocking=True))

    @classmethod
    def Iprobe(
        cls,
        comm: Accelerated,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message | None:
        """Take a message of ``comm`` if one waits."""
        return take(comm, source, tag, status, blocking=False)

    probe = Probe
    iprobe = Iprobe

    def Recv(self, buf: Any, status: MPI.Status | None = None) -> None:
        """Receive the message into ``buf``.

        Raises:
            Error: ``ERR_TRUNCATE`` if it is longer, ``ERR_REQUEST`` if it was received already.
        """
        self.Irecv(buf).Wait(status)

    def Irecv(self, buf: Any) -> Request:
        """Start receiving the message into ``buf``."""
        if self._no_proc:
            return self._nothing()
        return _native.message_recv(self._take(), buf)

    def recv(self, status: MPI.Status | None = None) -> Any:
        """Receive the message as an object."""
        if self._no_proc:
            return self._nothing().wait(status)
        return objects.receive_message(self._take(), status)

    def irecv(self) -> Request:
        """Start receiving the message as an object."""
        return self._nothing() if self._no_proc else objects.post_message(self._take())

    def _take(self) -> _native.MatchedMessage:
        matched, self._matched = self._matched, None
        if matched is None:
            raise make_error("ERR_REQUEST", "invalid message: it is null or was received already")
        return matched

    def _nothing(self) -> Request:
        self._no_proc = False
        return _native.completed_request(MPI.PROC_NULL)


def take(
    comm: Accelerated, source: int, tag: int, status: MPI.Status | None, *, blocking: bool
) -> Message | None:
    """Take a message of ``comm`` out of its queue; from ``PROC_NULL`` there always is one."""
    communicator = comm._checked_communicator()
    message = Message()
    if source == MPI.PROC_NULL:
        message._no_proc = True
        if status is not None:
            fill_status(status, source, MPI.ANY_TAG, MPI.SUCCESS, 0, cancelled=False)
        return message
    probe = _native.mprobe if blocking else _native.improbe
    message._matched = matched = probe(communicator, source, tag)
    if matched is None:
        return None
    if status is not None:
        fill_status(
            status, matched.source, matched.tag, MPI.SUCCESS, matched.nbytes, cancelled=False
        )
    return message


def _rebuild(kind: type[Message], no_proc: bool) -> Message:
    return kind(cast("Message", MPI.MESSAGE_NO_PROC)) if no_proc else kind()
