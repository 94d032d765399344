"""Starting the engine of this process, and making communicators known to it.

Called in the program's threads, at the end in the one that finalises MPI; no lock of its own, as
what makes communicators is collective.
"""

from __future__ import annotations

import atexit

from mpi4py import MPI

from mooncake_mpi import _native, config, errhandlers, errors, traffic
from mooncake_mpi.buffers import bufferspec, numpy_arrays
from mooncake_mpi.engine import forks, library_queue, refusals
from mooncake_mpi.library_requests.completer import COMPLETER
from mooncake_mpi.requests import status_layout, statuses
from mooncake_mpi.requests.request import Prequest, Request, wait_all_hook

_LARGEST_TAG = 2**31 - 1
_keyval = MPI.KEYVAL_INVALID
_started = False


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
    # A process that cannot take part says so, and why: nobody is left waiting.
    communicator: _native.Communicator | None = None
    failure: Exception | None = None
    entry, head = b"", _native.HEAD_OF_REFUSAL
    try:
        communicator, entry = new_communicator(comm)
        head = communicator.head
    except Exception as error:  # noqa: BLE001 - raised below, at every rank
        failure = error
    heads = refusals.Heads(refusals.exchange(comm, head))
    # Processes of another version may not even agree on what comes next.
    refused = _native.objection_to_heads(bytes(heads.raw))
    if not refused and heads.refuse():
        refused = refusals.told(comm, failure)
    if communicator is not None and not refused:
        longest = heads.longest_address
        entries = bytes(refusals.exchange(comm, entry.ljust(longest, b"\0")))
        try:
            places = range(0, len(entries), longest)
            activate(comm, communicator, [entries[at : at + longest] for at in places])
        except Exception as error:  # noqa: BLE001 - as above
            failure = error
        refused = refusals.told(comm, failure)
    if communicator is None or refused:
        if communicator is not None:
            if comm.Get_attr(_keyval) is not None:
                comm.Delete_attr(_keyval)
            communicator.close()
        raise errors.make_error("ERR_OTHER", f"cannot start the engine: {refused}") from failure
    return communicator


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
    comm: MPI.Intracomm, communicator: _native.Communicator, entries: list[bytes]
) -> _native.Communicator:
    """Give ``communicator`` the addresses of all ranks and tie it to ``comm``.

    Raises:
        Error: an address is not one, or a process runs another version.
    """
    try:
        communicator.activate(entries, comm.Get_name())
    except ValueError as error:
        raise errors.make_error("ERR_OTHER", str(error)) from None
    tie(comm, communicator)
    return communicator


def tie(comm: MPI.Comm, communicator: _native.Communicator) -> None:
    """Make ``communicator`` what every object that wraps ``comm`` shares, until it is freed."""
    comm.Set_attr(_keyval, communicator)
    errhandlers.know(communicator.number, comm)


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
    _native.set_constants(
        MPI.PROC_NULL,
        MPI.ANY_SOURCE,
        MPI.ANY_TAG,
        {name: errors.error_class(name) for name in _native.error_names()},
    )
    _native.set_hooks(
        bufferspec.resolve,
        statuses.fill_status,
        errors.raise_error,
        errhandlers.report,
        errors.Error,
        library_queue.look,
        wait_all_hook,
        Request,
        Prequest,
        MPI.Status,
        traffic.warn_of_detour,
    )
    numpy_arrays.teach_when_met()
    status_layout.teach()
    _native.start(config.load().as_dict())
    _keyval = MPI.Comm.Create_keyval(delete_fn=_on_delete)
    MPI.COMM_SELF.Set_attr(MPI.Comm.Create_keyval(delete_fn=_on_finalize), __name__)
    atexit.register(_native.leave_interpreter)
    forks.guard()
    _started = True


def _on_delete(_comm: MPI.Comm, _keyval: int, communicator: _native.Communicator) -> None:
    errhandlers.forget(communicator.number)
    communicator.close()


# MPI deletes the attributes of COMM_SELF first of all when it is finalised (MPI 4.1, 11.2.4).
def _on_finalize(_comm: MPI.Comm, _keyval: int, _value: str) -> None:
    flush()
