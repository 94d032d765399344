"""Requests of the engine, with mpi4py's names (MPI 4.1, sections 3.7 to 3.9).

A request made by the engine is no ``mpi4py.MPI.Request``: handed to code that knows only those, it
raises a ``TypeError`` instead of looking complete. The methods for several requests take both kinds
in one list, so a program may wait for a collective operation of the MPI library and for a message
at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

from mpi4py import MPI

from mooncake_mpi import _native, request_sets
from mooncake_mpi.errors import Error, make_error
from mooncake_mpi.unbound import dispatching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.request_sets import AnyRequest

# Requests whose handle was asked for.
_by_handle: WeakValueDictionary[int, Request] = WeakValueDictionary()


class _RequestType(dispatching(MPI.Prequest, MPI.Request), type):  # type: ignore[misc]
    """Makes requests of the MPI library instances of the class that replaces theirs."""

    _library: Any

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (
            "_library" in cls.__dict__ and isinstance(instance, cls._library)
        )


class Request(_native.Request, metaclass=_RequestType):
    """A non-blocking operation. ``bool(request)`` is false once it was completed and freed."""

    __slots__ = ("__weakref__",)
    _library = MPI.Request

    def __new__(cls, request: AnyRequest | None = None) -> Request:
        """A null request, or a handle for ``request``'s operation.

        An operation has one handle. A request of this class is returned itself; for a subclass the
        operation moves to the new handle, and ``request`` becomes null.
        """
        if isinstance(request, _native.Request) and isinstance(request, cls):
            return request
        new = super().__new__(cls)
        if isinstance(request, _native.Request):
            new._adopt(request)
        elif request is not None and not isinstance(request, MPI.Request):
            raise TypeError(f"expected a Request, got {type(request).__name__}")
        elif request:
            raise TypeError("a request of the MPI library cannot become one of the engine")
        return new

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, (Request, MPI.Request)):
            return not self and not other
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        if self:
            raise ValueError("cannot pickle a request that is not null")
        return (type(self), ())

    @property
    def handle(self) -> int:
        """A number that no other live request has; the library's for the null request."""
        if not self:
            return MPI.REQUEST_NULL.handle
        _by_handle[id(self)] = self
        return id(self)

    def toint(self) -> int:
        """The library's number of the null request; -1 for others, which it does not know."""
        return -1 if self else MPI.REQUEST_NULL.toint()

    def py2f(self) -> int:
        """As :meth:`toint`, the Fortran handle."""
        return -1 if self else MPI.REQUEST_NULL.py2f()

    @classmethod
    def fromhandle(cls, handle: int) -> AnyRequest:
        """The request that has this handle, of the engine or of the library."""
        known = _by_handle.get(handle)
        return cls._of_library(cls._library.fromhandle(handle)) if known is None else known

    @classmethod
    def fromint(cls, arg: int, /) -> AnyRequest:
        """The library's request of that number."""
        return cls._of_library(cls._library.fromint(arg))

    @classmethod
    def f2py(cls, arg: int) -> AnyRequest:
        """The library's request of that Fortran handle."""
        return cls._of_library(cls._library.f2py(arg))

    @classmethod
    def _of_library(cls, request: MPI.Request) -> AnyRequest:
        return request or cls()

    def cancel(self) -> None:
        """As :meth:`Cancel`."""
        self.Cancel()

    def free(self) -> None:
        """Free the request unless it is null."""
        if self:
            self.Free()

    def wait(self, status: MPI.Status | None = None) -> Any:
        """Wait for the operation; gives the object of an ``irecv``, otherwise ``None``."""
        self.Wait(status)
        return self._take_result()

    def test(self, status: MPI.Status | None = None) -> tuple[bool, Any | None]:
        """Whether the operation is complete, and the object of an ``irecv``."""
        return (True, self._take_result()) if self.Test(status) else (False, None)

    def get_status(self, status: MPI.Status | None = None) -> bool:
        """Whether the operation is complete; the request stays."""
        return self.Get_status(status)

    def _take_result(self) -> Any:
        result, self._result = self._result, None
        return result

    @classmethod
    def Waitany(cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None) -> int:
        """Wait for one of ``requests``; gives its index, ``MPI.UNDEFINED`` if none is active."""
        return request_sets.wait_any(requests, status)[0]

    @classmethod
    def Testany(
        cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None
    ) -> tuple[int, bool]:
        """Whether one of ``requests`` is complete, and its index."""
        return request_sets.test_any(requests, status)[:2]

    @classmethod
    def Get_status_any(
        cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None
    ) -> tuple[int, bool]:
        """As :meth:`Testany`, but the request stays."""
        return request_sets.get_status_any(requests, status)

    @classmethod
    def Testall(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> bool:
        """Whether all ``requests`` are complete; ends them if so."""
        return request_sets.test_all(requests, statuses)[0]

    @classmethod
    def Get_status_all(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> bool:
        """As :meth:`Testall`, but the requests stay."""
        return request_sets.get_status_all(requests, statuses)

    @classmethod
    def Waitsome(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> list[int] | None:
        """Wait until some of ``requests`` are complete; gives their indices."""
        return request_sets.wait_some(requests, statuses)[0]

    @classmethod
    def Testsome(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> list[int] | None:
        """The indices of those ``requests`` that are complete."""
        return request_sets.test_some(requests, statuses)[0]

    @classmethod
    def Get_status_some(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> list[int] | None:
        """As :meth:`Testsome`, but the requests stay."""
        return request_sets.get_status_some(requests, statuses)

    @classmethod
    def waitany(
        cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None
    ) -> tuple[int, Any]:
        """As :meth:`Waitany`; gives the index and the object."""
        return request_sets.wait_any(requests, status)

    @classmethod
    def testany(
        cls, requests: Sequence[AnyRequest], status: MPI.Status | None = None
    ) -> tuple[int, bool, Any | None]:
        """As :meth:`Testany`, with the object."""
        return request_sets.test_any(requests, status)

    @classmethod
    def waitall(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> list[Any]:
        """Wait for all ``requests``; gives their objects."""
        return request_sets.wait_all(requests, statuses)

    @classmethod
    def testall(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> tuple[bool, list[Any] | None]:
        """As :meth:`Testall`, with the objects."""
        return request_sets.test_all(requests, statuses)

    @classmethod
    def waitsome(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> tuple[list[int] | None, list[Any] | None]:
        """As :meth:`Waitsome`, with the objects."""
        return request_sets.wait_some(requests, statuses)

    @classmethod
    def testsome(
        cls, requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None = None
    ) -> tuple[list[int] | None, list[Any] | None]:
        """As :meth:`Testsome`, with the objects."""
        return request_sets.test_some(requests, statuses)

    get_status_any = Get_status_any
    get_status_all = Get_status_all
    get_status_some = Get_status_some


class Prequest(Request):
    """A persistent operation: started as often as wanted (MPI 4.1, section 3.9)."""

    __slots__ = ()
    _library = MPI.Prequest

    def Start(self) -> None:
        """Start the operation; ``ERR_REQUEST`` if it is under way already."""
        self._start()

    @classmethod
    def Startall(cls, requests: Sequence[Prequest | MPI.Prequest]) -> None:
        """Start every one of ``requests``."""
        for request in requests:
            request.Start()

    def Pready(self, _partition: int) -> None:
        """Only for a partitioned send; so are the other methods of this kind.

        Raises:
            Error: ``ERR_REQUEST``, the request is not partitioned.
        """
        raise _not_partitioned()

    def Pready_range(self, _low: int, _high: int) -> None:
        """See :meth:`Pready`."""
        raise _not_partitioned()

    def Pready_list(self, _partitions: Sequence[int]) -> None:
        """See :meth:`Pready`."""
        raise _not_partitioned()

    def Parrived(self, _partition: int) -> bool:
        """Only for a partitioned receive, see :meth:`Pready`."""
        raise _not_partitioned()


def wait_all_hook(
    requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None
) -> Literal[True]:
    """``Waitall`` for lists that the native one leaves to Python."""
    request_sets.wait_all(requests, statuses)
    return True


def _not_partitioned() -> Error:
    return make_error("ERR_REQUEST", "invalid request: it is not partitioned")
