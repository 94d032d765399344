"""Messages of the package's own, which travel apart from every message of the user.

Attachments of object messages and the data of partitioned requests have tags that their sender
chooses and tells the receiver, so that neither side's wildcards can catch them.
"""

from __future__ import annotations

from threading import Lock

#: Channel of attachments and of the data of partitioned requests.
DATA_CHANNEL = 1

#: Channel of the messages that introduce partitioned sends to partitioned receives.
SETUP_CHANNEL = 2

_TAG_MASK = 0x3FFFFFFF

_lock = Lock()
_next = 0


def new_tags(number: int = 1) -> int:
    """The first of ``number`` consecutive tags of the data channel that no other message has.

    Tags repeat after a billion, long after their first use was received.
    """
    global _next  # noqa: PLW0603 - one sequence for the process
    with _lock:
        if _next + number > _TAG_MASK:
            _next = 0
        first = _next
        _next += number
    return first
