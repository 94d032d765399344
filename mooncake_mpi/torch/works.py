"""The handles that torch's programs get for operations.

Called in the program's threads, and where an operation ends: an object's lock guards its end.
"""

from __future__ import annotations

from functools import partial
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed import Work

from mooncake_mpi import _native
from mooncake_mpi.engine import surroundings
from mooncake_mpi.torch import errors, stream_waits, tensors
from mooncake_mpi.torch.stream_waits import DEADLINES
from mooncake_mpi.torch.tensors import ANY_RANK
from mooncake_mpi.torch.watcher import WATCHER

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from mooncake_mpi.requests.request import Request
    from mooncake_mpi.torch.late_failures import LateFailures

_LONGEST_MS = 2**31 - 1


def milliseconds(timeout: timedelta | None, default: int) -> int:
    """A timeout as the engine takes it; what torch has below a millisecond is the default."""
    given = 0 if timeout is None else int(timeout.total_seconds() * 1000)
    return min(_LONGEST_MS, given) if given > 0 else default


class _Work(Work):
    """What both kinds of operations have."""

    def __init__(self, results: list[torch.Tensor]) -> None:
        super().__init__()
        self._results = results
        self._error: Exception | None = None
        self._future: Any = None

    def get_future(self) -> Any:
        raise NotImplementedError

    def wait(self, timeout: timedelta | None = None) -> bool:
        raise NotImplementedError

    def is_completed(self) -> bool:
        raise NotImplementedError

    def synchronize(self) -> None:
        """As :meth:`wait`, without a timeout of its own."""
        self.wait()

    def is_success(self) -> bool:
        """Whether the operation has ended well."""
        return self.is_completed() and self._error is None

    def exception(self) -> Exception | None:
        """Why the operation has failed, if it has."""
        return self._error if self.is_completed() else None

    def result(self) -> list[torch.Tensor]:
        """The tensors that the operation was given for its results."""
        return self._results

    def _resolve(self, future: Any) -> None:
        if self._error is None:
            future.set_result(self._results)
        else:
            future.set_exception(self._error)


class MessageWork(_Work):
    """A send or a receive.

    Args:
        what: the operation's name, the group's, the peer and the tag.
        tensor: the program's.
        flat: what the message is received into; ``None`` of a send.
        request: the engine's.
        timeout_ms: that of the group.
        late: where a failure goes that :meth:`wait` did not raise, for a stream waited.
    """

    def __init__(
        self,
        what: tuple[str, str, int, int],
        tensor: torch.Tensor,
        flat: torch.Tensor | None,
        request: Request,
        timeout_ms: int,
        late: LateFailures,
    ) -> None:
        super().__init__([tensor])
        self._what = what
        self._flat = flat
        self._request = request
        self._timeout_ms = timeout_ms
        self._lock = Lock()
        self._ended = False
        self._source = -1
        self._late = late
        self._stream_wait: stream_waits.StreamWait | None = None
        self._given_up = ""
        # Of a receive from any rank the end of one process alone is no end.
        is_in_place = flat is None or (flat is tensor and what[2] != ANY_RANK)
        self._on_gpu = is_in_place and not tensor.is_cpu
        # Copied back even if the program drops this object; now, if the message had come already.
        is_copied = flat is not None and flat is not tensor
        if is_copied and not _native.call_when_done(request, self._end_in_passing):
            self._end()

    @staticmethod
    def failure(what: tuple[str, str, int, int], reason: object) -> Exception:
        """What is raised where an operation failed."""
        name, group, peer, tag = what
        way = "to" if name == "send" else "from"
        there = "any rank" if peer == ANY_RANK else f"rank {peer}"
        return errors.failed(name, group, f"{way} {there}, tag {tag}", reason)

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait for the message; raises if it failed, or is not there in time.

        Of a tensor of a GPU, without a timeout: the current stream waits, and what it is given from
        now on comes after the message.
        """
        limit = milliseconds(timeout, 0)
        if limit == 0 and self._on_gpu and self._leave_to_stream():
            return True
        self._wait_here(limit or self._timeout_ms)
        if self._error is not None:
            self._late.heard(self._error.__cause__, self._what[2])
            raise self._error
        if self._stream_wait is not None and not self._stream_wait.orders(self._results[0]):
            self._stream_wait.finish()
        return True

    def _wait_here(self, limit: int) -> None:
        if not self._ended:
            there = _native.wait_for_requests((self._request,), all=True, timeout_ms=limit)
            if not there and not self._ended:
                raise self.failure(
                    self._what, f"timed out after {limit / 1000:g} s, the timeout of the wait"
                )
            self._end()

    def is_completed(self) -> bool:
        """Whether the operation has ended; makes progress."""
        if not self._ended and self._request._poll():
            self._end()
        return self._ended and (self._stream_wait is None or self._stream_wait.over())

    def is_open(self) -> bool:
        """Whether it has yet to end."""
        return not self._ended

    @property
    def group(self) -> str:
        """Which group's it is."""
        return self._what[1]

    def time_out(self) -> None:
        """Give up a message that a stream waits for, after the group's timeout."""
        limit = self._timeout_ms / 1000
        self.give_up(f"timed out after {limit:g} s, the timeout of the group")

    def give_up(self, reason: str) -> None:
        """End a message that a stream waits for, unless it is on its way."""
        if self._flat is None:
            self._give_up_send(reason)
            return
        self._given_up = reason
        self._request.Cancel()

    def _give_up_send(self, reason: str) -> None:
        """Its receiver may still take it: the tensor is kept until then."""
        with self._lock:
            if self._ended:
                return
            self._error = self.failure(self._what, reason)
            self._ended = True
        if self._stream_wait is not None:
            self._stream_wait.let_go()
        self._late.add(self._error, self._what[2])

    def _leave_to_stream(self) -> bool:
        """Have the current stream wait; False: the program has to, or it is over."""
        tensor = self._results[0]
        with self._lock:  # nobody ends the request meanwhile
            if self._ended:
                return False
            if self._stream_wait is not None:
                return self._stream_wait.orders(tensor)
            try:
                self._stream_wait = stream_waits.begin(
                    self._request, tensor, is_send=self._flat is None
                )
            except Exception as error:
                raise self.failure(self._what, error) from error
            if self._stream_wait is None:
                return False
        DEADLINES.add(self, self._timeout_ms / 1000)
        if not _native.call_when_done(self._request, self._end_unseen):
            self._end()
            return False
        return True

    def _end_unseen(self) -> None:
        """As :meth:`_end_in_passing`; somebody has to hear of a failure."""
        self._end_in_passing()
        if self._error is not None:
            self._late.add(self._error, self._what[2])

    def source_rank(self) -> int:
        """The sender's rank in the group, of a receive that has ended."""
        if self._stream_wait is not None:
            self._wait_here(self._timeout_ms)
        if self._source < 0:
            raise self.failure(self._what, "no message has been received")
        return self._source

    _source_rank = source_rank

    def get_future(self) -> Any:
        """A future of the operation's end."""
        if self._future is None:
            self._future = torch.futures.Future()
            if self.is_completed():
                self._resolve(self._future)
            else:
                WATCHER.add(self._request, self._end_future)
        return self._future

    def _end_in_passing(self) -> None:
        """As :meth:`_end`, called between any two steps of the main thread, of :meth:`_end` too."""
        if self._lock.acquire(blocking=False):
            try:
                self._end_locked()
            finally:
                self._lock.release()

    def _end_future(self) -> None:
        self._end()
        if self._stream_wait is not None:
            self._stream_wait.finish()
        self._resolve(self._future)

    def _end(self) -> None:
        """Take the outcome of a request that is complete; once."""
        with self._lock:
            self._end_locked()

    def _end_locked(self) -> None:
        if self._ended:
            return
        try:
            if self._flat is None:
                self._request.Wait()
            else:
                self._take(*surroundings.current().outcome(self._request), self._flat)
        except Exception as error:  # noqa: BLE001 - raised by wait()
            self._error = self.failure(self._what, error)
            self._error.__cause__ = error
        if self._given_up and self._error is not None:
            self._error = self.failure(self._what, self._given_up)
        self._ended = True

    def _take(self, source: int, received: int, flat: torch.Tensor) -> None:
        self._source = source
        if received != flat.nbytes:
            raise ValueError(f"{received} bytes came for a tensor of {flat.nbytes}")
        tensors.copy_back(self._results[0], flat)


