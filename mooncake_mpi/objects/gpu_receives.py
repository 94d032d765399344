"""Arrays of GPUs that an object has, received while its pickle stream is loaded.

Called in the program's threads and in the completer's, no lock of its own: the thread that loads a
stream alone knows its key. A stream with arrays calls what is here, whoever loads it: first
:func:`expect`, which starts to receive them, :func:`owner` for each, and last :func:`complete`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mooncake_mpi import _native, contexts
from mooncake_mpi.constants import OBJECT_ARRAYS
from mooncake_mpi.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mooncake_mpi.objects.gpu_blocks import Block
    from mooncake_mpi.requests.request import Request

# The number of a context of this process, the sender's rank in it, and the tag of the messages.
Key = tuple[int, int, int]

#: How each library allocates so many bytes, on its current device.
ALLOCATE: dict[str, Callable[[int], Block]] = {}

_arriving: dict[Key, _Arrival] = {}

_GLOBAL, _BYTES, _REDUCE, _STOP = b"c", b"B", b"R", b"."
_TUPLE1, _TUPLE2 = b"\x85", b"\x86"
_PROTOCOL = b"\x80"
_HEAD_BYTES = 2  # the protocol's number
_NAME = __name__.encode()
_BEGIN = _GLOBAL + _NAME + b"\ncomplete\n" + _GLOBAL + _NAME + b"\nexpect\n" + _BYTES
# What begins the name of each module that stands for an array in a stream.
_PLACES = __name__.removesuffix("receives").encode()


def around(stream: Any, key: Key, libraries: Sequence[str], sizes: Sequence[int]) -> bytes | None:
    """A pickle stream that receives arrays, loads ``stream`` and waits for them.

    The object that it makes is that of ``stream``, given to :func:`complete`.

    Returns:
        ``None`` if that is not the pickle stream of an object with arrays.
    """
    if type(stream) is not bytes or stream[:1] != _PROTOCOL or stream[-1:] != _STOP:
        return None
    if _PLACES not in stream:  # they are inside of something else, such as compressed bytes
        return None
    arrays = (f"{name}:{size}" for name, size in zip(libraries, sizes, strict=True))
    manifest = " ".join([*map(str, key), *arrays]).encode()
    head, rest = stream[:_HEAD_BYTES], stream[_HEAD_BYTES:-1]
    expected = _BEGIN + len(manifest).to_bytes(4, "little") + manifest + _TUPLE1 + _REDUCE
    # The last opcode of a frame stays in it.
    return b"".join([head, expected, rest, _TUPLE2, _REDUCE, _STOP])


def expect(manifest: bytes) -> _Arrival:
    """Start to receive the arrays of the object whose stream is being loaded.

    Raises:
        Error: as of a receive.
        RuntimeError: they are not there any more, or cannot be made here; nobody waits for them
            then.
    """
    number, source, tag, *arrays = manifest.decode().split()
    key = (int(number), int(source), int(tag))
    arrival = _arriving.get(key)  # the stream was loaded before, as far as an interruption
    if arrival is None:
        arrival = _Arrival(key, [array.split(":") for array in arrays])
        _arriving[key] = arrival
    return arrival


def owner(key: Key, index: int) -> Any:
    """What keeps the memory of an array, in its library.

    Raises:
        RuntimeError: the object was loaded already, or is loaded without its end.
    """
    arrival = _arriving.get(key)
    if arrival is None:
        raise _gone(key)
    return arrival.blocks[index].owner


def complete(arrival: _Arrival, obj: Any) -> Any:
    """``obj``, when all its arrays have come.

    Raises:
        Error: as of a receive.
    """
    arrival.wait()
    _arriving.pop(arrival.key, None)
    return obj


def drop(message: Any) -> None:
    """The stream in ``message`` will not be loaded again: end its arrays, if it has any."""
    begin = _HEAD_BYTES + len(_BEGIN)
    head = bytes(memoryview(message)[: begin + 4])
    if head[_HEAD_BYTES:begin] != _BEGIN:
        return
    length = int.from_bytes(head[begin:], "little")
    manifest = bytes(memoryview(message)[begin + 4 : begin + 4 + length])
    number, source, tag = manifest.decode().split()[:3]
    arrival = _arriving.pop((int(number), int(source), int(tag)), None)
    if arrival is not None:
        with suppress(Error):  # another one is being raised
            arrival.wait()  # the sender does


def wait_for_all(requests: Sequence[Request]) -> None:
    """Wait for every one of ``requests``.

    Raises:
        Error: the first of theirs; all of them have ended.
    """
    errors = [error for error in map(_error_of, requests) if error is not None]
    if errors:
        raise errors[0]


def _error_of(request: Request) -> Error | None:
    """Wait for it."""
    try:
        request._wait()
    except Error as error:
        return error
    return None


class _Arrival:
    """The arrays of one object, on their way."""

    __slots__ = ("_requests", "blocks", "key")

    def __init__(self, key: Key, arrays: Sequence[Sequence[str]]) -> None:
        self.key = key
        self.blocks: list[Block] = []
        self._requests: list[Request] = []
        sizes = [int(nbytes) for _, nbytes in arrays]
        messages = [_take(key) if nbytes else None for nbytes in sizes]
        try:
            self.blocks += [
                _allocated(library, nbytes)
                for (library, _), nbytes in zip(arrays, sizes, strict=True)
            ]
            for message, block in zip(messages, self.blocks, strict=True):
                if message is not None:
                    self._requests.append(_native.message_post_recv(message, block))
        except _NotAllocatedError as failed:
            _discard(messages)
            raise RuntimeError(
                f"the object from rank {key[1]} has arrays of {failed}, in the memory of GPUs, "
                f"which cannot be made in this process: {failed.__cause__}"
            ) from failed.__cause__
        except Exception:
            _discard(messages)
            # Dropped, they would need somebody who makes progress until they have come.
            with suppress(Error):
                self.wait()
            raise

    def wait(self) -> None:
        """Wait for all of them."""
        wait_for_all(self._requests)


class _NotAllocatedError(Exception):
    """An array cannot be made here, of the library that this names."""


def _allocated(library: str, nbytes: int) -> Block:
    try:
        return ALLOCATE[library](nbytes)
    except Exception as error:
        raise _NotAllocatedError(library) from error


def _take(key: Key) -> _native.MatchedMessage:
    number, source, tag = key
    communicator = contexts.find(number)
    if communicator is None:
        raise _gone(key)
    message = _native.improbe(communicator, source, tag, OBJECT_ARRAYS)
    if message is None:
        raise _gone(key)
    return message


def _gone(key: Key) -> RuntimeError:
    return RuntimeError(
        f"the arrays of an object from rank {key[1]}, in the memory of GPUs, are not here: its "
        "pickle stream can be loaded once, by the process that it was sent to"
    )


def _discard(messages: Sequence[_native.MatchedMessage | None]) -> None:
    """Receive nothing of those that were not received, so that their sender goes on."""
    nothing = bytearray()
    with suppress(Error):  # truncated, or another reason is being raised
        wait_for_all(
            [
                _native.message_post_recv(message, nothing)
                for message in messages
                if message is not None and not message.received
            ]
        )
