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
from mooncake_mpi.interruptions import is_interruption
from mooncake_mpi.objects import transfer
from mooncake_mpi.objects.pickling import dumps, load, loads

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi.objects.messages import Message
    from mooncake_mpi.requests.request import Request

SEND = True


class ObjectMethods:
    """The point-to-point methods for Python objects, with mpi4py's signatures.

    Mixed into the communicators; their native side, the upper-case probes, and ``send`` and
    ``recv``, which are native methods, are theirs.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _communicator: _native.Communicator | None
        _giver: Callable[[Any, bool], Any] | None
        _checked_communicator: Callable[[], _native.Communicator]

        def Probe(
            self,
            source: int = MPI.ANY_SOURCE,
            tag: int = MPI.ANY_TAG,
            status: MPI.Status | None = None,
        ) -> Literal[True]:
            """Wait for a message."""

        def Iprobe(
            self,
            source: int = MPI.ANY_SOURCE,
            tag: int = MPI.ANY_TAG,
            status: MPI.Status | None = None,
        ) -> bool:
            """Whether there is a message."""

        def Mprobe(
            self,
            source: int = MPI.ANY_SOURCE,
            tag: int = MPI.ANY_TAG,
            status: MPI.Status | None = None,
        ) -> Message:
            """Wait for a message and take it."""

        def Improbe(
            self,
            source: int = MPI.ANY_SOURCE,
            tag: int = MPI.ANY_TAG,
            status: MPI.Status | None = None,
        ) -> Message | None:
            """Take a message if there is one."""

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


def _send(comm: Any, obj: Any, dest: int, tag: int) -> None:
    """What ``send`` does with an object that may have buffers."""
    transfer.send(comm._checked_communicator(), obj, dest, tag, STANDARD)


def _recv(comm: Any, buf: Any, source: int, tag: int, status: MPI.Status | None) -> Any:
    """What ``recv`` does with a buffer."""
    return transfer.recv(comm._checked_communicator(), buf, source, tag, status)


_native.set_pickling(dumps, loads, load, transfer.not_loaded, is_interruption, _send, _recv)
