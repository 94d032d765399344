"""Completion of several requests at once (MPI 4.1, section 3.7.5), the library's ones included.

Called in the program's threads, no lock of its own. Every function takes requests of the engine and
of the MPI library side by side, in anything that can be walked; it is walked once, so an iterator
will do. Null and inactive requests are passed over, as MPI asks. Functions that end requests also
give the objects of ``irecv`` requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.errhandlers import reported
from mooncake_mpi.requests.ending import end_all, end_one, look_at
from mooncake_mpi.requests.states import (
    AnyRequest,
    is_active,
    is_ready,
    leaves_of,
    owner_of,
    wait_for,
)
from mooncake_mpi.requests.statuses import fill_empty

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SLICE_MS = 50


@reported
def wait_any(requests: Iterable[AnyRequest], status: MPI.Status | None) -> tuple[int, Any]:
    """Index and object of a request that is complete."""
    requests = _checked(requests)
    while True:
        index, flag, result = test_any(requests, status)
        if flag:
            return index, result
        wait_for(requests, _SLICE_MS)


@reported
def test_any(requests: Iterable[AnyRequest], status: MPI.Status | None) -> tuple[int, bool, Any]:
    """Index, flag and object: of the first request that is complete."""
    requests = _checked(requests)
    index, flag = _first_ready(requests)
    if index == MPI.UNDEFINED:
        if flag and status is not None:
            fill_empty(status)
        return index, flag, None
    return index, True, end_one(requests[index], status)


@reported
def get_status_any(requests: Iterable[AnyRequest], status: MPI.Status | None) -> tuple[int, bool]:
    """Index and flag of the first request that is complete, which stays."""
    requests = _checked(requests)
    index, flag = _first_ready(requests)
    if status is not None and flag:
        if index == MPI.UNDEFINED:
            fill_empty(status)
        else:
            requests[index].Get_status(status)
    return index, flag


@reported
def wait_all(requests: Iterable[AnyRequest], statuses: list[MPI.Status] | None) -> list[Any]:
    """The objects of all requests.

    Raises:
        Error: ``ERR_IN_STATUS`` when a request failed; ``statuses`` say which.
    """
    requests = _checked(requests)
    _check_statuses(statuses)
    plain = [each for each in requests if getattr(owner_of(each), "_pending", None) is None]
    natives, library = leaves_of(plain)
    if not library:
        while not _native.wait_for_requests(natives, all=True, timeout_ms=_SLICE_MS):
            pass
    # The library's requests, and composites, whose next part may only now begin.
    while unready := [each for each in requests if is_active(each) and not is_ready(each)]:
        wait_for(unready, _SLICE_MS)
    return end_all(requests, range(len(requests)), statuses)


@reported
def test_all(
    requests: Iterable[AnyRequest], statuses: list[MPI.Status] | None
) -> tuple[bool, list[Any] | None]:
    """Whether all requests are complete, and their objects."""
    requests = _checked(requests)
    _check_statuses(statuses)
    if not all(not is_active(request) or is_ready(request) for request in requests):
        return False, None
    return True, end_all(requests, range(len(requests)), statuses)


@reported
def get_status_all(requests: Iterable[AnyRequest], statuses: list[MPI.Status] | None) -> bool:
    """Whether all requests are complete; they stay."""
    requests = _checked(requests)
    _check_statuses(statuses)
    if not all(not is_active(request) or is_ready(request) for request in requests):
        return False
    look_at(requests, range(len(requests)), statuses)
    return True


@reported
def wait_some(
    requests: Iterable[AnyRequest], statuses: list[MPI.Status] | None
) -> tuple[list[int] | None, list[Any] | None]:
    """Indices and objects of the requests that are complete, at least one."""
    requests = _checked(requests)
    while True:
        indices, results = test_some(requests, statuses)
        if indices is None or indices:
            return indices, results
        wait_for(requests, _SLICE_MS)


@reported
def test_some(
    requests: Iterable[AnyRequest], statuses: list[MPI.Status] | None
) -> tuple[list[int] | None, list[Any] | None]:
    """Indices and objects of the requests that are complete; ``None`` if none is active."""
    requests = _checked(requests)
    _check_statuses(statuses)
    indices = _ready_indices(requests)
    if indices is None:
        return None, None
    return indices, end_all(requests, indices, statuses)


@reported
def get_status_some(
    requests: Iterable[AnyRequest], statuses: list[MPI.Status] | None
) -> list[int] | None:
    """Indices of the requests that are complete, which stay; ``None`` if none is active."""
    requests = _checked(requests)
    _check_statuses(statuses)
    indices = _ready_indices(requests)
    if indices is not None:
        look_at(requests, indices, statuses)
    return indices


def _checked(requests: Iterable[AnyRequest]) -> list[AnyRequest]:
    """The requests as a list of its own: what the caller gave is walked here and never again."""
    known = list(requests)
    for request in known:
        if not isinstance(request, (_native.Request, MPI.Request)):
            raise TypeError(f"expected a Request, got {type(request).__name__}")
    return known


def _check_statuses(statuses: list[MPI.Status] | None) -> None:
    """Refuse what cannot be indexed, before any request is ended.

    Raises:
        TypeError: neither ``None`` nor a sequence.
    """
    if statuses is not None:
        len(statuses)


def _first_ready(requests: Sequence[AnyRequest]) -> tuple[int, bool]:
    any_active = False
    for index, request in enumerate(requests):
        if is_active(request):
            any_active = True
            if is_ready(request):
                return index, True
    return MPI.UNDEFINED, not any_active


def _ready_indices(requests: Sequence[AnyRequest]) -> list[int] | None:
    active = [index for index, request in enumerate(requests) if is_active(request)]
    if not active:
        return None
    return [index for index in active if is_ready(requests[index])]
