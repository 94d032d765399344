"""How the members of a new group meet in its store, or learn who has not come.

Called in the thread that makes a group, no lock of its own; a meeting is collective.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any, NoReturn

import torch.distributed as dist

_JOINED = "mooncake_mpi/joined"
# Behind the key of a process that has given up.
_GONE = "/gone"


class Meeting:
    """Gives every member what all have written into the store, again and again.

    A store may have seen the group before, under the same name: each time it is made has keys of
    its own, by the number of those who had come before.
    """

    def __init__(self, options: Any) -> None:
        self._store = options.store
        self._group = str(options.group_id)
        self._rank, self._size = options.group_rank, options.group_size
        self._ranks = list(options.global_ranks_in_group) or list(range(self._size))
        self._timeout = options.timeout or timedelta(minutes=30)
        self._rounds = 0
        self._written: list[str] = []
        try:
            self._time = (int(self._store.add(_JOINED, 1)) - 1) // self._size
        except RuntimeError as error:
            self._fail(error, "")

    def exchange(self, entry: bytes) -> bytearray:
        """The entries of all members, in rank order."""
        self._rounds += 1
        keys = [f"mooncake_mpi/{self._time}/{self._rounds}/{at}" for at in range(self._size)]
        try:
            self._store.set(keys[self._rank], entry)
            self._written.append(keys[self._rank])
            self._store.wait(keys, self._timeout)
            return bytearray().join(self._store.multi_get(keys))
        except RuntimeError as error:
            self._fail(error, self._missing(keys))

    def leave(self) -> None:
        """Take back what this process has written: the group may be made again."""
        with suppress(RuntimeError):
            for key in self._written:
                self._store.set(key + _GONE, "")
                self._store.delete_key(key)
            self._store.add(_JOINED, -1)

    def _missing(self, keys: list[str]) -> str:
        try:
            missing = [
                self._ranks[at]
                for at, key in enumerate(keys)
                if not self._store.check([key]) and not self._store.check([key + _GONE])
            ]
        except RuntimeError:  # the store itself is gone
            return ""
        if not missing:
            return ""
        who = "rank" if len(missing) == 1 else "ranks"
        numbers = ", ".join(map(str, missing))
        seconds = self._timeout.total_seconds()
        return f"{who} {numbers} of {self._size} did not come within {seconds:g} s"

    def _fail(self, error: Exception, missing: str) -> NoReturn:
        reason = missing or f"the store said: {str(error).splitlines()[0]}"
        raise dist.DistBackendError(
            f"mooncake_mpi: group {self._group!r} cannot be made: {reason}"
        ) from error
