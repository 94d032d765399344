"""From objects to messages and back, following ``MPI.pickle``."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from mooncake_mpi import _native, frames

#: Objects of these types have no out-of-band buffers: their pickler need not look for any.
PLAIN_TYPES = frozenset({int, float, complex, str, bytes, bool, type(None)})
_FIRST_PROTOCOL_WITH_BUFFERS = 5
#: The first byte of a frame, and of no pickle stream that Python makes.
FRAME = frames.MAGIC[0]

_pickle = MPI.pickle
# A user changes what they do through MPI.pickle.__init__, never the methods themselves.
dumps, loads = _pickle.dumps, _pickle.loads
_as_buffer = MPI.buffer


#: From this size of all buffers on, sending them from where they are pays.
LARGE = 256 * 1024


def dump(obj: Any) -> bytes:
    """The message of an object: its pickle stream, or a frame if the pickler hands out buffers.

    Raises:
        TypeError: the user's ``dumps`` did not make bytes.
    """
    message = dump_parts(obj)
    return message if isinstance(message, bytes) else b"".join(message)


def dump_parts(obj: Any) -> bytes | list[Any]:
    """As :func:`dump`, but large buffers stay where they are: then the message is in parts.

    The parts refer to the object's memory, which must not change until they are sent.
    """
    if type(obj) in PLAIN_TYPES:
        stream, buffers = dumps(obj), None
    else:
        stream, buffers = _dump_with_buffers(obj)
    return wrap(stream, buffers)


def wrap(stream: Any, buffers: list[MPI.buffer] | None = None) -> bytes | list[Any]:
    """The message of what a pickler gave: a frame where there are buffers, or it looks like one.

    Raises:
        TypeError: the stream is no bytes.
    """
    if type(stream) is not bytes:
        raise TypeError(f"expected bytes, {type(stream).__name__} found")
    if buffers and sum(buffer.nbytes for buffer in buffers) >= LARGE:
        return frames.split(stream, buffers)
    if buffers or (stream and stream[0] == FRAME and frames.is_frame(stream)):
        return frames.encode(stream, buffers or ())
    return stream


def _dump_with_buffers(obj: Any) -> tuple[bytes, list[MPI.buffer] | None]:
    protocol = _pickle.PROTOCOL
    if protocol is None or 0 <= protocol < _FIRST_PROTOCOL_WITH_BUFFERS:
        return dumps(obj), None
    try:
        return _pickle.dumps_oob(obj)
    except TypeError:  # a dumps of the user's that hands out no buffers
        return dumps(obj), None


def load(message: Any) -> Any:
    """The object of a message (bytes-like), ``None`` if that is empty.

    Out-of-band buffers of the object are views of the message.

    Raises:
        frames.FrameError: the message starts like a frame and is none.
        Exception: what unpickling raises.
    """
    if type(message) is _native.OwnedBuffer and message.first != FRAME:
        return loads(message) if message.first >= 0 else None
    first = _first(message)
    if first == FRAME and frames.is_frame(memoryview(message)):
        stream, buffers = frames.decode(message)
        return _pickle.loads_oob(_as_buffer(stream), buffers)
    return None if first is None else loads(_as_buffer(message))


def _first(message: Any) -> int | None:
    view = memoryview(message)
    return view[0] if view.nbytes else None
