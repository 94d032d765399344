"""The wire form of a pickled object that has out-of-band buffers.

An object without them is its pickle stream and nothing else. With them, the message is a frame: a
header, a table of buffer sizes, the pickle stream, and the buffers, each at a multiple of
``ALIGNMENT`` bytes, so that the receiver's arrays can stay where they arrived.
"""

from __future__ import annotations

from pickle import UnpicklingError
from struct import Struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: 0xff is no pickle opcode: no pickle stream starts like this.
MAGIC = b"\xffMOONFRM"

#: Enough for every element type, and a cache line.
ALIGNMENT = 64

_HEADER = Struct("<8sIIQ")  # magic, version, number of buffers, length of the pickle stream
_SIZE = Struct("<Q")
_VERSION = 1


class FrameError(UnpicklingError):
    """A message that starts like a frame and is none."""


def is_frame(message: Any) -> bool:
    """Whether a received message (bytes-like, not empty) starts like a frame."""
    return bytes(message[: len(MAGIC)]) == MAGIC


def encode(stream: bytes, buffers: Sequence[Any]) -> bytes:
    """The frame of a pickle stream and its out-of-band buffers (``MPI.buffer``)."""
    return b"".join(split(stream, buffers))


def split(stream: bytes, buffers: Sequence[Any]) -> list[Any]:
    """The frame in parts: what comes before a buffer, that buffer itself, and so on."""
    sizes = [buffer.nbytes for buffer in buffers]
    parts: list[Any] = [_HEADER.pack(MAGIC, _VERSION, len(sizes), len(stream))]
    parts += [_SIZE.pack(size) for size in sizes]
    parts.append(stream)
    end = _HEADER.size + len(sizes) * _SIZE.size + len(stream)
    for buffer, start in zip(buffers, _starts(end, sizes), strict=True):
        parts += [bytes(start - end), buffer]
        end = start + buffer.nbytes
    return parts


def decode(message: Any) -> tuple[memoryview, list[memoryview]]:
    """The pickle stream and the buffers of a frame, as views of it.

    Raises:
        FrameError: it is cut short, too long, of another version, or its sizes are impossible.
    """
    view = memoryview(message).cast("B")
    if len(view) < _HEADER.size:
        raise FrameError(f"object message: a frame of {len(view)} bytes has no header")
    magic, version, count, stream_length = _HEADER.unpack_from(view)
    if magic != MAGIC or version != _VERSION:
        raise FrameError(f"object message: frame version {version} is not {_VERSION}")
    table_end = _HEADER.size + count * _SIZE.size
    stream_end = table_end + stream_length
    if stream_end > len(view):
        raise FrameError(f"object message: {len(view)} bytes are too few for its pickle stream")
    sizes = [size for (size,) in _SIZE.iter_unpack(view[_HEADER.size : table_end])]
    starts = list(_starts(stream_end, sizes))
    end = starts[-1] + sizes[-1] if sizes else stream_end
    if end != len(view):
        raise FrameError(f"object message: its buffers end at {end}, the message at {len(view)}")
    buffers = [view[start : start + size] for start, size in zip(starts, sizes, strict=True)]
    return view[table_end:stream_end], buffers


def _starts(end: int, sizes: Iterable[int]) -> Iterator[int]:
    """Where the buffers start, behind ``end``."""
    for size in sizes:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        yield start
        end = start + size
