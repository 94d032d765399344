"""From objects to messages and back, following ``MPI.pickle``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from mooncake_mpi import _native, frames
from mooncake_mpi.attachments import DATA_CHANNEL, new_tags

if TYPE_CHECKING:
    from mooncake_mpi.requests import Request

STANDARD, SYNCHRONOUS, READY, BUFFERED = range(4)

# Objects of these types have no out-of-band buffers: their pickler need not look for any.
_PLAIN_TYPES = frozenset({int, float, complex, str, bytes, bool, type(None)})
_FIRST_PROTOCOL_WITH_BUFFERS = 5


def dump(obj: Any) -> tuple[bytes, list[MPI.buffer]]:
    """The pickle stream of ``obj``, and the buffers that its pickler hands out.

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
    return stream, buffers


def post(
    communicator: _native.Communicator, obj: Any, dest: int, tag: int, mode: int
) -> list[Request]:
    """Start sending ``obj``: its message, and one for each large buffer.

    Raises:
        MPI.Exception: ``ERR_RANK`` or ``ERR_TAG``; then nothing was sent.
    """
    if dest == MPI.PROC_NULL:
        return [_native.isend_bytes(communicator, b"", dest, tag, mode)]
    stream, buffers = dump(obj)
    if not frames.needs_frame(stream, buffers):
        return [_native.isend_bytes(communicator, stream, dest, tag, mode)]
    data_tag = new_tags()
    frame = frames.encode(stream, buffers, communicator.rank, data_tag)
    requests = [_native.isend_bytes(communicator, frame, dest, tag, mode)]
    data_mode = BUFFERED if mode == BUFFERED else STANDARD
    requests += [
        _native.post_send(
            communicator, part.address, part.nbytes, part, dest, data_tag, data_mode, DATA_CHANNEL
        )
        for part in buffers
        if frames.is_attached(part.nbytes)
    ]
    return requests


class Incoming:
    """An object whose message has arrived, and whose attachments may be on their way.

    Args:
        communicator: where the message came from.
        message: its bytes; kept alive until the object is loaded.

    Raises:
        frames.FrameError: the message starts like a frame and is none.

    Attributes:
        parts: requests that are to be completed before :meth:`load`.
    """

    __slots__ = ("_buffers", "_stream", "parts")

    def __init__(self, communicator: _native.Communicator, message: Any) -> None:
        self.parts: list[Request] = []
        self._stream = message
        self._buffers: list[Any] | None = None
        if len(message) > 0 and frames.is_frame(message):
            frame = frames.decode(message)
            self._stream = frame.stream
            self._buffers = [self._place(communicator, frame, part) for part in frame.buffers]

    def _place(
        self, communicator: _native.Communicator, frame: frames.Frame, part: memoryview | int
    ) -> Any:
        if not isinstance(part, int):
            return part
        memory = np.empty(part, np.uint8)
        address = memory.__array_interface__["data"][0]
        self.parts.append(
            _native.post_recv(
                communicator, address, part, memory, frame.source, frame.tag, DATA_CHANNEL
            )
        )
        return memory

    def load(self) -> Any:
        """The object; ``None`` for an empty message."""
        if self._buffers is not None:
            return MPI.pickle.loads_oob(MPI.buffer(self._stream), self._buffers)
        return MPI.pickle.loads(MPI.buffer(self._stream)) if len(self._stream) > 0 else None
