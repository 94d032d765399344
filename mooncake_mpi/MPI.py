"""The names of ``mpi4py.MPI``, with point-to-point messages carried by this engine.

``from mooncake_mpi import MPI`` in place of ``from mpi4py import MPI`` changes nothing else: every
name of mpi4py's module is here, private ones too, and all but those defined or imported by name
below are mpi4py's own objects.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

from mpi4py import MPI as _library
from mpi4py.MPI import *  # noqa: F403

from mooncake_mpi import _native, c_interface, errors, shared_arrays
from mooncake_mpi.comm import Comm
from mooncake_mpi.intracomm import (
    PREDEFINED,
    Cartcomm,
    Distgraphcomm,
    Graphcomm,
    Intracomm,
    predefined,
    start_predefined,
)
from mooncake_mpi.messages import Message  # type: ignore[assignment]
from mooncake_mpi.requests import Prequest, Request  # type: ignore[assignment]
from mooncake_mpi.statuses import Status

if TYPE_CHECKING:
    COMM_SELF: Intracomm  # type: ignore[no-redef]
    COMM_WORLD: Intracomm  # type: ignore[no-redef]

# Programs look for the MPI library through the extension module's file.
__file__ = _library.__file__

_FLUSH_MS = 100
_blocks: set[int] = set()  # what Alloc_mem gave
# In this order: where a process cannot take part, those of COMM_WORLD are told.
_WORLDS = ("COMM_WORLD", "COMM_SELF")


def Init() -> None:  # type: ignore[no-redef]
    """Initialise MPI, and the engine with it."""
    _library.Init()
    start_predefined()


def Init_thread(required: int = _library.THREAD_MULTIPLE) -> int:  # type: ignore[no-redef]
    """Initialise MPI with this level of threads, and the engine with it; gives the level."""
    provided = _library.Init_thread(required)
    start_predefined()
    return provided


def Detach_buffer() -> Any:  # type: ignore[no-redef]
    """Wait until every buffered message was sent, and take the attached buffer back.

    The engine keeps buffered messages in memory of its own; a buffer is attached for programs, and
    for the communicators that it does not accelerate (MPI 4.1, section 3.6).
    """
    _flush()
    return _library.Detach_buffer()


def Flush_buffer() -> None:  # type: ignore[no-redef]
    """Wait until every buffered message was sent."""
    _flush()
    _library.Flush_buffer()


def Alloc_mem(size: int, info: _library.Info = _library.INFO_NULL) -> _library.buffer:  # type: ignore[no-redef]
    """Allocate memory for message passing: every process of the node can map it.

    Where there is none, and for what the MPI library has to look at (no bytes, or hints), it is
    the library's memory (MPI 4.1, section 9.2).

    Args:
        size: number of bytes.
        info: hints to the MPI library.

    Raises:
        Exception: ``ERR_ARG`` for a negative size, ``ERR_NO_MEM`` when there is no memory.
    """
    if info is _library.INFO_NULL:
        shared_arrays.set_limits()
        nbytes = index(size)
        address = _native.allocate_block(nbytes) if nbytes > 0 else 0
        if address:
            _blocks.add(address)
            return _library.buffer.fromaddress(address, nbytes)
    return _library.Alloc_mem(size, info)


def Free_mem(mem: Any) -> None:  # type: ignore[no-redef]
    """Free memory that was allocated with :func:`Alloc_mem`, given as any buffer over all of it."""
    whole = mem if isinstance(mem, _library.buffer) else _library.buffer.frombuffer(mem)
    if whole.address not in _blocks:
        _library.Free_mem(mem)
        return
    _blocks.remove(whole.address)
    _native.free_block(whole.address)
    whole.release()


def _flush() -> None:
    while not _native.flush(_FLUSH_MS):
        pass  # signals are looked at in between


def _is_ours(arg: Any) -> bool:
    return isinstance(arg, (Request, Message)) and not isinstance(
        arg, (_library.Request, _library.Message)
    )


def _sizeof(arg: Any) -> int:
    """Size in bytes of an MPI handle, or of those of a class."""
    kind = arg if isinstance(arg, type) else type(arg)
    if issubclass(kind, Request):
        return _library._sizeof(_library.Request)
    return _library._sizeof(_library.Message if issubclass(kind, Message) else arg)


def _addressof(arg: Any) -> int:
    """Address of an MPI handle, for C code that reads or fills it.

    Raises:
        Error: ``ERR_REQUEST`` for an operation of which the MPI library knows nothing.
    """
    return arg._address() if _is_ours(arg) else _library._addressof(arg)


def _handleof(arg: Any) -> int:
    """An MPI handle as a number, for C code.

    Raises:
        Error: as :func:`_addressof`.
    """
    if _is_ours(arg):
        arg._address()
        return int(arg.handle)
    return _library._handleof(arg)


def _mirror() -> None:
    """Take over private names, and make the world communicators if MPI is initialised."""
    names = globals()
    for name, value in vars(_library).items():
        if name == "__pyx_capi__" or (name.startswith("_") and not name.endswith("__")):
            names.setdefault(name, value)
    names["__pyx_capi__"] = c_interface.table(names["__pyx_capi__"])
    for name in errors.FAILURE_CLASSES:
        names.pop(name, None)  # made by __getattr__
    for name in _WORLDS:
        names[name] = PREDEFINED[name] = predefined(getattr(_library, name))
    if _is_running():
        start_predefined()
        names.update({name: __getattr__(name) for name in errors.FAILURE_CLASSES})


def _is_running() -> bool:
    return _library.Is_initialized() and not _library.Is_finalized()


def __getattr__(name: str) -> Any:
    """What needs an initialised MPI, or was added by a later mpi4py.

    The former are the error classes that the library may lack.
    """
    if name in errors.FAILURE_CLASSES and _is_running():
        return globals().setdefault(name, errors.error_class(name))
    return getattr(_library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_library)})


_mirror()
