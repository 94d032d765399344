"""From objects to messages and back, following ``MPI.pickle``.

Objects are pickled in the program's threads, and unpickled in the one that ends the operation,
which may be the completer's; no lock of its own.
"""

from __future__ import annotations

from contextlib import suppress
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.interruptions import is_interruption
from mooncake_mpi.objects import gpu_receives

if TYPE_CHECKING:
    from mooncake_mpi.objects.gpu_sends import Departing

#: Objects of these types have no out-of-band buffers: their pickler need not look for any.
PLAIN_TYPES = frozenset({int, float, complex, str, bytes, bool, type(None)})
_FIRST_PROTOCOL_WITH_BUFFERS = 5

_pickle = MPI.pickle
# A user changes what they do through MPI.pickle.__init__, never the methods themselves.
dumps, loads = _pickle.dumps, _pickle.loads
_as_buffer = MPI.buffer


#: From this size on, sending buffers from where they are pays, and leaving them where they arrive.
LARGE = 256 * 1024


def dump(obj: Any, arrays: Departing | None = None) -> bytes:
    """The message of an object: its pickle stream.

    Args:
        obj: the object.
        arrays: takes what is a GPU's memory, to be sent beside the stream.

    Raises:
        TypeError: the user's ``dumps`` did not make bytes.
    """
    message = dump_parts(obj, arrays)
    return message if isinstance(message, bytes) else b"".join(message)


def dump_parts(obj: Any, arrays: Departing | None = None) -> bytes | list[Any]:
    """As :func:`dump`, but large buffers stay where they are: then the message is in parts.

    The parts refer to the object's memory, which must not change until they are sent.
    """
    if type(obj) in PLAIN_TYPES:
        return checked(dumps(obj))
    if arrays is None:
        stream, buffers = _dump_with_buffers(obj)
    else:
        stream, buffers = arrays.dump(_dump_with_buffers, obj)
    if not buffers:
        return checked(stream)
    around = None
    if type(stream) is bytes:
        around = _native.put_buffers_in(stream, [buffer.nbytes for buffer in buffers])
    if around is None:  # a stream of the user's own making
        if arrays:
            return _in_one(arrays, obj)
        return checked(dumps(obj))
    parts: list[Any] = [around[0]]
    for buffer, behind in zip(buffers, around[1:], strict=True):
        parts += [buffer, behind]
    if sum(buffer.nbytes for buffer in buffers) >= LARGE:
        return parts
    return b"".join(parts)


def _in_one(arrays: Departing, obj: Any) -> bytes:
    """As :func:`dump_parts` of an object with arrays of GPUs, with its other buffers inside."""
    arrays.clear()
    return checked(arrays.dump(lambda obj: (dumps(obj), None), obj)[0])


def checked(stream: Any) -> bytes:
    """What a pickler gave, which must be bytes.

    Raises:
        TypeError: it is not.
    """
    if type(stream) is not bytes:
        raise TypeError(f"expected bytes, {type(stream).__name__} found")
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
        Exception: what unpickling raises.
    """
    try:
        return _load(message)
    except BaseException as error:
        not_loaded(message, error)
        raise


def not_loaded(message: Any, error: BaseException) -> None:
    """Unpickling a message raised; if that was no interruption it is not tried again."""
    if not is_interruption(error):
        gpu_receives.drop(message)


def _load(message: Any) -> Any:
    nbytes = len(message)
    if nbytes < LARGE:
        if nbytes == 0:
            return None
        return loads(message if type(message) is _native.OwnedBuffer else _as_buffer(message))
    memory = _as_buffer(message)
    apart = _native.take_buffers_out(memory.address, nbytes)
    if apart is not None:
        stream, places = apart
        view = memoryview(message)
        with suppress(TypeError):  # a loads of the user's that takes no buffers
            # Buffers of their own: who asks one for its exporter must not get the whole message.
            buffers = [PickleBuffer(view[i:j]) for i, j in places]
            return _pickle.loads_oob(_as_buffer(stream), buffers)
    return loads(memory)
