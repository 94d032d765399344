"""Python objects as messages: the lower-case methods of a communicator.

Called in the program's threads, no lock of its own.

Objects and buffers share one matching space, as in MPI: a pickle stream may be received with
``Recv``, and a stream that was sent with ``Send`` by ``recv``. Pickling follows ``MPI.pickle``;
large buffers that the pickler hands out (protocol 5) are put into the stream as it is sent, and
left where they arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.constants import BUFFERED, STANDARD, SYNCHRONOUS
from mooncake_mpi.errhandlers import report, reported
from mooncake_mpi.errors import Error
from mooncake_mpi.objects import transfer
from mooncake_mpi.objects.pickling import PLAIN_TYPES, checked, dumps, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi.objects.messages import Message
    from mooncake_mpi.requests.request import Request

SEND = True


class ObjectMethods:
    """The point-to-point methods for Python objects, with mpi4py's signatures.

    Mixed into the communicators; their native side and the upper-case probes are theirs.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _communicator: _native.Communicator | None
        _giver: Callable[[Any, bool], Any] | None
        _checked_communicator: Callable[[], _native.Communicator]
        Probe: Callable[[int, int, MPI.Status | None], Literal[True]]
        Iprobe: Callable[[int, int, MPI.Status | None], bool]
        Mprobe: Callable[[int, int, MPI.Status | None], Message]
        Improbe: Callable[[int, int, MPI.Status | None], Message | None]

    def send(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object; returns when it may be changed again."""
        try:
            communicator = self._communicator
            if type(obj) in PLAIN_TYPES and type(dest) is int and dest >= 0 and communicator:
                # The way of most small objects, without further calls of Python functions.
                message: Any = dumps(obj)
                if type(message) is not bytes:
                    checked(message)
                _native.send(communicator, message, dest, tag, STANDARD)
            else:
                transfer.send(self._checked_communicator(), obj, dest, tag, STANDARD)
        except Error as error:
            report(error, self)
            raise

    @reported
    def ssend(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object; returns when its receive has started."""
        transfer.send(self._checked_communicator(), obj, dest, tag, SYNCHRONOUS)

    @reported
    def bsend(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send a copy of an object; returns at once."""
        transfer.send(self._checked_communicator(), obj, dest, tag, BUFFERED)

    def isend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Start sending an object, which may be changed at once."""
        try:
            request = transfer.isend(self._checked_communicator(), obj, dest, tag, STANDARD)
            return request if self._giver is None else self._giver(request, SEND)
        except Error as error:
            report(error, self)
            raise

    @reported
    def issend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Start sending an object; the request is complete when its receive has started."""
        request = transfer.isend(self._checked_communicator(), obj, dest, tag, SYNCHRONOUS)
        return request if self._giver is None else self._giver(request, SEND)

    @reported
    def ibsend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Start sending an object; the request is complete at once."""
        request = transfer.isend(self._checked_communicator(), obj, dest, tag, BUFFERED)
        return request if self._giver is None else self._giver(request, SEND)

    def recv(
        self,
        buf: Any = None,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Any:
        """Receive an object; ``buf`` is deprecated, as with mpi4py."""
        try:
            communicator = self._communicator
            if buf is None and communicator:
                message = _native.recv(communicator, None, source, tag, status)
                return None if message is None else load(message)
            return transfer.recv(self._checked_communicator(), buf, source, tag, status)
        except Error as error:
            report(error, self)
            raise

    def irecv(
        self, buf: Any = None, source: int = MPI.ANY_SOURCE, tag: int = MPI.ANY_TAG
    ) -> Request:
        """Start receiving an object of any size; ``wait()`` gives it.

        With ``buf``, a writable buffer or a number of bytes, a longer message is an error.
        """
        try:
            communicator = self._checked_communicator()
            if buf is None or _native.to_int(source) == MPI.PROC_NULL:
                request = _native.post_recv_any_size(communicator, source, tag)
                request._finish = load
            else:
                request = transfer.post_into(communicator, buf, source, tag)
            return request if self._giver is None else self._giver(request, not SEND)
        except Error as error:
            report(error, self)
            raise

    def sendrecv(
        self,
        sendobj: Any,
        dest: int,
        sendtag: int = 0,
        recvbuf: Any = None,
        source: int = MPI.ANY_SOURCE,
        recvtag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Any:
        """Send an object and receive another, without the danger of a deadlock."""
        try:
            communicator = self._checked_communicator()
            return transfer.sendrecv(
                communicator, sendobj, dest, sendtag, recvbuf, source, recvtag, status
            )
        except Error as error:
            report(error, self)
            raise

    def probe(
        self,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Literal[True]:
        """Wait for a message."""
        return self.Probe(source, tag, status)

    def iprobe(
        self,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> bool:
        """Whether there is a message."""
        return self.Iprobe(source, tag, status)

    def mprobe(
        self,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message:
        """Wait for a message and take it, to be received with ``Message.recv``."""
        return self.Mprobe(source, tag, status)

    def improbe(
        self,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Message | None:
        """Take a message if there is one, to be received with ``Message.recv``."""
        return self.Improbe(source, tag, status)
