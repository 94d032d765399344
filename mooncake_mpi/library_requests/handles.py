"""Requests of mpi4py whose operation is the engine's; their methods wait in the engine.

Called in the program's threads; their operations have the locks (:mod:`.operations`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mpi4py import MPI

from mooncake_mpi.errhandlers import report
from mooncake_mpi.errors import Error, make_error
from mooncake_mpi.library_requests.operations import Operation, Outcome, show
from mooncake_mpi.requests.request import Prequest, null_request

if TYPE_CHECKING:
    from collections.abc import Sequence


class LibraryRequest(MPI.Grequest):
    """A request of mpi4py whose operation is the engine's."""

    __slots__ = ("_operation", "_outcome")
    __module__ = "mpi4py.MPI"
    __qualname__ = "Request"
    _operation: Operation | None
    _outcome: Outcome | None

    def __new__(cls, request: Any = None) -> LibraryRequest:
        """A handle for the same operation, or a null one."""
        new: LibraryRequest = MPI.Grequest.__new__(cls, request)
        new._operation = getattr(request, "_operation", None)
        new._outcome = getattr(request, "_outcome", None)
        return new

    def __bool__(self) -> bool:
        operation = self._operation
        return (operation is None or not operation.freed) and super().__bool__()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MPI.Request):
            return NotImplemented
        if not isinstance(other, LibraryRequest) or self._operation is None:
            return super().__eq__(other)
        return self._operation is other._operation or (not self and not other)

    def __ne__(self, other: object) -> bool:
        return not self == other  # mpi4py's own compares the handles

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        if self:
            raise ValueError("cannot pickle a request that is not null")
        return (null_request, (type(self).__name__,))

    def Wait(self, status: MPI.Status | None = None) -> Literal[True]:
        """Wait for the operation to complete."""
        return self._complete(MPI.Request.Wait, status)  # type: ignore[no-any-return]

    def Test(self, status: MPI.Status | None = None) -> bool:
        """Whether the operation is complete; ends the request if so."""
        operation = self._active()
        if operation is not None and not operation.test():
            return False
        return self._complete(MPI.Request.Wait, status)  # type: ignore[no-any-return]

    def Get_status(self, status: MPI.Status | None = None) -> bool:
        """Whether the operation is complete; the request stays."""
        operation = self._active()
        if operation is None:
            return super().Get_status(status)
        if not operation.test():
            return False
        if status is not None:
            operation.copy_status(status)
        return True

    def wait(self, status: MPI.Status | None = None) -> Any:
        """Wait for the operation; gives the object of an ``irecv``, otherwise ``None``."""
        self._active()
        outcome = self._outcome
        self._complete(MPI.Request.Wait, status)
        return None if outcome is None else outcome.object

    def test(self, status: MPI.Status | None = None) -> tuple[bool, Any | None]:
        """Whether the operation is complete, and the object of an ``irecv``."""
        operation = self._active()
        if operation is not None and not operation.test():
            return (False, None)
        return (True, self.wait(status))

    def get_status(self, status: MPI.Status | None = None) -> bool:
        """As :meth:`Get_status`."""
        return self.Get_status(status)

    def Cancel(self) -> None:
        """Cancel a receive that has not matched; otherwise nothing happens."""
        self._active()
        super().Cancel()

    def cancel(self) -> None:
        """As :meth:`Cancel`."""
        self.Cancel()

    def Free(self) -> None:
        """Let go of the request; an operation under way completes by itself."""
        operation = self._active()
        if operation is not None:
            operation.release()
        super().Free()

    def free(self) -> None:
        """Free the request unless it is null."""
        if self:
            self.Free()

    def Complete(self) -> None:
        """Only for generalized requests of the program's own.

        Raises:
            Error: ``ERR_REQUEST``, always.
        """
        raise make_error("ERR_REQUEST", "invalid request: the engine completes it")

    def complete(self, obj: Any = None) -> None:
        """As :meth:`Complete`."""
        del obj
        self.Complete()

    def _active(self) -> Operation | None:
        """The operation; ``None`` if there is none, or it was completed through a copy."""
        operation = self._operation
        if operation is not None and operation.freed:
            show(self, MPI._addressof(MPI.REQUEST_NULL))
            self._operation = self._outcome = operation = None
        return operation

    def _complete(self, method: Any, status: MPI.Status | None) -> Any:
        """Wait in the engine, then let ``method`` of the library end the request."""
        operation = self._active()
        if operation is None:
            return method(self, status)
        operation.wait()
        operation.awaited = True
        result = method(self)
        if status is not None:
            operation.copy_status(status)
        if isinstance(operation.error, Error):
            report(operation.error)
        if operation.error is not None:
            raise operation.error
        return result


class LibraryPrequest(LibraryRequest, MPI.Prequest):
    """A persistent request whose operation is the engine's; null for the library until started.

    The library starts its own persistent requests only: ``mpi4py.MPI.Prequest.Startall`` raises
    ``ERR_REQUEST`` for these, their own ``Start`` and ``Startall`` work.
    """

    __slots__ = ("_request",)
    __module__ = "mpi4py.MPI"
    __qualname__ = "Prequest"
    _request: Any

    def __new__(cls, request: Any = None) -> LibraryPrequest:
        """A handle for the same operation, or a null one."""
        new: LibraryPrequest = super().__new__(cls, request)  # type: ignore[assignment]
        new._request = getattr(request, "_request", None)
        return new

    @classmethod
    def _of(cls, request: Prequest) -> LibraryPrequest:
        new = cls()
        new._request = request
        return new

    def __bool__(self) -> bool:
        return bool(self._request)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MPI.Request):
            return NotImplemented
        mine, theirs = self._request, getattr(other, "_request", None)
        return mine is theirs if mine or theirs else not other

    __hash__ = None  # type: ignore[assignment]

    def Start(self) -> None:  # type: ignore[override]
        """Start the operation; ``ERR_REQUEST`` if it is under way already."""
        if self._request is None:
            raise make_error("ERR_REQUEST", "invalid request: it is null")
        self._request.Start()
        Operation(self._request).hand_to(self)

    @classmethod
    def Startall(cls, requests: Sequence[MPI.Prequest]) -> None:
        """Start every one of ``requests``."""
        for request in requests:
            request.Start()

    def Free(self) -> None:
        """Let go of the request; an operation under way completes by itself."""
        if not self:
            raise make_error("ERR_REQUEST", "invalid request: it is null")
        operation, request = self._active(), self._request
        self._request = None
        if operation is None or operation.ended:
            request.Free()
        else:
            operation.after = request.Free
        if operation is not None:
            operation.release()
            MPI.Request.Free(self)

    def Pready(self, partition: int) -> None:
        """Mark a partition of a started send as ready to be sent."""
        self._request.Pready(partition)

    def Pready_range(self, partition_low: int, partition_high: int) -> None:
        """Mark the partitions from ``partition_low`` to ``partition_high``, both included."""
        self._request.Pready_range(partition_low, partition_high)

    def Pready_list(self, partitions: Sequence[int]) -> None:
        """Mark several partitions."""
        self._request.Pready_list(partitions)

    def Parrived(self, partition: int) -> bool:
        """Whether a partition of a started receive is here."""
        return self._request.Parrived(partition)  # type: ignore[no-any-return]


LibraryRequest.__name__ = "Request"
LibraryPrequest.__name__ = "Prequest"
