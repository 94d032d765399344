"""Python objects as messages: the lower-case methods of a communicator.

Objects and buffers share one matching space, as in MPI: a pickle stream may be received with
``Recv``, and a stream that was sent with ``Send`` by ``recv``. Pickling follows ``MPI.pickle``.
Large buffers that the pickler hands out (protocol 5) are not copied: :mod:`mooncake_mpi.frames`.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, Literal
from warnings import warn

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.object_requests import ObjectReceive, ObjectSend
from mooncake_mpi.pickling import BUFFERED, STANDARD, SYNCHRONOUS, Incoming, post
from mooncake_mpi.requests import CompositeRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi.requests import Message, Request


class ObjectMethods:
    """The point-to-point methods for Python objects, with mpi4py's signatures.

    Mixed into the communicators; ``_communicator`` is their native side, and the upper-case probes
    are theirs.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _communicator: _native.Communicator
        Probe: Callable[[int, int, MPI.Status | None], Literal[True]]
        Iprobe: Callable[[int, int, MPI.Status | None], bool]
        Mprobe: Callable[[int, int, MPI.Status | None], Message]
        Improbe: Callable[[int, int, MPI.Status | None], Message | None]

    def send(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object; returns when it may be changed again."""
        _send(self._communicator, obj, dest, tag, STANDARD)

    def ssend(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object; returns when its receive has started."""
        _send(self._communicator, obj, dest, tag, SYNCHRONOUS)

    def bsend(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send a copy of an object; returns at once."""
        _send(self._communicator, obj, dest, tag, BUFFERED)

    def isend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Start sending an object, which must not change until the request is complete."""
        return _isend(self._communicator, obj, dest, tag, STANDARD)

    def issend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Start sending an object; the request is complete when its receive has started."""
        return _isend(self._communicator, obj, dest, tag, SYNCHRONOUS)

    def ibsend(self, obj: Any, dest: int, tag: int = 0) -> Request:
        """Start sending a copy of an object."""
        return _isend(self._communicator, obj, dest, tag, BUFFERED)

    def recv(
        self,
        buf: Any = None,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        status: MPI.Status | None = None,
    ) -> Any:
        """Receive an object; ``buf`` is deprecated, as with mpi4py."""
        return _recv(self._communicator, buf, source, tag, status)

    def irecv(
        self, buf: Any = None, source: int = MPI.ANY_SOURCE, tag: int = MPI.ANY_TAG
    ) -> Request:
        """Start receiving an object of any size; ``wait()`` gives it.

        With ``buf``, a writable buffer or a number of bytes, a longer message is an error.
        """
        communicator = self._communicator
        if buf is None or source == MPI.PROC_NULL:
            message = _native.post_recv_any_size(communicator, source, tag)
            return CompositeRequest(ObjectReceive(communicator, message))
        memory = _memory(buf)
        message = _native.post_recv(
            communicator, memory.address, memory.nbytes, memory, source, tag
        )
        return CompositeRequest(ObjectReceive(communicator, message, memory))

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
        communicator = self._communicator
        parts = post(communicator, sendobj, dest, sendtag, STANDARD)
        received = _recv(communicator, recvbuf, source, recvtag, status)
        for part in parts:
            part.Wait()
        return received

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


def receive_message(
    communicator: _native.Communicator, message: Any, status: MPI.Status | None
) -> Any:
    """Receive the object of a matched native message."""
    part = _native.message_recv_any_size(message)
    part.Wait(status)
    return _load(communicator, part._result)


def post_message(communicator: _native.Communicator, message: Any) -> Request:
    """Start receiving the object of a matched native message."""
    part = _native.message_recv_any_size(message)
    return CompositeRequest(ObjectReceive(communicator, part))


def _send(communicator: _native.Communicator, obj: Any, dest: int, tag: int, mode: int) -> None:
    for part in post(communicator, obj, dest, tag, mode):
        part.Wait()


def _isend(communicator: _native.Communicator, obj: Any, dest: int, tag: int, mode: int) -> Request:
    parts = post(communicator, obj, dest, tag, mode)
    return parts[0] if len(parts) == 1 else CompositeRequest(ObjectSend(parts))


def _recv(
    communicator: _native.Communicator,
    buf: Any,
    source: int,
    tag: int,
    status: MPI.Status | None,
) -> Any:
    if buf is None:
        message = _native.recv_any_size(communicator, source, tag, status)
        return None if message is None else _load(communicator, message)
    warn("the 'buf' argument is deprecated", UserWarning, stacklevel=3)
    if source == MPI.PROC_NULL:
        _native.post_recv(communicator, 0, 0, None, source, tag).Wait(status)
        return None
    memory = _memory(buf)
    status = MPI.Status() if status is None else status
    part = _native.post_recv(communicator, memory.address, memory.nbytes, memory, source, tag)
    part.Wait(status)
    return _load(communicator, memory[: status.count])


def _load(communicator: _native.Communicator, message: Any) -> Any:
    incoming = Incoming(communicator, message)
    for part in incoming.parts:
        part.Wait()
    return incoming.load()


def _memory(buf: Any) -> MPI.buffer:
    """The memory that the caller gave for an object's message: a buffer or a number of bytes."""
    if hasattr(buf, "__index__") and not hasattr(buf, "__len__"):
        return MPI.buffer.allocate(index(buf))
    return MPI.buffer.frombuffer(buf)
