"""Ending requests that are complete, each with its status.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.errors import Error, make_error
from mooncake_mpi.requests.states import AnyRequest, owner_of
from mooncake_mpi.requests.statuses import Status, fill_empty, fill_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def end_one(request: AnyRequest, status: MPI.Status | None) -> Any:
    """End a request that is complete; gives its object."""
    if _is_null_of_library(request):
        if status is not None:
            fill_empty(status)
        return None
    owner = owner_of(request)
    if not isinstance(owner, _native.Request):
        return owner.wait(status)
    owner._wait(status)
    return cast("Any", owner)._take_result()


def end_all(
    requests: Sequence[AnyRequest], indices: Sequence[int], statuses: list[MPI.Status] | None
) -> list[Any]:
    """End those of ``requests``, which are complete; gives their objects.

    Raises:
        Error: ``ERR_IN_STATUS`` when a request failed; ``statuses`` say which.
    """
    failed: list[tuple[int, Error]] = []

    def end(request: AnyRequest, status: MPI.Status | None, index: int) -> Any:
        try:
            return end_one(request, status)
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


def look_at(
    requests: Sequence[AnyRequest], indices: Sequence[int], statuses: list[MPI.Status] | None
) -> None:
    """Fill the statuses of those of ``requests``, which are complete and stay."""

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
