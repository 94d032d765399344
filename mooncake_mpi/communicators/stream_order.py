"""Messages in the order of a stream: the host does not wait, the stream does.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.buffers.streams import handle_of
from mooncake_mpi.errhandlers import reporting
from mooncake_mpi.requests.enqueued import EnqueuedMessage, EnqueuedRequest

if TYPE_CHECKING:
    from mooncake_mpi.requests.request import Request


@reporting
class StreamOrderMethods:
    """Calls that return at once. They match in the order in which they are made."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _checked_communicator(self) -> _native.Communicator:
            """The native side."""

        def _given(self, request: Request) -> Request:
            """What the program gets for a request."""

    def Send_enqueue(self, buf: Any, dest: int, tag: int = 0, *, stream: Any = None) -> None:
        """Send ``buf`` when ``stream`` has come to this call; what it is given later may write it.

        As ``MPIX_Send_enqueue``. A failure is raised by the next call of the communicator.

        Args:
            buf: an array of a GPU; or contiguous memory of the host, with a stream.
            dest: rank of the receiver.
            tag: of the message.
            stream: of torch or CuPy, an object with ``__cuda_stream__``, or a handle as an int;
                None: the one that the array is used in, as in the calls without ``_enqueue``.
        """
        _native.enqueue(self._checked_communicator(), True, buf, dest, tag, handle_of(stream))  # noqa: FBT003

    def Recv_enqueue(
        self,
        buf: Any,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        *,
        stream: Any = None,
    ) -> None:
        """Receive into ``buf`` when ``stream`` has come here; what it is given later may read it.

        As ``MPIX_Recv_enqueue``, see :meth:`Send_enqueue`.
        """
        _native.enqueue(self._checked_communicator(), False, buf, source, tag, handle_of(stream))  # noqa: FBT003

    def Isend_enqueue(self, buf: Any, dest: int, tag: int = 0, *, stream: Any = None) -> Request:
        """Send ``buf`` when ``stream`` has come here; it goes on without waiting for the message.

        Until the request was waited for, by the host (``Wait``, ``Test``) or by a stream
        (``Wait_enqueue``), nothing may write ``buf``. See :meth:`Send_enqueue`.
        """
        communicator = self._checked_communicator()
        started = _native.start_enqueued(communicator, True, buf, dest, tag, handle_of(stream))  # noqa: FBT003
        return self._given(EnqueuedRequest(EnqueuedMessage(communicator, *started)))

    def Irecv_enqueue(
        self,
        buf: Any,
        source: int = MPI.ANY_SOURCE,
        tag: int = MPI.ANY_TAG,
        *,
        stream: Any = None,
    ) -> Request:
        """Receive into ``buf``; ``stream`` goes on without waiting. See :meth:`Isend_enqueue`."""
        communicator = self._checked_communicator()
        started = _native.start_enqueued(communicator, False, buf, source, tag, handle_of(stream))  # noqa: FBT003
        return self._given(EnqueuedRequest(EnqueuedMessage(communicator, *started)))
