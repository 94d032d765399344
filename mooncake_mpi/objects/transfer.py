"""Sending and receiving the pickle streams of objects, for the methods of communicators.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any
from warnings import warn

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.constants import BUFFERED
from mooncake_mpi.objects.pickling import dump, dump_parts, load

if TYPE_CHECKING:
    from mooncake_mpi.requests.request import Request


def receive_message(message: _native.MatchedMessage, status: MPI.Status | None) -> Any:
    """Receive the object of a matched message."""
    return load(_native.message_recv_any_size(message, status))


def post_message(message: _native.MatchedMessage) -> Request:
    """Start receiving the object of a matched message."""
    request = _native.message_post_recv_any_size(message)
    request._finish = load
    return request


def send(
    communicator: _native.Communicator, obj: Any, dest: int, tag: int, mode: _native.SendMode
) -> None:
    """Send an object; returns when it may be changed again."""
    if mode == BUFFERED or dest == MPI.PROC_NULL:
        message: bytes | list[Any] = b"" if dest == MPI.PROC_NULL else dump(obj)
    else:
        message = dump_parts(obj)
    if isinstance(message, bytes):
        _native.send_bytes(communicator, message, dest, tag, mode)
    else:
        isend_parts(communicator, message, dest, tag, mode).Wait()


def isend_parts(
    communicator: _native.Communicator,
    parts: list[Any],
    dest: int,
    tag: int,
    mode: _native.SendMode,
) -> Request:
    """Start sending a message in parts; their memory must not change until it is complete."""
    memory = [MPI.buffer.frombuffer(part, readonly=True) for part in parts]
    pieces = [(piece.address, piece.nbytes) for piece in memory]
    return _native.isend_pieces(communicator, pieces, memory, dest, tag, mode)


def isend(
    communicator: _native.Communicator, obj: Any, dest: int, tag: int, mode: _native.SendMode
) -> Request:
    """Start sending an object, which may be changed at once."""
    message = b"" if dest == MPI.PROC_NULL else dump(obj)
    return _native.isend_bytes(communicator, message, dest, tag, mode)


def recv(
    communicator: _native.Communicator,
    buf: Any,
    source: int,
    tag: int,
    status: MPI.Status | None,
) -> Any:
    """Receive an object; ``buf`` as :func:`post_into` takes it, or ``None``."""
    if buf is None:
        message = _native.recv_any_size(communicator, source, tag, status)
        return None if message is None else load(message)
    warn("the 'buf' argument is deprecated", UserWarning, stacklevel=3)
    if source == MPI.PROC_NULL:
        _native.recv_any_size(communicator, source, tag, status)
        return None
    request = post_into(communicator, buf, source, tag)
    request.Wait(status)
    return request._result


def post_into(communicator: _native.Communicator, buf: Any, source: int, tag: int) -> Request:
    """Start receiving an object into what the caller gave: a buffer or a number of bytes."""
    if _is_integral(buf):
        memory = MPI.buffer.allocate(index(buf))
    else:
        memory = MPI.buffer.frombuffer(buf)
    request = _native.post_recv(communicator, memory.address, memory.nbytes, memory, source, tag)
    # A copy: the object must not change with the caller's buffer.
    request._finish = lambda nbytes: load(bytearray(memory[: min(nbytes, memory.nbytes)].tobytes()))
    return request


def _is_integral(value: Any) -> bool:
    return hasattr(value, "__index__") and not hasattr(value, "__len__")
