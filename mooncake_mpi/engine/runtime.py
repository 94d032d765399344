"""The engine in a process of an MPI job, and communicators of the library made known to it.

Called in the program's threads, at the end in the one that finalises MPI; no lock of its own, as
what makes communicators is collective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpi4py import MPI

from mooncake_mpi import _native, contexts, errhandlers, errors
from mooncake_mpi.buffers import bufferspec, numpy_arrays
from mooncake_mpi.engine import introductions, library_queue, surroundings
from mooncake_mpi.library_requests.completer import COMPLETER
from mooncake_mpi.requests import status_layout, statuses
from mooncake_mpi.requests.request import Prequest, Request, wait_all_hook

if TYPE_CHECKING:
    from mooncake_mpi.engine.refusals import Exchange

_LARGEST_TAG = 2**31 - 1
_keyval = MPI.KEYVAL_INVALID
_started = False


def exchange(comm: MPI.Intracomm, entry: bytes) -> bytearray:
    """The entries of all processes of ``comm``, which are equally long, in rank order."""
    entries = bytearray(len(entry) * MPI.Intracomm.Get_size(comm))
    MPI.Intracomm.Allgather(comm, [entry, MPI.BYTE], [entries, MPI.BYTE])
    return entries


def over(comm: MPI.Intracomm) -> Exchange:
    """:func:`exchange` over a communicator."""
    return lambda entry: exchange(comm, entry)


def communicator_of(comm: MPI.Intracomm) -> _native.Communicator:
    """The engine's side of ``comm``, made at the first call; then collective over ``comm``.

    It is an attribute of the MPI communicator: every object that wraps the same one shares it, and
    freeing the communicator closes it.

    Raises:
        Error: ``ERR_OTHER``, a process could not take part; every process of ``comm`` raises it,
            with that rank and its reason.
    """
    already = known(comm)
    if already is not None:
        return already

    def undo(communicator: _native.Communicator) -> None:
        if comm.Get_attr(_keyval) is not None:
            comm.Delete_attr(_keyval)
        communicator.close()

    try:
        return introductions.introduce(
            over(comm),
            lambda: new_communicator(comm)[0],
            lambda communicator, entries, each: activate(comm, communicator, entries, each),
            undo,
        )
    except introductions.RefusedError as refused:
        error = errors.make_error("ERR_OTHER", f"cannot start the engine: {refused}")
        raise error from refused.__cause__


def known(comm: MPI.Comm) -> _native.Communicator | None:
    """The engine's side of ``comm``, if it has one; local."""
    if not _started or comm == MPI.COMM_NULL or MPI.Is_finalized():
        return None
    found = MPI.Comm.Get_attr(comm, _keyval)
    return found if isinstance(found, _native.Communicator) else None


def new_communicator(comm: MPI.Intracomm) -> tuple[_native.Communicator, bytes]:
    """This process's part of a communicator with the members of ``comm``, and its address."""
    _start()
    tag_ub = MPI.COMM_WORLD.Get_attr(MPI.TAG_UB)
    communicator = _native.Communicator(
        comm.Get_rank(), comm.Get_size(), min(tag_ub or _LARGEST_TAG, _LARGEST_TAG)
    )
    return communicator, communicator.entry


def activate(
    comm: MPI.Intracomm, communicator: _native.Communicator, entries: bytearray, entry_bytes: int
) -> _native.Communicator:
    """Give ``communicator`` the addresses of all ranks and tie it to ``comm``.

    Args:
        comm: what it stands for.
        communicator: the engine's side.
        entries: one behind the other, in rank order, zeros behind each.
        entry_bytes: of each of them.

    Raises:
        Error: an address is not one, or a process runs another version.
    """
    try:
        communicator.activate(entries, entry_bytes, comm.Get_name())
    except ValueError as error:
        raise errors.make_error("ERR_OTHER", str(error)) from None
    tie(comm, communicator)
    return communicator


def tie(comm: MPI.Comm, communicator: _native.Communicator) -> None:
    """Make ``communicator`` what every object that wraps ``comm`` shares, until it is freed."""
    comm.Set_attr(_keyval, communicator)
    contexts.know(communicator, comm)


def not_made(refused: str, failure: BaseException | None) -> errors.Error:
    """The error of a communicator that a process cannot take part in, caused by ``failure``."""
    error = errors.make_error("ERR_OTHER", f"cannot make the communicator: {refused}")
    error.__cause__ = failure
    return error


def flush() -> None:
    """Deliver what was sent; MPI is about to be finalised.

    Raises:
        KeyboardInterrupt: and whatever else a signal handler raises.
    """
    COMPLETER.stop()
    if _started:
        _native.finalize()


def _start() -> None:
    global _started, _keyval  # noqa: PLW0603 - one engine for the process
    if _started:
        return
    surroundings.enter(
        surroundings.Surroundings(
            proc_null=MPI.PROC_NULL,
            any_source=MPI.ANY_SOURCE,
            any_tag=MPI.ANY_TAG,
            error_class=errors.error_class,
            resolve=bufferspec.resolve,
            fill_status=statuses.fill_status,
            raise_error=errors.raise_error,
            report_error=errhandlers.report,
            error_type=errors.Error,
            look_in_library=library_queue.look,
            wait_all=wait_all_hook,
            request_type=Request,
            persistent_type=Prequest,
            status_type=MPI.Status,
            outcome=_outcome,
        )
    )
    numpy_arrays.teach_when_met()
    status_layout.teach()
    surroundings.start()
    _keyval = MPI.Comm.Create_keyval(delete_fn=_on_delete)
    MPI.COMM_SELF.Set_attr(MPI.Comm.Create_keyval(delete_fn=_on_finalize), __name__)
    _started = True


def _outcome(request: Request) -> tuple[int, int]:
    status = MPI.Status()
    request.Wait(status)
    return status.Get_source(), status.Get_elements(MPI.BYTE)


def _on_delete(_comm: MPI.Comm, _keyval: int, communicator: _native.Communicator) -> None:
    contexts.forget(communicator)
    communicator.close()


# MPI deletes the attributes of COMM_SELF first of all when it is finalised (MPI 4.1, 11.2.4).
def _on_finalize(_comm: MPI.Comm, _keyval: int, _value: str) -> None:
    flush()
