"""The wire form of a pickled object whose large buffers travel beside it.

An object without out-of-band buffers is its pickle stream and nothing else. With them, the message
is a frame: a header, a table of buffer sizes, the pickle stream and the small buffers; the large
ones follow as messages of their own, which the receiver takes straight into their final place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pickle import UnpicklingError
from struct import Struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A buffer of this size or more is a message of its own.
ATTACHMENT_BYTES = 64 * 1024

#: 0xff is no pickle opcode: no pickle stream starts like this.
MAGIC = b"\xffMOONFRM"

_HEADER = Struct("<8sIiiIQ")  # magic, version, source, tag, number of buffers, stream length
_SIZE = Struct("<Q")
_VERSION = 1
_LARGEST = 1 << 62


class FrameError(UnpicklingError):
    """A message that starts like a frame and is none."""


@dataclass(frozen=True)
class Frame:
    """A received frame.

    Attributes:
        source: rank of the sender of the attachments.
        tag: their tag.
        stream: the pickle stream.
        buffers: in the stream's order, the bytes of a small buffer or the size of an attachment.
    """

    source: int
    tag: int
    stream: memoryview
    buffers: list[memoryview | int]


def needs_frame(stream: bytes, buffers: Sequence[Any]) -> bool:
    """Whether a pickle stream cannot be sent as it is."""
    return bool(buffers) or stream.startswith(MAGIC)


def is_frame(message: Any) -> bool:
    """Whether a received message (bytes-like, not empty) starts like a frame."""
    return message[0] == MAGIC[0] and bytes(memoryview(message)[: len(MAGIC)]) == MAGIC


def is_attached(nbytes: int) -> bool:
    """Whether a buffer of this size is a message of its own."""
    return nbytes >= ATTACHMENT_BYTES


def encode(stream: bytes, buffers: Sequence[Any], source: int, tag: int) -> bytes:
    """The frame of a pickle stream and its out-of-band buffers (``MPI.buffer``)."""
    header = _HEADER.pack(MAGIC, _VERSION, source, tag, len(buffers), len(stream))
    table = b"".join(_SIZE.pack(buffer.nbytes) for buffer in buffers)
    small = [buffer for buffer in buffers if not is_attached(buffer.nbytes)]
    return b"".join([header, table, stream, *small])


def decode(message: Any) -> Frame:
    """Read a frame.

    Raises:
        FrameError: it is cut short, too long, of another version, or its sizes are impossible.
    """
    view = memoryview(message).cast("B")
    if len(view) < _HEADER.size:
        raise FrameError(f"object message: a frame of {len(view)} bytes has no header")
    magic, version, source, tag, count, stream_length = _HEADER.unpack_from(view)
    if magic != MAGIC or version != _VERSION:
        raise FrameError(f"object message: frame version {version} is not {_VERSION}")
    table_end = _HEADER.size + count * _SIZE.size
    if table_end > len(view):
        raise FrameError(f"object message: a table of {count} buffers does not fit its frame")
    sizes = [size for (size,) in _SIZE.iter_unpack(view[_HEADER.size : table_end])]
    inline = sum(size for size in sizes if not is_attached(size))
    if max(sizes, default=0) > _LARGEST or table_end + stream_length + inline != len(view):
        raise FrameError(f"object message: sizes do not add up to its {len(view)} bytes")
    offset = table_end + stream_length
    stream = view[table_end:offset]
    buffers: list[memoryview | int] = []
    for size in sizes:
        if is_attached(size):
            buffers.append(size)
        else:
            buffers.append(view[offset : offset + size])
            offset += size
    return Frame(source, tag, stream, buffers)
