"""Failures that no call could raise, for a stream waited and the program had gone on.

Added in whichever thread notices, raised in the program's: the operations of a deque and of a set
are atomic.
"""

from __future__ import annotations

from collections import deque


class LateFailures:
    """Those of one group, of which its next call raises the first.

    A rank that has died fails whatever was under way with it; the program hears of it once.

    Attributes:
        pending: what the program has yet to hear of, with the rank.
    """

    def __init__(self) -> None:
        self.pending: deque[tuple[int, Exception]] = deque()
        self._dead: set[int] = set()

    def add(self, error: Exception, peer: int) -> None:
        """Keep a failure of an operation with a rank."""
        if peer not in self._dead:
            self.pending.append((peer, error))

    def heard(self, reason: BaseException | None, peer: int) -> None:
        """The program is about to hear why an operation with a rank has failed."""
        if getattr(reason, "name", "") == "ERR_PROC_FAILED":
            self._dead.add(peer)

    def raise_first(self) -> None:
        """Raise what the program has not heard of, if there is anything."""
        while self.pending:
            peer, error = self.pending.popleft()
            if peer not in self._dead:
                self.heard(error.__cause__, peer)
                raise error