class CollectiveWork(_Work):
    """A collective operation: under way in the group's thread, or done in the caller's."""

    def __init__(
        self, describe: Callable[[], tuple[str, str, str]], results: list[torch.Tensor]
    ) -> None:
        super().__init__(results)
        self._describe = describe
        self._done = Condition(Lock())
        self._ended = False

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait for the operation; raises if it failed, or takes longer."""
        if not self._ended:
            # Without a limit the operation's own timeout ends it.
            limit = milliseconds(timeout, 0) / 1000 or None
            with self._done:
                if not self._done.wait_for(lambda: self._ended, limit):
                    raise errors.failed(
                        *self._describe(), f"timed out after {limit:g} s, the timeout of the wait"
                    )
        if self._error is not None:
            raise self._error
        return True

    def is_completed(self) -> bool:
        """Whether the operation has ended."""
        return self._ended

    def get_future(self) -> Any:
        """A future of the operation's end."""
        with self._done:
            if self._future is None:
                self._future = torch.futures.Future()
                if self._ended:
                    self._resolve(self._future)
        return self._future

    def _end(self, error: Exception | None) -> Callable[[], None] | None:
        """End the wait; what is given ends the future, too, and calls its callbacks."""
        with self._done:
            self._error = error
            self._ended = True
            self._done.notify_all()
            future = self._future
        return None if future is None else partial(self._resolve, future)


class JoinedWork(_Work):
    """Several operations as one: what a coalescing window of torch's ends with."""

    def __init__(self, works: list[_Work]) -> None:
        super().__init__([tensor for work in works for tensor in work.result()])
        self._works = works

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait for all; raises what the first that failed raises."""
        for work in self._works:
            work.wait(timeout)
        return True

    def is_completed(self) -> bool:
        """Whether all have ended."""
        return all(work.is_completed() for work in self._works)

    def is_success(self) -> bool:
        """Whether all have ended well."""
        return all(work.is_success() for work in self._works)

    def exception(self) -> Exception | None:
        """Why the first that failed has failed."""
        return next(filter(None, (work.exception() for work in self._works)), None)

    def get_future(self) -> Any:
        """A future of the end of all."""
        joined = torch.futures.collect_all([work.get_future() for work in self._works])
        return joined.then(lambda done: [part.value() for part in done.value()] and self._results)
