"""Requests of messages in the order of a stream.

Called in the program's threads and in the completer's, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mooncake_mpi.buffers.streams import handle_of
from mooncake_mpi.errhandlers import reported
from mooncake_mpi.requests.composites import CompositeRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

    from mooncake_mpi import _native
    from mooncake_mpi.requests.request import Request
    from mooncake_mpi.requests.states import AnyRequest


class EnqueuedMessage:
    """A message whose end is awaited by a stream or by the host: a composite's driver."""

    def __init__(self, communicator: _native.Communicator, request: Request, end: Any) -> None:
        self._communicator = communicator
        self._request = request
        self._end = end  # None: nothing to wait for

    def _poll(self) -> bool:
        return self._request._poll() and (self._end is None or self._end.landed(self._request))

    def _pending(self) -> Sequence[AnyRequest]:
        return (self._request,)

    def _complete(self, status: MPI.Status | None) -> None:
        self._request._wait(status)

    def _look(self, status: MPI.Status) -> None:
        self._request.Get_status(status)

    def _cancel(self) -> None:
        self._request.Cancel()

    def _leave(self) -> None:
        if self._end is not None:
            self._end.leave(self._request)

    def _finish(self, stream: int | None) -> None:
        if self._end is not None:
            self._end.finish(self._request, stream)


class EnqueuedRequest(CompositeRequest):
    """A request of ``Isend_enqueue`` or ``Irecv_enqueue``."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there
    __qualname__ = "Request"

    @reported
    def Wait_enqueue(self, stream: Any = None) -> None:
        """Have a stream wait, and not the host, for the message (as ``MPIX_Wait_enqueue``).

        What the stream is given from now on comes after it. The request is null then; an error of
        the message is raised by the next call of its communicator.

        Args:
            stream: of torch or CuPy, an object with ``__cuda_stream__``, or a handle as an int;
                None: the stream that the message was started in.
        """
        driver, self._driver = self._driver, None
        if driver is None:
            return
        try:
            driver._finish(handle_of(stream))  # type: ignore[attr-defined]
        except BaseException:
            self._driver = driver
            raise
