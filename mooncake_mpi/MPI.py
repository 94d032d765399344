# ruff: noqa: N999 - the name of the module that it stands for
"""``mpi4py.MPI`` with its point-to-point messages carried by this engine.

``from mooncake_mpi import MPI`` in place of ``from mpi4py import MPI`` changes nothing else: every
name of mpi4py's module is here, private ones too, and all but those defined or imported by name
below are mpi4py's own objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpi4py import MPI as _library  # noqa: N811
from mpi4py.MPI import *  # noqa: F403

from mooncake_mpi import _native
from mooncake_mpi.intracomm import Intracomm

if TYPE_CHECKING:
    COMM_SELF: Intracomm
    COMM_WORLD: Intracomm

_FLUSH_MS = 100


def Detach_buffer() -> Any:
    """Wait until every buffered message was sent, and take the attached buffer back.

    The engine keeps buffered messages in memory of its own; a buffer is attached for programs, and
    for the communicators that it does not accelerate (MPI 4.1, section 3.6).
    """
    _flush()
    return _library.Detach_buffer()


def Flush_buffer() -> None:
    """Wait until every buffered message was sent."""
    _flush()
    _library.Flush_buffer()


def _flush() -> None:
    while not _native.flush(_FLUSH_MS):
        pass  # signals are looked at in between


def _add_private_names() -> None:
    for name, value in vars(_library).items():
        if name == "__pyx_capi__" or (name.startswith("_") and not name.endswith("__")):
            globals().setdefault(name, value)
    for name in ("COMM_SELF", "COMM_WORLD"):
        globals().pop(name, None)


_add_private_names()


def __getattr__(name: str) -> Any:
    """The world communicators, made when first asked for, and names that mpi4py adds later."""
    communicator = getattr(_library, name)
    if name not in {"COMM_SELF", "COMM_WORLD"}:
        return communicator
    if not _library.Is_initialized() or _library.Is_finalized():
        return communicator
    return globals().setdefault(name, Intracomm(communicator))


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_library)})
