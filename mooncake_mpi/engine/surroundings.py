"""Whose exceptions, statuses and numbers the engine uses: the MPI library's, or those of here.

Called in the program's threads, no lock of its own. This module and :mod:`.introductions` import no
mpi4py: a process whose peers are met in another way needs no MPI library. One that loads it later
goes on with the library's, once what was under way has been waited for.
"""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from mooncake_mpi import _native, config, traffic
from mooncake_mpi.buffers import torch_tensors
from mooncake_mpi.engine import forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from mooncake_mpi.requests.request import Request


@dataclass(frozen=True)
class Surroundings:
    """What the engine calls and makes, as :func:`_native.set_hooks` takes it.

    Attributes:
        outcome: ends a request that is complete: who sent the message, and how many bytes came.
    """

    proc_null: int
    any_source: int
    any_tag: int
    error_class: Callable[[str], int]
    resolve: Callable[..., Any]
    fill_status: Callable[..., None]
    raise_error: Callable[[str, str], Any]
    report_error: Callable[..., Any]
    error_type: type
    look_in_library: Callable[..., Any]
    wait_all: Callable[..., Any]
    request_type: type
    persistent_type: type
    status_type: type
    outcome: Callable[[Request], tuple[int, int]]


_current: Surroundings | None = None
_started = False


def current() -> Surroundings:
    """Those of the engine of this process, which has been started."""
    if _current is None:
        raise RuntimeError("mooncake_mpi: the engine has not been started")
    return _current


def enter(given: Surroundings) -> None:
    """What the engine calls and makes from now on is given."""
    global _current  # noqa: PLW0603 - one engine for the process
    _native.set_constants(
        given.proc_null,
        given.any_source,
        given.any_tag,
        {name: given.error_class(name) for name in _native.error_names()},
    )
    _native.set_hooks(
        given.resolve,
        given.fill_status,
        given.raise_error,
        given.report_error,
        given.error_type,
        given.look_in_library,
        given.wait_all,
        given.request_type,
        given.persistent_type,
        given.status_type,
        traffic.warn_of_detour,
    )
    _current = given


def start() -> None:
    """Start the engine of this process, after :func:`enter`; again does nothing."""
    global _started  # noqa: PLW0603 - one engine for the process
    if _started:
        return
    _native.start(config.load().as_dict())
    atexit.register(_native.leave_interpreter)
    forks.guard()
    _started = True


def start_alone() -> None:
    """Start the engine without an MPI library, unless it runs already.

    At the interpreter's end it delivers what was sent, after the program's last code.
    """
    if _current is None:
        enter(_ALONE)
    start()


class EngineError(RuntimeError):
    """An error of the engine where no MPI library is loaded.

    Args:
        name: the error class, without its ``MPI_`` prefix.
        message: the reason.
    """

    context: int = 0
    code_of_request: int = 0

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"MPI_{name}: {message}")
        self.name = name
        self.message = message


class _Status:
    """What the engine says of a message."""

    __slots__ = ("nbytes", "source")

    def __init__(self) -> None:
        self.source = -1
        self.nbytes = 0


def _fill_status(
    status: _Status, source: int, _tag: int, _error: int, nbytes: int, _cancelled: bool
) -> None:
    status.source, status.nbytes = source, nbytes


def _raise_error(name: str, message: str) -> NoReturn:
    raise EngineError(name, message)


def _outcome(request: Request) -> tuple[int, int]:
    status: Any = _Status()
    request.Wait(status)
    return status.source, status.nbytes


def _resolve(tensor: Any, _writable: bool, _rank: int) -> tuple[int, int, Any, None, int | None]:
    """A buffer for messages that are started as one: a flat tensor of the host or a CUDA GPU."""
    stream = None if tensor.is_cpu else torch_tensors.stream_of(tensor)
    if not tensor.is_contiguous() or (stream is None and not tensor.is_cpu):
        raise TypeError("expected a contiguous tensor of the host or a CUDA GPU")
    torch_tensors.teach(type(tensor))
    return tensor.data_ptr(), tensor.nbytes, tensor, None, stream


def _nothing(*_: object) -> None:
    """No error handler, no queue of a library's, no list of its requests."""


_ALONE = Surroundings(
    proc_null=-2,
    any_source=-1,
    any_tag=-1,
    error_class=lambda name: 0 if name == "SUCCESS" else 1 + _native.error_names().index(name),
    resolve=_resolve,
    fill_status=_fill_status,
    raise_error=_raise_error,
    report_error=_nothing,
    error_type=EngineError,
    look_in_library=_nothing,
    wait_all=_nothing,
    request_type=_native.Request,
    persistent_type=_native.Request,
    status_type=_Status,
    outcome=_outcome,
)
