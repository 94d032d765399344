"""Tags of the package's own messages between the two ends of a partitioned message.

The ends agree on tags that one of them chose, so that nothing else on the channel can match them.
"""

from __future__ import annotations

from threading import Lock

_LAST = (1 << 30) - 1

_lock = Lock()
_next = 0


def new_numbers(count: int) -> int:
    """The first of ``count`` consecutive numbers that this process uses for nothing else.

    They repeat after a billion, long after the messages of their first use were received.
    """
    global _next  # noqa: PLW0603 - one sequence for the process
    with _lock:
        if _next + count > _LAST:
            _next = 0
        first = _next
        _next += count
    return first


def data_tag(number: int) -> int:
    """Tag of a message from the process that chose ``number``."""
    return 2 * number


def reply_tag(number: int) -> int:
    """Tag of a message to the process that chose ``number``."""
    return 2 * number + 1
