"""Sending and receiving the pickle streams of objects, for the methods of communicators.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any
from warnings import warn

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.buffers.exporters import export, is_array, is_buffer
from mooncake_mpi.constants import BUFFERED
from mooncake_mpi.interruptions import is_interruption
from mooncake_mpi.objects import gpu_libraries
from mooncake_mpi.objects.gpu_sends import Departing, SentWithArrays
from mooncake_mpi.objects.pickling import dump, dump_parts, load
from mooncake_mpi.objects.pickling import not_loaded as drop_arrays
from mooncake_mpi.requests.composites import CompositeRequest

if TYPE_CHECKING:
    from typing import TypeAlias

    from mooncake_mpi.requests.request import Request

    # Bytes, or what lies where: addresses and lengths, and what keeps them.
    Outgoing: TypeAlias = bytes | tuple[list[tuple[int, int]], Any]


def receive_message(
    communicator: _native.Communicator, message: _native.MatchedMessage, status: MPI.Status | None
) -> Any:
    """Receive the object of a matched message."""
    return received(communicator, _native.message_recv_any_size(message, status), None)


def post_message(message: _native.MatchedMessage) -> Request:
    """Start receiving the object of a matched message."""
    request = _native.message_post_recv_any_size(message)
    request._finish = load
    return request


def send(
    communicator: _native.Communicator, obj: Any, dest: int, tag: int, mode: _native.SendMode
) -> None:
    """Send an object; returns when it may be changed again."""
    dest = _native.to_int(dest)
    arrays = None
    if mode == BUFFERED and dest != MPI.PROC_NULL:
        message: Outgoing = dump(obj)  # with arrays of GPUs in it, as they pickle themselves
    else:
        if gpu_libraries.met():
            arrays = Departing(communicator, dest, copies=False)
        message = outgoing(obj, dest, arrays)
    if not arrays:
        _native.send(communicator, message, dest, tag, mode)
        return
    arrays.start(_native.to_int(tag))
    _native.send(communicator, message, dest, tag, mode)
    arrays.wait()


def sendrecv(
    communicator: _native.Communicator,
    obj: Any,
    dest: int,
    sendtag: int,
    buf: Any,
    source: int,
    recvtag: int,
    status: MPI.Status | None,
) -> Any:
    """Send an object and receive one; ``buf`` as for :func:`recv`."""
    dest, source = _native.to_int(dest), _native.to_int(source)
    arrays = Departing(communicator, dest, copies=False) if gpu_libraries.met() else None
    memory, message = into(buf, source), outgoing(obj, dest, arrays)
    place = place_of(memory)
    if arrays:
        arrays.start(_native.to_int(sendtag))
    came = _native.sendrecv(communicator, message, dest, sendtag, place, source, recvtag, status)
    if not arrays:
        return received(communicator, came, memory)
    try:
        new = received(communicator, came, memory)
    except Exception:
        arrays.wait()
        raise
    arrays.wait()
    return new


def outgoing(obj: Any, dest: int, arrays: Departing | None) -> Outgoing:
    """What is sent of an object by a call that returns only when it may be changed again."""
    message = b"" if dest == MPI.PROC_NULL else dump_parts(obj, arrays)
    if isinstance(message, bytes):
        return message
    memory = [MPI.buffer.frombuffer(part, readonly=True) for part in message]
    return [(piece.address, piece.nbytes) for piece in memory], memory


def isend(
    communicator: _native.Communicator, obj: Any, dest: int, tag: int, mode: _native.SendMode
) -> Request:
    """Start sending an object, which may be changed at once."""
    dest = _native.to_int(dest)
    arrays = None
    if mode != BUFFERED and gpu_libraries.met():
        arrays = Departing(communicator, dest, copies=True)
    message = b"" if dest == MPI.PROC_NULL else dump(obj, arrays)
    if not arrays:
        return _native.isend_bytes(communicator, message, dest, tag, mode)
    arrays.start(_native.to_int(tag))
    request = _native.isend_bytes(communicator, message, dest, tag, mode)
    return CompositeRequest(SentWithArrays(communicator, request, arrays.requests))


def recv(
    communicator: _native.Communicator,
    buf: Any,
    source: int,
    tag: int,
    status: MPI.Status | None,
) -> Any:
    """Receive an object; ``buf`` as :func:`post_into` takes it, or ``None``."""
    source = _native.to_int(source)
    memory = into(buf, source)
    message = _native.recv(communicator, place_of(memory), source, tag, status)
    return received(communicator, message, memory)


def into(buf: Any, source: int) -> MPI.buffer | None:
    """What a blocking call receives an object into; ``None`` for memory of the engine."""
    if buf is None:
        return None
    warn("the 'buf' argument is deprecated", UserWarning, stacklevel=4)
    return None if source == MPI.PROC_NULL else memory_of(buf)


def place_of(memory: MPI.buffer | None) -> tuple[int, int, Any] | None:
    """Where that is, for the engine."""
    return None if memory is None else (memory.address, memory.nbytes, memory)


def received(communicator: _native.Communicator, message: Any, memory: MPI.buffer | None) -> Any:
    """The object of what the engine gave: of memory of its own, or the length of that in ours."""
    if message is None:
        return None
    if memory is not None:
        return load_copy(memory, message)
    try:
        return load(message)
    except BaseException as error:
        not_loaded(communicator, message, error)
        raise


def not_loaded(communicator: _native.Communicator, message: Any, error: BaseException) -> None:
    """Unpickling raised: an interruption leaves the message in the queue, for the next receive.

    It would be lost otherwise, though nothing is wrong with it. What the object's own code raises
    it would raise again.
    """
    drop_arrays(message, error)
    if is_interruption(error):
        _native.give_back(communicator, message)


def post_into(communicator: _native.Communicator, buf: Any, source: int, tag: int) -> Request:
    """Start receiving an object into what the caller gave: a buffer or a number of bytes."""
    memory = memory_of(buf)
    request = _native.post_recv(communicator, memory.address, memory.nbytes, memory, source, tag)
    request._finish = lambda nbytes: load_copy(memory, nbytes)
    return request


def memory_of(buf: Any) -> MPI.buffer:
    """The caller's buffer, or a new one of so many bytes."""
    if hasattr(buf, "__index__") and not hasattr(buf, "__len__"):
        return MPI.buffer.allocate(index(buf))
    if not is_buffer(buf) and is_array(buf):
        memory = export(buf, writable=True, with_format=False)
        if memory.stream is not None:  # a GPU's, from which nothing is unpickled
            return MPI.buffer.allocate(memory.nbytes)
    return MPI.buffer.frombuffer(buf)


def load_copy(memory: MPI.buffer, nbytes: int) -> Any:
    """The object of the first bytes; of a copy, as it must not change with the caller's buffer."""
    return load(bytearray(memory[: min(nbytes, memory.nbytes)].tobytes()))
