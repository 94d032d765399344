"""Filling an ``MPI.Status`` from what the engine knows of a message (MPI 4.1, section 3.2.5).

Called in whichever thread ends an operation, no lock of its own.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

if TYPE_CHECKING:
    from mooncake_mpi.errors import Error

_BYTE = MPI.BYTE
_set_source = MPI.Status.Set_source
_set_tag = MPI.Status.Set_tag
_set_error = MPI.Status.Set_error
_set_elements = MPI.Status.Set_elements
_set_cancelled = MPI.Status.Set_cancelled


def fill_status(
    status: MPI.Status, source: int, tag: int, error: int, nbytes: int, cancelled: bool
) -> None:
    """Set every field of ``status``.

    The unbound methods keep a user's subclass of ``MPI.Status`` out of the way, as a C library
    that writes the structure would; they do not look at the type of their first argument.

    Args:
        status: filled in place.
        source: rank of the sender, ``MPI.PROC_NULL`` or ``MPI.ANY_SOURCE`` (empty status).
        tag: the message's tag.
        error: an MPI error class, ``MPI.SUCCESS`` for none.
        nbytes: received bytes, above 2 GiB too.
        cancelled: whether the operation was cancelled.

    Raises:
        TypeError: ``status`` is not an ``MPI.Status``.
    """
    _check(status)
    _set_source(status, source)
    _set_tag(status, tag)
    _set_error(status, error)
    _set_elements(status, _BYTE, nbytes)
    _set_cancelled(status, cancelled)


def fill_empty(status: MPI.Status) -> None:
    """Make ``status`` the empty status of MPI 4.1, section 3.7.3."""
    fill_status(status, MPI.ANY_SOURCE, MPI.ANY_TAG, MPI.SUCCESS, 0, cancelled=False)


def fill_error(status: MPI.Status, error: Error) -> None:
    """Keep ``status`` but for its error field, which names ``error``'s class."""
    _check(status)
    _set_error(status, error.Get_error_class())


class _StatusType(type):
    """Makes statuses of the MPI library instances of the class that stands for theirs."""

    def __instancecheck__(cls, instance: object) -> bool:
        return super().__instancecheck__(instance) or (
            cls is Status and isinstance(instance, MPI.Status)
        )

    def __subclasscheck__(cls, kind: type) -> bool:
        return super().__subclasscheck__(kind) or (cls is Status and issubclass(kind, MPI.Status))


class Status(MPI.Status, metaclass=_StatusType):
    """An ``MPI.Status`` whose counts are right beyond an ``int``, where the library's are not.

    ``Get_count`` of a library without MPI 4's large counts gives ``MPI.UNDEFINED`` from 2 GiB on.
    """

    __slots__ = ()
    __module__ = "mpi4py.MPI"  # programs look for it there

    def Get_count(self, datatype: MPI.Datatype = _BYTE) -> int:
        """The number of whole elements received; ``MPI.UNDEFINED`` if they are not whole."""
        count = super().Get_count(datatype)
        if count != MPI.UNDEFINED:
            return count
        nbytes, size = super().Get_elements(_BYTE), datatype.Get_size()
        return nbytes // size if size > 0 and nbytes % size == 0 else MPI.UNDEFINED

    @property
    def count(self) -> int:
        """The number of bytes received."""
        return self.Get_count()

    @count.setter
    def count(self, nbytes: int) -> None:
        self.Set_elements(_BYTE, nbytes)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        _, _, state = super().__reduce__()
        # Which class mpi4py's name means depends on how the program was started.
        kinds = () if type(self) is Status else (type(self),)
        return _new_status, kinds, state


def _new_status(kind: type[MPI.Status] = Status) -> MPI.Status:
    return kind()


def _check(status: MPI.Status) -> None:
    if not isinstance(status, MPI.Status):
        raise TypeError(f"status must be an MPI.Status, not {type(status).__name__}")


def _rebuild(ours: bool, state: dict[str, int]) -> MPI.Status:
    status = Status() if ours else MPI.Status()
    for name, value in state.items():
        setattr(status, name, value)
    return status


def _reduce(status: MPI.Status) -> tuple[Any, ...]:
    """How pickle takes a status: of its two classes it finds one at most by that name."""
    names = ("source", "tag", "error", "count", "cancelled")
    return (_rebuild, (type(status) is Status, {name: getattr(status, name) for name in names}))


def _class() -> type[Status]:
    return Status


def _reduce_class(kind: type) -> str | tuple[Any, ...]:
    """How pickle finds the class: it is not what ``mpi4py.MPI`` has under its name."""
    return (_class, ()) if kind is Status else kind.__qualname__


copyreg.pickle(MPI.Status, _reduce)
copyreg.pickle(Status, _reduce)
copyreg.pickle(_StatusType, _reduce_class)
