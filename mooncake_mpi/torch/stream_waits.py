"""Messages that a CUDA stream waits for, while the program goes on.

Called in the program's threads. A thread of its own gives up those that take longer than they may:
nobody else looks at them, for the program is elsewhere. A lock guards its list.
"""

from __future__ import annotations

from functools import cache
from threading import Condition, Lock, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Protocol
from weakref import ReferenceType, ref

import torch

from mooncake_mpi import _native, config
from mooncake_mpi.torch.leaving import THREADS

if TYPE_CHECKING:
    from mooncake_mpi.requests.request import Request

#: How often the thread looks, while there is anything to look at.
_EVERY_S = 0.5


class StreamWait:
    """The wait of a stream for a message.

    Args:
        wait: the engine's.
        stream: that waits.
    """

    def __init__(self, wait: _native.StreamWait, stream: int) -> None:
        self._wait = wait
        self._stream = stream

    def orders(self, tensor: torch.Tensor) -> bool:
        """Whether what the program does next with the tensor comes after the message."""
        return self._wait.over() or current_stream(tensor) == self._stream

    def over(self) -> bool:
        """Whether the stream has come behind the message."""
        return self._wait.over()

    def let_go(self) -> None:
        """Have the stream go on without a send's end."""
        self._wait.let_go()

    def finish(self) -> None:
        """Wait until it has, once the message is there."""
        while not self._wait.over():
            sleep(0)


def current_stream(tensor: torch.Tensor) -> int:
    """The stream that torch works in now on the tensor's device."""
    return int(torch.cuda.current_stream(tensor.device).cuda_stream)


@cache
def _are_wanted(*, of_sends: bool) -> bool:
    settings = config.load()
    if of_sends:
        return settings.torch_stream_sends is True
    return settings.torch_stream_waits is not False


def begin(request: Request, tensor: torch.Tensor, *, is_send: bool) -> StreamWait | None:
    """Have the current stream wait; ``None``: the message is over, or the program has to."""
    if not _are_wanted(of_sends=is_send):
        return None
    stream = current_stream(tensor)
    wait = _native.wait_in_stream(request, stream)
    return None if wait is None else StreamWait(wait, stream)


class Awaited(Protocol):
    """A message that a stream waits for."""

    def is_open(self) -> bool:
        """Whether it has yet to end."""

    @property
    def group(self) -> str:
        """Which group's it is."""

    def time_out(self) -> None:
        """Give it up, as too late."""

    def give_up(self, reason: str) -> None:
        """Give it up."""


class Deadlines:
    """The thread, which is started when it is needed first, and sleeps while nothing is pending."""

    def __init__(self) -> None:
        self._changed = Condition(Lock())
        self._pending: list[tuple[float, ReferenceType[Awaited]]] = []
        self._thread: Thread | None = None
        self._leaving = False

    def add(self, awaited: Awaited, seconds: float) -> None:
        """Give it up if it is still open then."""
        with self._changed:
            self._pending.append((monotonic() + seconds, ref(awaited)))
            if self._thread is None:
                self._thread = Thread(target=self._run, name="mooncake_mpi deadlines", daemon=True)
                self._thread.start()
                THREADS.add(self)
            if len(self._pending) == 1:
                self._changed.notify()

    def abort(self, group: str) -> None:
        """Give up those of a group."""
        with self._changed:
            pending = [reference() for _, reference in self._pending]
        for awaited in pending:
            if awaited is not None and awaited.is_open() and awaited.group == group:
                awaited.give_up("aborted")

    def leave(self, seconds: float) -> None:
        """End the thread."""
        with self._changed:
            self._leaving = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._leaving)
                self._changed.wait_for(lambda: self._leaving, _EVERY_S)
                if self._leaving:
                    return
                late = self._take_late()
            for awaited in late:
                awaited.time_out()
            del late  # and their tensors

    def _take_late(self) -> list[Awaited]:
        now, late, kept = monotonic(), [], []
        for deadline, reference in self._pending:
            awaited = reference()
            if awaited is None or not awaited.is_open():
                continue
            if deadline <= now:
                late.append(awaited)
            else:
                kept.append((deadline, reference))
        self._pending = kept
        return late


DEADLINES = Deadlines()
