"""From objects to messages and back, following ``MPI.pickle``."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from mooncake_mpi import frames

# Objects of these types have no out-of-band buffers: their pickler need not look for any.
_PLAIN_TYPES = frozenset({int, float, complex, str, bytes, bool, type(None)})
_FIRST_PROTOCOL_WITH_BUFFERS = 5


def dump(obj: Any) -> bytes:
    """The message of an object: its pickle stream, or a frame if the pickler hands out buffers.

    Raises:
        TypeError: the user's ``dumps`` did not make bytes.
    """
    pickle = MPI.pickle
    protocol = pickle.PROTOCOL
    buffers: list[MPI.buffer] = []
    if (
        type(obj) in _PLAIN_TYPES
        or protocol is None
        or 0 <= protocol < _FIRST_PROTOCOL_WITH_BUFFERS
    ):
        stream = pickle.dumps(obj)
    else:
        try:
            stream, buffers = pickle.dumps_oob(obj)
        except TypeError:  # a dumps of the user's that hands out no buffers
            stream = pickle.dumps(obj)
    if type(stream) is not bytes:
        raise TypeError(f"expected bytes, {type(stream).__name__} found")
    return frames.encode(stream, buffers) if frames.needs_frame(stream, buffers) else stream


def load(message: Any) -> Any:
    """The object of a message (bytes-like), ``None`` if that is empty.

    Out-of-band buffers of the object are views of the message.

    Raises:
        frames.FrameError: the message starts like a frame and is none.
        Exception: what unpickling raises.
    """
    if len(message) == 0:
        return None
    view = memoryview(message)
    if frames.is_frame(view):
        stream, buffers = frames.decode(view)
        return MPI.pickle.loads_oob(MPI.buffer(stream), buffers)
    return MPI.pickle.loads(MPI.buffer(view))
