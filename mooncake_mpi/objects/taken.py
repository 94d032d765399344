"""What every copy of the handle of a matched message shares: the message, until it is received.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.errors import make_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi.library_requests.giving import Giver
    from mooncake_mpi.requests.request import Request

_T = TypeVar("_T")


class Taken:
    """A message that was taken out of its queue, by the engine or by the MPI library, or none.

    Attributes:
        matched: what the engine matched.
        no_proc: it is from ``PROC_NULL``: received without a message.
        library: a message that the library matched, or may match.
        giver: the communicator's, for the requests that receive the message.
        communicator: whose message the engine matched; its error handler hears of errors.
    """

    __slots__ = ("communicator", "giver", "library", "matched", "no_proc")

    def __init__(self) -> None:
        self.matched: _native.MatchedMessage | None = None
        self.no_proc = False
        self.library: MPI.Message | None = None
        self.giver: Giver | None = None
        self.communicator: _native.Communicator | None = None

    def __bool__(self) -> bool:
        if self.library is not None:
            return bool(self.library)
        return self.no_proc or (self.matched is not None and not self.matched.received)

    def for_library(self) -> MPI.Message | None:
        """The library's message in the place of this one; ``None`` if it knows no such one."""
        if self.library is not None:
            return self.library
        if self.no_proc:
            return MPI.MESSAGE_NO_PROC
        return None if self else MPI.MESSAGE_NULL

    def address(self) -> int:
        """Where the library's handle lies, to be read or filled by C code.

        Raises:
            Error: ``ERR_REQUEST``, the engine matched the message.
        """
        known = self.for_library()
        if known is None:
            raise make_error("ERR_REQUEST", "the MPI library has no handle for this message")
        if self.library is None:
            self.library = MPI.Message(known)
        return MPI._addressof(self.library)

    def receive_into(self, buf: Any) -> Request:
        """Start receiving the message into ``buf``."""
        if self.no_proc:
            return self.nothing()
        return self.received_by(_native.message_post_recv, buf)

    def received_by(self, receive: Callable[..., _T], *arguments: Any) -> _T:
        """Receive the message; it stays to be received where that cannot begin."""
        matched = self.take()
        try:
            return receive(matched, *arguments)
        except BaseException:
            if not matched.received:
                self.matched = matched
            raise

    def take(self) -> _native.MatchedMessage:
        """What the engine matched, to be received.

        Raises:
            Error: ``ERR_REQUEST``, there is none, or it was received already.
        """
        matched, self.matched = self.matched, None
        if matched is None:
            raise make_error("ERR_REQUEST", "invalid message: it is null or was received already")
        return matched

    def nothing(self) -> Request:
        """The request of a message from ``PROC_NULL``, which this ends."""
        self.no_proc = False
        return _native.completed_request(MPI.PROC_NULL)

    def given(self, request: Request) -> Any:
        """What the program gets for ``request``."""
        return request if self.giver is None else self.giver(request, False)  # noqa: FBT003
