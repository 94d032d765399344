"""Messages of mpi4py that the engine matched, for communicators wrapped by hand.

Called in the program's threads, no lock of its own. No call of the library's makes a message that
it has not matched, so unlike requests these have no handle there: for C code, for mpi4py's own
methods called through their class, and in what ``mpi4py.MPI.Message(message)`` copies, each is the
null message. Receiving that is an error of the library's (``ERR_REQUEST``), which Open MPI makes a
fatal one. The methods of these messages receive them, and those of ``type(message)(message)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpi4py import MPI

if TYPE_CHECKING:
    from mooncake_mpi.objects.messages import Message


def give_message(message: Message) -> MPI.Message:
    """What a program that wraps a communicator by hand gets for a message that was taken."""
    known = message._taken.for_library()
    return LibraryMessage._of(message) if known is None else MPI.Message(known)


class LibraryMessage(MPI.Message):
    """A message of mpi4py that the engine matched."""

    __slots__ = ("_message",)
    __module__ = "mpi4py.MPI"
    __qualname__ = "Message"
    _message: Any

    def __new__(cls, message: Any = None) -> LibraryMessage:
        """A handle for the same message, or a null one."""
        new: LibraryMessage = MPI.Message.__new__(cls, message)
        new._message = getattr(message, "_message", MPI.MESSAGE_NULL)
        return new

    @classmethod
    def _of(cls, message: Message) -> LibraryMessage:
        new = cls()
        new._message = message
        return new

    def __bool__(self) -> bool:
        return bool(self._message)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MPI.Message):
            return NotImplemented
        return bool(self._message == getattr(other, "_message", other))

    def __ne__(self, other: object) -> bool:
        return not self == other  # mpi4py's own compares the handles

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        if self:
            raise ValueError("cannot pickle a message that is not received")
        return (MPI.Message, ())

    def Recv(self, buf: Any, status: MPI.Status | None = None) -> None:
        """Receive the message into ``buf``."""
        self._message.Recv(buf, status)

    def Irecv(self, buf: Any) -> MPI.Request:
        """Start receiving the message into ``buf``."""
        return self._message.Irecv(buf)  # type: ignore[no-any-return]

    def recv(self, status: MPI.Status | None = None) -> Any:
        """Receive the message as an object."""
        return self._message.recv(status)

    def irecv(self) -> MPI.Request:
        """Start receiving the message as an object."""
        return self._message.irecv()  # type: ignore[no-any-return]

    def free(self) -> None:
        """Do nothing: a message is freed by receiving it."""


LibraryMessage.__name__ = "Message"
