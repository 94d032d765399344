"""From objects to messages and back, following ``MPI.pickle``."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from mooncake_mpi import frames

# Objects of these types have no out-of-band buffers: their pickler need not look for any.
_PLAIN_TYPES = frozenset({int, float, complex, str, bytes, bool, type(None)})
_FIRST_PROTOCOL_WITH_BUFFERS = 5
_FRAME = frames.MAGIC[0]

_pickle = MPI.pickle


def dump(obj: Any) -> bytes:
    """The message of an object: its pickle stream, or a frame if the pickler hands out buffers.

    Raises:
        TypeError: the user's ``dumps`` did not make bytes.
    """
    stream, buffers = (
        (_pickle.dumps(obj), None) if type(obj) in _PLAIN_TYPES else _dump_with_buffers(obj)
    )
    if type(stream) is not bytes:
        raise TypeError(f"expected bytes, {type(stream).__name__} found")
    if buffers or stream.startswith(frames.MAGIC):
        return frames.encode(stream, buffers or ())
    return stream


def _dump_with_buffers(obj: Any) -> tuple[bytes, list[MPI.buffer] | None]:
    protocol = _pickle.PROTOCOL
    if protocol is None or 0 <= protocol < _FIRST_PROTOCOL_WITH_BUFFERS:
        return _pickle.dumps(obj), None
    try:
        return _pickle.dumps_oob(obj)
    except TypeError:  # a dumps of the user's that hands out no buffers
        return _pickle.dumps(obj), None


def load(message: Any) -> Any:
    """The object of a message (bytes-like), ``None`` if that is empty.

    Out-of-band buffers of the object are views of the message.

    Raises:
        frames.FrameError: the message starts like a frame and is none.
        Exception: what unpickling raises.
    """
    view = memoryview(message)
    if view.nbytes == 0:
        return None
    if view[0] == _FRAME and frames.is_frame(view):
        stream, buffers = frames.decode(view)
        return _pickle.loads_oob(MPI.buffer(stream), buffers)
    return _pickle.loads(MPI.buffer(message))
