"""Requests of the engine, with mpi4py's names (MPI 4.1, sections 3.7 to 3.9).

Called in the program's threads and in the completer's, no lock of its own.

A request made by the engine is no ``mpi4py.MPI.Request``: handed to code that knows only those, it
raises a ``TypeError`` instead of looking complete. The methods for several requests take both kinds
in one list, so a program may wait for a collective operation of the MPI library and for a message
at once. A request that has no operation yet is the library's, so that C code may fill it.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any, Literal, cast
from weakref import WeakValueDictionary

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.errhandlers import reported
from mooncake_mpi.errors import make_error
from mooncake_mpi.requests import request_sets
from mooncake_mpi.requests.set_methods import SetMethods
from mooncake_mpi.requests.states import owner_of
from mooncake_mpi.unbound import dispatching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.requests.states import AnyRequest

# Requests whose handle was asked for.
_by_handle: WeakValueDictionary[int, Request] = WeakValueDictionary()


class _RequestType(dispatching(MPI.Prequest, MPI.Request), type):  # type: ignore[misc]
    """Makes requests of the MPI library instances of the class that replaces theirs."""

    _library: Any

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (
            "_library" in cls.__dict__ and isinstance(instance, cls._library)
        )

    def __subclasscheck__(cls, kind: type) -> bool:
        return super().__subclasscheck__(kind) or (
            "_library" in cls.__dict__ and issubclass(kind, cls._library)
        )


class Request(_native.Request, SetMethods, metaclass=_RequestType):
    """A non-blocking operation. ``bool(request)`` is false once it was completed and freed."""

    __slots__ = ("__weakref__",)
    __module__ = "mpi4py.MPI"  # programs look for it there
    _library = MPI.Request

    def __new__(cls, request: AnyRequest | None = None) -> Request:
        """A handle for ``request``'s operation, of the engine or of the library, or a null request.

        Both handles show the same operation: when it was completed through one of them, the other
        is null too.

        Raises:
            TypeError: not a request, or for a persistent one not of that class.
        """
        library = isinstance(request, MPI.Request)
        if "_library" in cls.__dict__ and (request is None or (library and not request)):
            return cast("Request", cls._library())  # C code may fill it
        if request is None:
            return super().__new__(cls)
        if not isinstance(request, (_native.Request, MPI.Request)):
            raise TypeError(f"expected a Request, got {type(request).__name__}")
        if request and issubclass(cls, Prequest) and not isinstance(request, Prequest):
            raise TypeError(f"cannot convert {type(request).__name__} to {cls.__name__}")
        owner = owner_of(request)
        if isinstance(owner, MPI.Request) and not owner:
            owner = cls._library()  # not the constant, which C code must not fill
        new = super().__new__(cls)
        new._share(owner)
        return new

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (_native.Request, MPI.Request)):
            return NotImplemented
        mine, theirs = owner_of(self), owner_of(other)
        if isinstance(mine, MPI.Request) and isinstance(theirs, MPI.Request):
            return mine == theirs
        return mine is theirs or (not mine and not theirs)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        if self:
            raise ValueError("cannot pickle a request that is not null")
        return (type(self), ())

    @property
    def handle(self) -> int:
        """As :meth:`tohandle`."""
        return self.tohandle()

    def tohandle(self) -> int:
        """A number that no other live request has; the library's for requests that it knows.

        :meth:`fromhandle` makes a request of it again. The library knows only its own.
        """
        owner = owner_of(self)
        if isinstance(owner, MPI.Request):
            return owner.handle
        if not owner:
            return MPI.REQUEST_NULL.handle
        _by_handle[id(owner)] = cast("Request", owner)
        return id(owner)

    def toint(self) -> int:
        """The library's number of its requests; -1 for others, which it does not know."""
        return self._for_library().toint() if self._for_library() is not None else -1

    def py2f(self) -> int:
        """As :meth:`toint`, the Fortran handle."""
        return self._for_library().py2f() if self._for_library() is not None else -1

    def _for_library(self) -> Any:
        """The library's request in the place of this one; ``None`` if it knows no such one."""
        owner = owner_of(self)
        if isinstance(owner, MPI.Request):
            return owner
        return None if owner else MPI.REQUEST_NULL

    @classmethod
    def fromhandle(cls, handle: int) -> AnyRequest:
        """The request that has this handle, of the engine or of the library."""
        known = _by_handle.get(handle)
        return cast("AnyRequest", cls._library.fromhandle(handle) if known is None else cls(known))

    @classmethod
    def fromint(cls, arg: int, /) -> AnyRequest:
        """The library's request of that number."""
        return cast("MPI.Request", cls._library.fromint(arg))

    @classmethod
    def f2py(cls, arg: int) -> AnyRequest:
        """The library's request of that Fortran handle."""
        return cast("MPI.Request", cls._library.f2py(arg))

    def cancel(self) -> None:
        """As :meth:`Cancel`."""
        self.Cancel()

    def free(self) -> None:
        """Free the request unless it is null."""
        if self:
            self.Free()

    def wait(self, status: MPI.Status | None = None) -> Any:
        """Wait for the operation; gives the object of an ``irecv``, otherwise ``None``."""
        if self._shared is not None:
            return self._shared.wait(status)
        self.Wait(status)
        return self._take_result()

    def test(self, status: MPI.Status | None = None) -> tuple[bool, Any | None]:
        """Whether the operation is complete, and the object of an ``irecv``."""
        if self._shared is not None:
            return self._shared.test(status)  # type: ignore[no-any-return]
        return (True, self._take_result()) if self.Test(status) else (False, None)

    def get_status(self, status: MPI.Status | None = None) -> bool:
        """Whether the operation is complete; the request stays."""
        return self.Get_status(status)

    def _take_result(self) -> Any:
        result, self._result = self._result, None
        return result


