"""Messages taken by a matched probe (MPI 4.1, section 3.8.2), with mpi4py's names.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.errhandlers import of_communicator, reported
from mooncake_mpi.objects.taken import Taken
from mooncake_mpi.objects.transfer import post_message, receive_message
from mooncake_mpi.requests.statuses import fill_status
from mooncake_mpi.unbound import dispatching

if TYPE_CHECKING:
    from mooncake_mpi.communicators.comm import Comm
    from mooncake_mpi.requests.request import Request


_CONSTANTS = (MPI.MESSAGE_NULL, MPI.MESSAGE_NO_PROC)

# Messages whose handle was asked for.
_by_handle: WeakValueDictionary[int, Message] = WeakValueDictionary()


class _MessageType(dispatching(MPI.Message), type):  # type: ignore[misc]
    """Makes messages of the MPI library instances of the class that replaces theirs."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (
            cls.__base__ is object and isinstance(instance, MPI.Message)
        )

    def __subclasscheck__(cls, kind: type) -> bool:
        return super().__subclasscheck__(kind) or (
            cls.__base__ is object and issubclass(kind, MPI.Message)
        )


class Message(metaclass=_MessageType):
    """A message that was matched and waits to be received, exactly once.

    ``bool(message)`` is false once it was received. A message that was not matched yet is the
    library's, so that C code may fill it.
    """

    __slots__ = ("__weakref__", "_taken")
    __module__ = "mpi4py.MPI"  # programs look for it there
    _taken: Taken

    def __new__(cls, message: Any = None) -> Message:
        """A handle for the same message, of the engine or of the library, or a null one.

        Raises:
            TypeError: not a message.
        """
        library = message if isinstance(message, MPI.Message) else None
        if library in _CONSTANTS:
            library = MPI.Message(library)  # not the constant, which C code must not fill
        if cls is Message and (message is None or library in _CONSTANTS):
            return cast("Message", library if library is not None else MPI.Message())
        if message is not None and not isinstance(message, Message):
            raise TypeError(f"expected a Message, got {type(message).__name__}")
        new = _new(cls)
        if library is not None:
            new._taken.library = library
        elif message is not None:
            new._taken = message._taken
        return new

    def __bool__(self) -> bool:
        return bool(self._taken)

    def __eq__(self, other: object) -> bool:
        library = self._taken.library
        if isinstance(other, MPI.Message):
            if library is not None:
                return library == other
            return self._taken.no_proc == (other == MPI.MESSAGE_NO_PROC) and bool(self) == bool(
                other
            )
        if not isinstance(other, Message):
            return NotImplemented
        if library is not None and other._taken.library is not None:
            return library == other._taken.library
        if not self or not other:
            return not self and not other
        return self._taken is other._taken or (self._taken.no_proc and other._taken.no_proc)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        if self and not self._taken.no_proc:
            raise ValueError("cannot pickle a message that is not received")
        return (_rebuild, (type(self), self._taken.no_proc))

    @property
    def handle(self) -> int:
        """As :meth:`tohandle`."""
        return self.tohandle()

    def tohandle(self) -> int:
        """A number that no other live message has; the library's for messages that it knows.

        :meth:`fromhandle` makes a message of it again. The library knows only its own.
        """
        known = self._taken.for_library()
        if known is not None:
            return known.handle
        _by_handle[id(self._taken)] = self
        return id(self._taken)

    def toint(self) -> int:
        """The library's number of its messages; -1 for others, which it does not know."""
        known = self._taken.for_library()
        return -1 if known is None else known.toint()

    def py2f(self) -> int:
        """As :meth:`toint`, the Fortran handle."""
        known = self._taken.for_library()
        return -1 if known is None else known.py2f()

    def _address(self) -> int:
        """Where the library's handle lies, see :meth:`Taken.address`."""
        return self._taken.address()

    @classmethod
    def fromhandle(cls, handle: int) -> Message | MPI.Message:
        """The message of that handle, of the engine or of the library."""
        known = _by_handle.get(handle)
        return MPI.Message.fromhandle(handle) if known is None else cls(known)

    @classmethod
    def fromint(cls, arg: int, /) -> Message | MPI.Message:
        """The library's message of that number."""
        return MPI.Message.fromint(arg)

    @classmethod
    def f2py(cls, arg: int) -> Message | MPI.Message:
        """The library's message of that Fortran handle."""
        return MPI.Message.f2py(arg)

    def free(self) -> None:
        """Do nothing: a message is freed by receiving it."""

    @classmethod
    @of_communicator
    def Probe(
        cls,
        comm: Comm,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message:
        """Wait for a message of ``comm`` and take it."""
        return cast("Message", take(comm, source, tag, status, blocking=True))

    @classmethod
    @of_communicator
    def Iprobe(
        cls,
        comm: Comm,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message | None:
        """Take a message of ``comm`` if one waits."""
        return take(comm, source, tag, status, blocking=False)

    probe = Probe
    iprobe = Iprobe

    @reported
    def Recv(self, buf: Any, status: MPI.Status | None = None) -> None:
        """Receive the message into ``buf``.

        Raises:
            Error: ``ERR_TRUNCATE`` if it is longer, ``ERR_REQUEST`` if it was received already.
        """
        library = self._taken.library
        if library is not None:
            library.Recv(buf, status)
        elif self._taken.no_proc:
            self._taken.nothing().Wait(status)
        else:
            self._taken.received_by(_native.message_recv, buf, status)

    @reported
    def Irecv(self, buf: Any) -> Request:
        """Start receiving the message into ``buf``."""
        if self._taken.library is not None:
            return cast("Request", self._taken.library.Irecv(buf))
        return cast("Request", self._taken.given(self._taken.receive_into(buf)))

    @reported
    def recv(self, status: MPI.Status | None = None) -> Any:
        """Receive the message as an object."""
        if self._taken.library is not None:
            return self._taken.library.recv(status)
        if self._taken.no_proc:
            return self._taken.nothing().wait(status)
        matched = self._taken.take()
        communicator = cast("_native.Communicator", self._taken.communicator)
        return receive_message(communicator, matched, status)

    @reported
    def irecv(self) -> Request:
        """Start receiving the message as an object."""
        if self._taken.library is not None:
            return cast("Request", self._taken.library.irecv())
        if self._taken.no_proc:
            return cast("Request", self._taken.given(self._taken.nothing()))
        return cast("Request", self._taken.given(post_message(self._taken.take())))

    @property
    def _context(self) -> int:
        """Whose error handler hears of errors."""
        communicator = self._taken.communicator
        return 0 if communicator is None else communicator.number


def _new(kind: type[Message]) -> Message:
    """A null message of the engine."""
    new: Message = object.__new__(kind)
    new._taken = Taken()
    return new


def take(
    comm: Comm, source: int, tag: int, status: MPI.Status | None, *, blocking: bool
) -> Message | None:
    """Take a message of ``comm`` out of its queue; from ``PROC_NULL`` there always is one."""
    source = _native.to_int(source)
    communicator = comm._checked_communicator()
    message = _new(Message)
    message._taken.giver, message._taken.communicator = comm._giver, communicator
    if source == MPI.PROC_NULL:
        message._taken.no_proc = True
        if status is not None:
            fill_status(status, source, MPI.ANY_TAG, MPI.SUCCESS, 0, cancelled=False)
        return message
    probe = _native.mprobe if blocking else _native.improbe
    message._taken.matched = matched = probe(communicator, source, tag)
    if matched is None:
        return None
    if status is not None:
        fill_status(
            status, matched.source, matched.tag, MPI.SUCCESS, matched.nbytes, cancelled=False
        )
    return message


def _rebuild(kind: type[Message], no_proc: bool) -> Message:
    return kind(cast("Message", MPI.MESSAGE_NO_PROC)) if no_proc else kind()


def _class() -> type[Message]:
    return Message


def _reduce_class(kind: type) -> str | tuple[Any, ...]:
    """How pickle finds the class: it is not what ``mpi4py.MPI`` has under its name."""
    return (_class, ()) if kind is Message else kind.__qualname__


def _reduce_constant(message: MPI.Message) -> str | tuple[Any, ...]:
    """How pickle takes the library's null message and that from PROC_NULL."""
    known = message.__reduce__()
    if isinstance(known, str):
        return known
    return (_rebuild, (Message, message == MPI.MESSAGE_NO_PROC))


copyreg.pickle(MPI.Message, _reduce_constant)
copyreg.pickle(_MessageType, _reduce_class)
