"""How the processes of a new communicator become known to each other, however they are told.

Called in the program's threads, collectively; no lock of its own. A process that cannot take part
says so, and why, in the place of what the others wait for: nobody is left waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mooncake_mpi import _native
from mooncake_mpi.engine import refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi.engine.refusals import Exchange


class RefusedError(RuntimeError):
    """Which ranks cannot take part, and why; raised by every process, caused by its own reason."""


def introduce(
    exchange: Exchange,
    make: Callable[[], _native.Communicator],
    activate: Callable[[_native.Communicator, bytearray, int], object],
    undo: Callable[[_native.Communicator], object],
) -> _native.Communicator:
    """A communicator of processes that may know nothing of each other yet.

    Args:
        exchange: over its members.
        make: gives this process's part.
        activate: gives that the addresses of all ranks, one behind the other with zeros behind
            each, and the bytes of each.
        undo: closes it, where another process cannot take part.

    Raises:
        RefusedError: a process cannot take part.
    """
    communicator: _native.Communicator | None = None
    failure: Exception | None = None
    entry, head = b"", _native.HEAD_OF_REFUSAL
    try:
        communicator = make()
        entry, head = communicator.entry, communicator.head
    except Exception as error:  # noqa: BLE001 - raised below, at every rank
        failure = error
    heads = refusals.Heads(exchange(head))
    # Processes of another version may not even agree on what comes next.
    refused = _native.objection_to_heads(bytes(heads.raw))
    if not refused and heads.refuse():
        refused = refusals.told(exchange, failure)
    if communicator is not None and not refused:
        longest = heads.longest_address
        entries = exchange(entry.ljust(longest, b"\0"))
        try:
            activate(communicator, entries, longest)
        except Exception as error:  # noqa: BLE001 - as above
            failure = error
        refused = refusals.told(exchange, failure)
    if communicator is None or refused:
        if communicator is not None:
            undo(communicator)
        raise RefusedError(refused) from failure
    return communicator


def duplicate(
    exchange: Exchange, known: _native.Communicator, label: str = ""
) -> _native.Communicator:
    """A communicator of the same processes, with a matching space of its own.

    Raises:
        RefusedError: a process cannot take part.
    """
    communicator: _native.Communicator | None = None
    failure: Exception | None = None
    head = _native.HEAD_OF_REFUSAL
    try:
        communicator = _native.Communicator(known.rank, known.size, known.tag_ub)
        communicator.inherit(known, [], label)
        head = communicator.head
    except Exception as error:  # noqa: BLE001 - raised below, at every rank
        failure = error
    heads = refusals.Heads(exchange(head))
    if communicator is None or heads.refuse():
        refused = refusals.told(exchange, failure)
        if communicator is not None:
            communicator.close()
        raise RefusedError(refused) from failure
    communicator.join(heads.numbers)
    return communicator
