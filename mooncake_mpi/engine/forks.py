"""A forked child of a process that communicates ends by itself.

The MPI library's finalisation, which mpi4py runs at the interpreter's end, is the parent's business
and may never return in a child. So a child leaves right before it, with the exit status that it was
going to have.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from mooncake_mpi import _native

if TYPE_CHECKING:
    from types import TracebackType


def guard() -> None:
    """From now on children end without the MPI library."""
    os.register_at_fork(after_in_child=_watch_the_end)


def _watch_the_end() -> None:
    """What sets the exit status passes here: ``sys.exit`` and exceptions that nothing catches."""
    leave, hook = sys.exit, sys.excepthook

    def exit(status: Any = None, /) -> NoReturn:  # noqa: A001 - its name is sys's
        _native.set_exit_status(_number(status))
        leave(status)

    def excepthook(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        _native.set_exit_status(1)
        hook(kind, error, traceback)

    sys.exit, sys.excepthook = exit, excepthook


def _number(status: Any) -> int:
    if status is None:
        return 0
    return status & 0xFF if isinstance(status, int) else 1
