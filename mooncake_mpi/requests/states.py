"""What requests are at, the engine's and the MPI library's, and waiting for one of several.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING, TypeAlias

from mooncake_mpi import _native

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

AnyRequest: TypeAlias = "_native.Request | MPI.Request"

_POLLS_BEFORE_SLEEP = 200
_SLEEP_S = 50e-6


def owner_of(request: AnyRequest) -> AnyRequest:
    """The request whose operation ``request`` shows: itself, or what it is a copy of."""
    while isinstance(request, _native.Request) and request._shared is not None:
        request = request._shared
    return request


def wait_for(requests: Sequence[AnyRequest], timeout_ms: int) -> None:
    """Wait until one of ``requests`` may be complete, for at most ``timeout_ms``."""
    natives, library = leaves_of(requests)
    if not library:
        _native.wait_for_requests(natives, all=False, timeout_ms=timeout_ms)
        return
    # The library's requests complete only when the library is called: look at both in turn.
    for _ in range(_POLLS_BEFORE_SLEEP):
        if any(is_active(request) and is_ready(request) for request in requests):
            return
    under_way = [native for native in natives if is_active(native)]
    if under_way:  # the engine counts the time of the wait, and tells what it is for
        _native.wait_for_requests(under_way, all=False, timeout_ms=0)
    sleep(_SLEEP_S)


def is_active(request: AnyRequest) -> bool:
    """Whether its operation is under way, or complete and not ended."""
    request = owner_of(request)
    if isinstance(request, _native.Request):
        return request._state == "active"
    return bool(request)


def is_ready(request: AnyRequest) -> bool:
    """Whether an active request is complete; makes progress."""
    request = owner_of(request)
    if isinstance(request, _native.Request):
        return request._poll()
    return request.Get_status()


def leaves_of(requests: Sequence[AnyRequest]) -> tuple[list[_native.Request], bool]:
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
        under_way = [part for part in pending if is_active(part) and not is_ready(part)]
        inner, inner_library = leaves_of(under_way or pending)
        leaves += inner
        library = library or inner_library
    return leaves, library
