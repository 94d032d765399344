"""Exceptions that the handlers of signals raise in the middle of something else.

Called in the program's threads, no lock of its own.
"""

from __future__ import annotations

import signal
from operator import methodcaller
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType


def certain_all(results: list[Any], calls: Sequence[Callable[[], Any]]) -> BaseException | None:
    """Make several such calls, one behind the other; what a handler raises comes behind them all.

    Args:
        results: empty; has the results then, and where one of the calls raises those before it.
        calls: functions of C's; one that a handler has left before it began is called again.

    Returns:
        What a handler has raised meanwhile.
    """
    interruption: BaseException | None = None
    last = len(calls) - 1
    while not results[last:]:
        try:  # the results are kept before the interpreter looks for signals
            results.extend(map(_called, calls[len(results) :]))
        except BaseException as error:  # noqa: PERF203 - given to the caller
            if not results[last:]:
                try:
                    interrupted = is_interruption(error)
                except BaseException:  # noqa: BLE001 - a handler's, which goes behind the call's own
                    interrupted = is_interruption(error)
                if not interrupted:
                    raise
            interruption = error
    return interruption


_called = methodcaller("__call__")


def is_interruption(error: BaseException) -> bool:
    """Whether ``error`` came from the handler of a signal, and not from the code that it left."""
    if isinstance(error, KeyboardInterrupt):
        return True
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    place = error.__traceback__
    while place is not None:
        if place.tb_frame.f_code in handlers:
            return True
        place = place.tb_next
    return False


def _code_of(handler: Any) -> CodeType | None:
    """Of a function, a method or an object that is called; ``None`` of what is not Python's."""
    handler = getattr(handler, "func", handler)  # functools.partial
    handler = getattr(handler, "__func__", handler)
    if callable(handler) and not hasattr(handler, "__code__"):
        handler = type(handler).__call__
    return getattr(handler, "__code__", None)
