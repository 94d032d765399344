"""Which object stands for a communicator, and which class for one of mpi4py's.

Called in the program's threads, no lock of its own. Whatever refers to a communicator that the
engine carries is an object of one of this package's classes, and shares its matching space; other
communicators are objects of the MPI library, and instances all the same.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mpi4py import MPI

from mooncake_mpi import _native, unbound
from mooncake_mpi.engine import runtime
from mooncake_mpi.library_requests.giving import giver

if TYPE_CHECKING:
    from mooncake_mpi.communicators.comm import Comm
    from mooncake_mpi.library_requests.giving import Giver

_Comm = TypeVar("_Comm", bound=MPI.Comm)
_Kind = TypeVar("_Kind", bound="type[Comm]")

#: Which class stands for which of mpi4py's.
REPLACEMENTS: dict[type, type[Comm]] = {}


def referring(function: Any) -> Any:
    """A function of an attribute, with what a program has for its communicator."""
    if not callable(function):
        return function

    def call(comm: Any, keyval: int, value: Any) -> Any:
        return function(refer(comm), keyval, value)

    return call


def _redirected(comm: Any, name: str) -> Any:
    """What is called through a class for an object of the MPI library."""
    if is_ours(comm) or not isinstance(comm, MPI.Comm):
        in_library = getattr(comm, "_messages_in_library", False) and hasattr(MPI.Comm, name)
        return partial(getattr(MPI.Comm, name), comm) if in_library else None
    # What frees a communicator makes the very object null.
    return getattr(comm if name in _FREEING else refer(comm), name, None)


_FREEING = {"Disconnect", "Free", "free"}
_KINDS = (MPI.Comm, MPI.Intracomm, MPI.Cartcomm, MPI.Graphcomm, MPI.Distgraphcomm)


class CommType(unbound.dispatching(*_KINDS, redirect=_redirected), type):  # type: ignore[misc]
    """Makes communicators of the MPI library instances of the classes that stand for theirs."""

    _library: Any

    def __instancecheck__(cls, instance: Any) -> bool:
        return type.__instancecheck__(cls, instance) or (
            "_library" in cls.__dict__ and isinstance(instance, cls._library)
        )

    def __subclasscheck__(cls, kind: type) -> bool:
        return type.__subclasscheck__(cls, kind) or (
            "_library" in cls.__dict__ and issubclass(kind, cls._library)
        )


def is_ours(comm: Any) -> bool:
    """Whether the object's class is one of this package's."""
    return isinstance(type(comm), CommType)


def replaced(comm: Any) -> Any:
    """``comm`` as an object of the class that stands for its own, which knows no engine yet."""
    if not is_ours(comm):
        ours = REPLACEMENTS.get(type(comm))
        if ours is not None:
            return MPI.Comm.__new__(ours, cast("Any", comm))
    return comm


def attach_known(comm: Any) -> Any:
    """``comm``, one of this package's, with the engine's side of what it refers to, if any."""
    comm._communicator, comm._giver = runtime.known(comm), giver()
    return comm


def refer(comm: Any) -> Any:
    """The object for a communicator that may be known to the engine; local.

    Args:
        comm: an object of the MPI library.

    Returns:
        One that shares the engine's matching space, or ``comm`` itself where there is none.
    """
    return comm if runtime.known(comm) is None else attach_known(replaced(comm))


def attach(comm: _Comm, giver: Giver | None) -> _Comm:
    """``comm``, one of this package's, made known to the engine; collective over it."""
    null = comm == MPI.COMM_NULL
    cast("Any", comm)._communicator = None if null else runtime.communicator_of(cast("Any", comm))
    cast("Any", comm)._giver = giver
    return comm


def accelerate(comm: Any, giver: Giver | None = None) -> Any:
    """An accelerated communicator for one that the MPI library has just made."""
    made = replaced(comm)
    return attach(made, giver) if is_ours(made) else made


def stands_for_library(kind: _Kind) -> _Kind:
    """Let a class stand for the one of mpi4py that it names, and put the native methods on it.

    On each class anew: the interpreter calls a C method the short way for objects of just the class
    that has it.
    """
    offset = MPI.Comm.__basicsize__
    if kind.__basicsize__ != offset + 16:
        raise ImportError("mpi4py lays out communicators in a way that this version does not know")
    _native.install(kind, offset, MPI.ANY_SOURCE, MPI.ANY_TAG)
    REPLACEMENTS[cast("Any", kind)._library] = kind
    return kind
