"""Completion of several requests at once (MPI 4.1, section 3.7.5), the library's ones included.

Every function takes requests of the engine and of the MPI library side by side, in anything that
can be walked; it is walked once, so an iterator will do. Null and inactive requests are passed
over, as MPI asks. Functions that end requests also give the objects of ``irecv`` requests.
"""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.errhandlers import reported
from mooncake_mpi.errors import Error, make_error
from mooncake_mpi.requests.statuses import Status, fill_empty, fill_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

AnyRequest: TypeAlias = "_native.Request | MPI.Request"

_SLICE_MS = 50
_POLLS_BEFORE_SLEEP = 200
_SLEEP_S = 50e-6


def owner_of(request: AnyRequest) -> AnyRequest:
    """The request whose operation ``request`` shows: itself, or what it is a copy of."""
    while isinstance(request, _native.Request) and request._shared is not None:
        request = request._shared
    return request


def wait_for(requests: Sequence[AnyRequest], timeout_ms: int) -> None:
    """Wait until one of ``requests`` may be complete, for at most ``timeout_ms``."""
    natives, library = _leaves(requests)
    if not library:
        _native.wait_for_requests(natives, all=False, timeout_ms=timeout_ms)
        return
    # The library's requests complete only when the library is called: look at both in turn.
    for _ in range(_POLLS_BEFORE_SLEEP):
        if any(_is_active(request) and _is_ready(request) for request in requests):
            return
    under_way = [native for native in natives if _is_active(native)]
    if under_way:  # the engine counts the time of the wait, and tells what it is for
        _native.wait_for_requests(under_way, all=False, timeout_ms=0)
    sleep(_SLEEP_S)


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
    return index, True, _end(requests[index], status)


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
    plain = [each for each in requests if getattr(each, "_pending", None) is None]
    natives, library = _leaves(plain)
    if not library:
        while not _native.wait_for_requests(natives, all=True, timeout_ms=_SLICE_MS):
            pass
    # The library's requests, and composites, whose next part may only now begin.
    while unready := [each for each in requests if _is_active(each) and not _is_ready(each)]:
        wait_for(unready, _SLICE_MS)
    return _end_all(requests, range(len(requests)), statuses)


@reported
def test_all(
    requests: Iterable[AnyRequest], statuses: list[MPI.Status] | None
) -> tuple[bool, list[Any] | None]:
    """Whether all requests are complete, and their objects."""
    requests = _checked(requests)
    _check_statuses(statuses)
    if not all(not _is_active(request) or _is_ready(request) for request in requests):
        return False, None
    return True, _end_all(requests, range(len(requests)), statuses)


@reported
def get_status_all(requests: Iterable[AnyRequest], statuses: list[MPI.Status] | None) -> bool:
    """Whether all requests are complete; they stay."""
    requests = _checked(requests)
    _check_statuses(statuses)
    if not all(not _is_active(request) or _is_ready(request) for request in requests):
        return False
    _look_at(requests, range(len(requests)), statuses)
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
    return indices, _end_all(requests, indices, statuses)


@reported
def get_status_some(
    requests: Iterable[AnyRequest], statuses: list[MPI.Status] | None
) -> list[int] | None:
    """Indices of the requests that are complete, which stay; ``None`` if none is active."""
    requests = _checked(requests)
    _check_statuses(statuses)
    indices = _ready_indices(requests)
    if indices is not None:
        _look_at(requests, indices, statuses)
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


def _is_active(request: AnyRequest) -> bool:
    request = owner_of(request)
    if isinstance(request, _native.Request):
        return request._state == "active"
    return bool(request)


def _is_ready(request: AnyRequest) -> bool:
    request = owner_of(request)
    if isinstance(request, _native.Request):
        return request._poll()
    return request.Get_status()


def _leaves(requests: Sequence[AnyRequest]) -> tuple[list[_native.Request], bool]:
    """The engine's operations that ``requests`` wait for, and whether the library has one too.

    Of a composite those parts that are not complete: a wait for any operation would be over at once
    with one that is. Where all are, the composite can take its next step, and no wait is due.
    """
    leaves: list[_native.Request] = []
    library = False
    for request in map(owner_of, requests):
        if not isinstance(request, _native.Request):
            library = library or bool(request)
            continue
        parts = getattr(request, "_pending", None)
        if parts is None:
            leaves.append(request)
            continue
        pending = parts()
        under_way = [part for part in pending if _is_active(part) and not _is_ready(part)]
        inner, inner_library = _leaves(under_way or pending)
        leaves += inner
        library = library or inner_library
    return leaves, library


def _first_ready(requests: Sequence[AnyRequest]) -> tuple[int, bool]:
    any_active = False
    for index, request in enumerate(requests):
        if _is_active(request):
            any_active = True
            if _is_ready(request):
                return index, True
    return MPI.UNDEFINED, not any_active


def _ready_indices(requests: Sequence[AnyRequest]) -> list[int] | None:
    active = [index for index, request in enumerate(requests) if _is_active(request)]
    if not active:
        return None
    return [index for index in active if _is_ready(requests[index])]


def _end(request: AnyRequest, status: MPI.Status | None) -> Any:
    if _is_null_of_library(request):
        if status is not None:
            fill_empty(status)
        return None
    owner = owner_of(request)
    if not isinstance(owner, _native.Request):
        return owner.wait(status)
    owner._wait(status)
    return cast("Any", owner)._take_result()


def _end_all(
    requests: Sequence[AnyRequest], indices: Sequence[int], statuses: list[MPI.Status] | None
) -> list[Any]:
    failed: list[tuple[int, Error]] = []

    def end(request: AnyRequest, status: MPI.Status | None, index: int) -> Any:
        try:
            return _end(request, status)
        except Error as error:
            failed.append((index, error))
            if status is not None:
                fill_error(status, error)
            return None

    results = _with_statuses(requests, indices, statuses, end)
    if failed:
        index, error = failed[0]
        whole = make_error("ERR_IN_STATUS", f"requests[{index}] failed: {error}")
        whole.context, whole.code_of_request = error.context, int(error)
        raise whole from error
    return results


def _look_at(
    requests: Sequence[AnyRequest], indices: Sequence[int], statuses: list[MPI.Status] | None
) -> None:
    def look(request: AnyRequest, status: MPI.Status | None, _: int) -> None:
        if not _is_null_of_library(request):
            request.Get_status(status)
        elif status is not None:
            fill_empty(status)

    _with_statuses(requests, indices, statuses, look)


def _is_null_of_library(request: AnyRequest) -> bool:
    """Whether it is a null request whose status the library may leave in part as it was."""
    return isinstance(request, MPI.Request) and not request


def _with_statuses(
    requests: Sequence[AnyRequest],
    indices: Sequence[int],
    statuses: list[MPI.Status] | None,
    act: Callable[[AnyRequest, MPI.Status | None, int], Any],
) -> list[Any]:
    """Act on each request with its status; a list that is too short is made longer."""
    if statuses is None:
        return [act(requests[index], None, index) for index in indices]
    if isinstance(statuses, list):
        statuses.extend(Status() for _ in range(len(statuses), len(indices)))
    return [
        act(requests[index], statuses[at] if at < len(statuses) else None, index)
        for at, index in enumerate(indices)
    ]
