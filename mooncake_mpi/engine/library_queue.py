"""Messages that wait in the MPI library's queue while the program waits for them in the engine.

C code that sends through the library, or a communicator that another module made its own object of,
uses another matching space: neither side ever finds the other.
"""

from __future__ import annotations

from mpi4py import MPI

from mooncake_mpi import contexts


def look(number: int, source: int, tag: int) -> tuple[int, int, int] | None:
    """Whether the library has a message for a receive of the engine that has waited for long.

    Args:
        number: of the communicator's context.
        source: a rank or ``ANY_SOURCE``.
        tag: a tag or ``ANY_TAG``.

    Returns:
        Its source, tag and size in bytes; ``None`` where there is none, or the library must not be
        called now.
    """
    comm = contexts.in_library(number)
    if comm is None or not _may_call() or source >= comm.Get_size():
        return None
    status = MPI.Status()
    try:
        if not comm.Iprobe(source, tag, status):
            return None
    except MPI.Exception:  # the library has its own reasons not to look
        return None
    return status.Get_source(), status.Get_tag(), status.Get_count(MPI.BYTE)


def _may_call() -> bool:
    if MPI.Is_finalized():
        return False
    return MPI.Query_thread() == MPI.THREAD_MULTIPLE or MPI.Is_thread_main()
