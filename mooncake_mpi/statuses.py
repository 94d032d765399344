"""Filling an ``MPI.Status`` from what the engine knows of a message (MPI 4.1, section 3.2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def _check(status: MPI.Status) -> None:
    if not isinstance(status, MPI.Status):
        raise TypeError(f"status must be an MPI.Status, not {type(status).__name__}")
