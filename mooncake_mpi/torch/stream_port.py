"""The messages of a collective that a stream waits for, while the program goes on.

A schedule runs as ever, ahead of the stream: what it posts, and what it has torch do, takes its
place there. Called in the program's thread; once the schedule has ended, under the lock of
:mod:`.open_operations`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mooncake_mpi import _native
from mooncake_mpi.torch.port import TensorPort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.torch.calls import Call
    from mooncake_mpi.torch.words import Words

#: How long the program looks whether a message comes, before a stream waits for it.
_LOOK_US = 40


class StreamPort(TensorPort):
    """The port of one operation.

    Args:
        communicator: of the group's collectives.
        call: the operation.
        timeout_ms: how long it may take.
        words: what this rank hears of the others while they are late.
        stream: the current one.
    """

    def __init__(
        self,
        communicator: _native.Communicator,
        call: Call,
        timeout_ms: int,
        words: Words,
        stream: int,
    ) -> None:
        super().__init__(communicator, call, timeout_ms, words, may_stage=False)
        self._stream = stream
        self._look_us = _LOOK_US
        self._waits: list[_native.StreamWait] = []

    def wait(self, requests: Sequence[Any]) -> None:
        """Have the stream wait for what was started; the program does for what no stream can."""
        here = []
        for request in requests:
            wait = _native.wait_in_stream(request, self._stream, self._look_us)
            if wait is None:
                here.append(request)
            else:
                self._waits.append(wait)
                self._look_us = 0  # what comes next is behind this one
        if here:
            super().wait(here)

    def is_over(self) -> bool:
        """Whether all messages have ended, well or not."""
        ended = all(request._poll() for request, _, _ in self._started.values())
        return ended and all(wait.over() for wait in self._waits)

    def end(self) -> None:
        """Take the outcomes; raises if any has failed."""
        for request, _, _ in list(self._started.values()):
            self._end(request)

    def look(self) -> None:
        """Raise if there is no use in waiting any longer."""
        self._check_late([request for request, _, _ in self._started.values()])

    def abandon(self) -> None:
        """Let the stream go on, and no message come into memory that the program has again."""
        super().abandon()
        for wait in self._waits:
            wait.let_go()
