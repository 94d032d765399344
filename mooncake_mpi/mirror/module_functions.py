"""The functions of ``mooncake_mpi.MPI`` that are not mpi4py's own.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from operator import index
from typing import Any

from mpi4py import MPI as library  # noqa: N811

from mooncake_mpi import _native
from mooncake_mpi.communicators.predefined import start_predefined
from mooncake_mpi.library_requests.giving import address_of
from mooncake_mpi.memory import shared_arrays
from mooncake_mpi.objects.messages import Message
from mooncake_mpi.requests.request import Request

_FLUSH_MS = 100
_blocks: set[int] = set()  # what Alloc_mem gave


def Init() -> None:
    """Initialise MPI, and the engine with it."""
    library.Init()
    start_predefined()


def Init_thread(required: int = library.THREAD_MULTIPLE) -> int:
    """Initialise MPI with this level of threads, and the engine with it; gives the level."""
    provided = library.Init_thread(required)
    start_predefined()
    return provided


def Detach_buffer() -> Any:
    """Wait until every buffered message was sent, and take the attached buffer back.

    The engine keeps buffered messages in memory of its own; a buffer is attached for programs, and
    for the communicators that it does not accelerate (MPI 4.1, section 3.6).
    """
    _flush()
    return library.Detach_buffer()


def Flush_buffer() -> None:
    """Wait until every buffered message was sent."""
    _flush()
    library.Flush_buffer()


def Alloc_mem(size: int, info: library.Info = library.INFO_NULL) -> library.buffer:
    """Allocate memory for message passing: every process of the node can map it.

    Where there is none, and for what the MPI library has to look at (no bytes, or hints), it is
    the library's memory (MPI 4.1, section 9.2).

    Args:
        size: number of bytes.
        info: hints to the MPI library.

    Raises:
        Exception: ``ERR_ARG`` for a negative size, ``ERR_NO_MEM`` when there is no memory.
    """
    if info is library.INFO_NULL:
        shared_arrays.set_limits()
        nbytes = index(size)
        address = _native.allocate_block(nbytes) if nbytes > 0 else 0
        if address:
            _blocks.add(address)
            return library.buffer.fromaddress(address, nbytes)
    return library.Alloc_mem(size, info)


def Free_mem(mem: Any) -> None:
    """Free memory that was allocated with :func:`Alloc_mem`, given as any buffer over all of it."""
    whole = mem if isinstance(mem, library.buffer) else library.buffer.frombuffer(mem)
    if whole.address not in _blocks:
        library.Free_mem(mem)
        return
    _blocks.remove(whole.address)
    _native.free_block(whole.address)
    whole.release()


def _flush() -> None:
    while not _native.flush(_FLUSH_MS):
        pass  # signals are looked at in between


def _is_ours(arg: Any) -> bool:
    return isinstance(arg, (Request, Message)) and not isinstance(
        arg, (library.Request, library.Message)
    )


def sizeof(arg: Any) -> int:
    """Size in bytes of an MPI handle, or of those of a class."""
    kind = arg if isinstance(arg, type) else type(arg)
    if issubclass(kind, Request):
        return library._sizeof(library.Request)
    return library._sizeof(library.Message if issubclass(kind, Message) else arg)


def addressof(arg: Any) -> int:
    """Address of an MPI handle, for C code that reads or fills it.

    Raises:
        Error: ``ERR_REQUEST`` for an operation of which the MPI library knows nothing.
    """
    if not _is_ours(arg):
        return library._addressof(arg)
    return address_of(arg) if isinstance(arg, Request) else arg._address()


def handleof(arg: Any) -> int:
    """An MPI handle as a number, for C code.

    Raises:
        Error: as :func:`_addressof`.
    """
    if _is_ours(arg):
        addressof(arg)  # a request gets its handle
        return int(arg.handle)
    return library._handleof(arg)
