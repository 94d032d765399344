"""Arrays of GPUs that an object has, sent beside its pickle stream.

Called in the program's threads, no lock of its own. Each array is a message of the matching space
``OBJECT_ARRAYS``, announced before the stream is: so all of them are there when that has come.
The stream begins with a call that receives them and ends with one that waits for them
(:mod:`mooncake_mpi.objects.gpu_receives`); whoever unpickles it gets the object whole.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any

from mooncake_mpi import _native
from mooncake_mpi.constants import OBJECT_ARRAYS, STANDARD
from mooncake_mpi.objects import gpu_receives

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpi4py import MPI

    from mooncake_mpi.objects.gpu_blocks import Block
    from mooncake_mpi.requests.request import Request
    from mooncake_mpi.requests.states import AnyRequest

_LARGEST_TAG = 2**31 - 1
_tags = count()


class _AtWork(threading.local):
    departing: Departing | None = None


_at_work = _AtWork()


def current() -> Departing | None:
    """What takes the arrays of the object that this thread pickles to be sent."""
    return _at_work.departing


class Departing:
    """The arrays of one object that is sent, in the order in which the pickler came to them.

    Attributes:
        copies: whether copies of the arrays are sent, as the program may change them at once.
        key: of the object, at its receiver: the number of a context there, the sender's rank in it,
            and the tag of the arrays' messages.
        requests: of the messages, once they are started.
    """

    __slots__ = (
        "_blocks",
        "_communicator",
        "_dest",
        "_libraries",
        "_taken",
        "copies",
        "key",
        "requests",
    )

    def __init__(self, communicator: _native.Communicator, dest: int, *, copies: bool) -> None:
        self._communicator, self._dest, self.copies = communicator, dest, copies
        self._blocks: list[Block] = []
        self._libraries: list[str] = []
        self._taken: dict[int, int] = {}
        self.key: gpu_receives.Key = (0, 0, 0)
        self.requests: list[Request] = []

    def __bool__(self) -> bool:
        """Whether there is an array."""
        return bool(self._blocks)

    def takes(self, address: int, nbytes: int) -> bool:
        """Whether that is a GPU's memory, from where messages go."""
        return not _native.gpu_objection(address, nbytes)

    def known(self, address: int) -> int | None:
        """The number of what was taken from that address, if something was."""
        return self._taken.get(address)

    def add(self, library: str, block: Block, address: int = 0) -> int:
        """Take an array; its number. Of memory that others may share, with its address."""
        if not self._blocks:
            number = self._communicator.number_at(self._dest)
            self.key = (number, self._communicator.rank, next(_tags) & _LARGEST_TAG)
        self._blocks.append(block)
        self._libraries.append(library)
        if address:
            self._taken[address] = len(self._blocks) - 1
        return len(self._blocks) - 1

    def dump(self, pickler: Callable[[Any], tuple[Any, Any]], obj: Any) -> tuple[Any, Any]:
        """What ``pickler`` makes of ``obj``, a stream and buffers; the arrays are here then."""
        before, _at_work.departing = _at_work.departing, self
        try:
            stream, buffers = pickler(obj)
        finally:
            _at_work.departing = before
        if not self._blocks:
            return stream, buffers
        sizes = [block.nbytes for block in self._blocks]
        whole = gpu_receives.around(stream, self.key, self._libraries, sizes)
        if whole is None:  # a stream of the user's own making
            self.clear()
            return pickler(obj)
        return whole, buffers

    def clear(self) -> None:
        """Forget the arrays: the object is pickled again."""
        self._blocks.clear()
        self._libraries.clear()
        self._taken.clear()

    def start(self, tag: int) -> None:
        """Start the messages, unless the stream's is one that cannot be sent.

        Raises:
            Error: as of a message.
        """
        if not 0 <= tag <= self._communicator.tag_ub:
            return
        for block in self._blocks:
            if block.nbytes:
                request = _native.isend_bytes(
                    self._communicator,
                    block,
                    self._dest,
                    self.key[2],
                    STANDARD,
                    OBJECT_ARRAYS,
                )
                self.requests.append(request)

    def wait(self) -> None:
        """Wait until the arrays may be changed.

        Raises:
            Error: the first of those of the messages; all of them have ended.
        """
        gpu_receives.wait_for_all(self.requests)


class SentWithArrays:
    """The driver of a request: the message of a stream, and those of its arrays."""

    __slots__ = ("_arrays", "_communicator", "_stream")

    def __init__(
        self, communicator: _native.Communicator, stream: Request, arrays: list[Request]
    ) -> None:
        self._communicator, self._stream, self._arrays = communicator, stream, arrays

    def _poll(self) -> bool:
        return self._stream._poll() and all(request._poll() for request in self._arrays)

    def _pending(self) -> Sequence[AnyRequest]:
        return (self._stream, *self._arrays)

    def _complete(self, status: MPI.Status | None) -> None:
        try:
            gpu_receives.wait_for_all(self._arrays)
        finally:
            self._stream._wait(status)

    def _look(self, status: MPI.Status) -> None:
        self._stream.Get_status(status)

    def _leave(self) -> None:
        """Nothing: each part completes by itself when its request is dropped."""

    def _cancel(self) -> None:
        """Nothing: the arrays are at their receiver's already, as far as matching goes."""