class Prequest(Request):
    """A persistent operation: started as often as wanted (MPI 4.1, section 3.9)."""

    __slots__ = ()
    __module__ = "mpi4py.MPI"
    _library = MPI.Prequest

    @reported
    def Start(self) -> None:
        """Start the operation; ``ERR_REQUEST`` if it is under way already."""
        self._start()

    @classmethod
    @reported
    def Startall(cls, requests: Sequence[Prequest | MPI.Prequest]) -> None:
        """Start every one of ``requests``, the engine's own in one step.

        Where one of those cannot be started none is; where a message cannot be posted the others
        are, and the first error is raised.
        """
        known = list(requests)
        for request in known:
            if not isinstance(request, (Prequest, MPI.Prequest)):
                raise TypeError(f"expected a Prequest, got {type(request).__name__}")
        for request in cls._start_all(known):
            request.Start()

    @reported
    def Pready(self, partition: int) -> None:
        """Only for a partitioned send; so are the other methods of this kind.

        Raises:
            Error: ``ERR_REQUEST``, the request is not partitioned.
        """
        self._partitioned().Pready(partition)

    @reported
    def Pready_range(self, partition_low: int, partition_high: int) -> None:
        """See :meth:`Pready`."""
        self._partitioned().Pready_range(partition_low, partition_high)

    @reported
    def Pready_list(self, partitions: Sequence[int]) -> None:
        """See :meth:`Pready`."""
        self._partitioned().Pready_list(partitions)

    @reported
    def Parrived(self, partition: int) -> bool:
        """Only for a partitioned receive, see :meth:`Pready`."""
        return self._partitioned().Parrived(partition)  # type: ignore[no-any-return]

    def _partitioned(self) -> Any:
        """The request that may know of partitions: the one that this handle shares."""
        if self._shared is None:
            raise make_error("ERR_REQUEST", "invalid request: it is not partitioned")
        return self._shared


def wait_all_hook(
    requests: Sequence[AnyRequest], statuses: list[MPI.Status] | None
) -> Literal[True]:
    """``Waitall`` for lists that the native one leaves to Python."""
    request_sets.wait_all(requests, statuses)
    return True


def _class(name: str) -> type[Request]:
    return _CLASSES[name]


def _reduce_class(kind: type) -> str | tuple[Any, ...]:
    """How pickle finds a class: those here are not what ``mpi4py.MPI`` has under their names."""
    known = _CLASSES.get(kind.__name__) is kind
    return (_class, (kind.__name__,)) if known else kind.__qualname__


def null_request(name: str) -> MPI.Request:
    """A null request of the library's class of that name, for pickle."""
    return MPI.Prequest() if name == "Prequest" else MPI.Request()


def _reduce_null(request: MPI.Request) -> str | tuple[Any, ...]:
    """How pickle takes a null request of the library, whose class it may not find either."""
    known = request.__reduce__()
    return known if isinstance(known, str) else (null_request, (type(request).__name__,))


_CLASSES = {"Request": Request, "Prequest": Prequest}
copyreg.pickle(_RequestType, _reduce_class)
copyreg.pickle(MPI.Request, _reduce_null)
copyreg.pickle(MPI.Prequest, _reduce_null)
