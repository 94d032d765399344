"""What ``isend`` and ``irecv`` do in the background: operations of more than one message.

An operation is driven by :class:`mooncake_mpi.requests.CompositeRequest`: ``_poll`` until it is
true, then ``_complete`` once; ``_pending`` names the requests that ``_poll`` waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mooncake_mpi.errors import Error
from mooncake_mpi.pickling import Incoming

if TYPE_CHECKING:
    from mooncake_mpi import _native
    from mooncake_mpi.requests import Request


class ObjectSend:
    """An object's message and its attachments, all sent already."""

    __slots__ = ("_error", "_parts", "_status")

    def __init__(self, parts: list[Request]) -> None:
        self._parts = parts
        self._status = MPI.Status()
        self._error: Error | None = None

    def _poll(self) -> bool:
        """Whether every message is done; tests those that are not."""
        while self._parts:
            try:
                if not self._parts[-1].Test(self._status):
                    return False
            except Error as error:
                self._error = self._error or error
            self._parts.pop()
        return True

    def _pending(self) -> list[Request]:
        """The messages that are not done."""
        return self._parts

    def _complete(self, status: MPI.Status | None) -> None:
        """Fill ``status``; raises the first error of a message."""
        copy_status(self._status, status)
        if self._error is not None:
            raise self._error

    def _cancel(self) -> None:
        """Nothing: a send is not cancelled."""


class ObjectReceive:
    """A receive of an object: first its message, then its attachments.

    Args:
        communicator: where it is received from.
        message: the receive of the message, of any size or into ``buffer``.
        buffer: memory that the caller gave, or ``None``.
    """

    __slots__ = ("_buffer", "_communicator", "_error", "_incoming", "_message", "_parts", "_status")

    def __init__(
        self,
        communicator: _native.Communicator,
        message: Request,
        buffer: MPI.buffer | None = None,
    ) -> None:
        self._communicator = communicator
        self._message = message
        self._parts = [message]
        self._buffer = buffer
        self._incoming: Incoming | None = None
        self._status = MPI.Status()
        self._error: Exception | None = None

    def _poll(self) -> bool:
        """Whether the object is here; takes the next step where it can."""
        try:
            if self._incoming is None:
                if not self._message.Test(self._status):
                    return False
                self._incoming = self._arrived()
                self._parts = self._incoming.parts
            while self._parts and self._parts[-1].Test():
                self._parts.pop()
        except Exception as error:  # noqa: BLE001 - raised again by _complete
            self._error = error
            self._parts = []
            return True
        return not self._parts

    def _arrived(self) -> Incoming:
        if self._status.Is_cancelled():
            return Incoming(self._communicator, b"")
        message = self._message._result
        if self._buffer is not None:
            message = self._buffer[: self._status.count]
        return Incoming(self._communicator, message)

    def _pending(self) -> list[Request]:
        """The message, or the attachments, that are not here."""
        return self._parts

    def _complete(self, status: MPI.Status | None) -> Any:
        """Fill ``status`` and give the object; raises what went wrong."""
        copy_status(self._status, status)
        if self._error is not None:
            raise self._error
        return None if self._incoming is None else self._incoming.load()

    def _cancel(self) -> None:
        """Cancel the receive if no message has matched it."""
        if self._incoming is None:
            self._message.Cancel()


def copy_status(source: MPI.Status, target: MPI.Status | None) -> None:
    """Make ``target``, if there is one, equal to ``source``."""
    if target is not None:
        target.__setstate__(source.__getstate__())
