"""What a group that is split out of another one is made of.

Called in the thread that makes the group, no lock of its own.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta


class Features:
    """What torch asks a device's backend for: nothing that needs one.

    Args:
        device: that torch has named.
    """

    supports_coalescing = False
    supports_time_estimate = False
    supports_tensor_alloc = False
    #: What torch copies and hands on to a group that is split off.
    options = None

    def __init__(self, name: str, device: Any) -> None:
        self._name = name
        # Whoever splits a group names a kind of device. Who names one device is to build a
        # communicator of NCCL's out of one of ours, for a group of another backend.
        self.supports_splitting = device.index is None

    def name(self) -> str:
        """The name of the backend."""
        return self._name

    def _set_sequence_number_for_group(self) -> None:
        pass


class Splits:
    """The groups that were split out of a group, here.

    They meet by the ranks that they have in the parent, and by how often these have been split off:
    the names that torch chooses may differ from member to member.

    Args:
        options: what the parent was made of.

    Attributes:
        count: how often it was split.
    """

    def __init__(self, options: Any) -> None:
        self._parent = options
        self._ranks = list(options.global_ranks_in_group) or list(range(options.group_size))
        self._made: Counter[tuple[int, ...]] = Counter()
        self.count = 0

    def options(
        self, ranks: Sequence[int], timeout: timedelta, name: str | None
    ) -> SimpleNamespace | None:
        """What the new group is made of; ``None`` where this rank is no member.

        Args:
            ranks: the members' ranks in the parent, in the order of their new ones.
            timeout: of the new group.
            name: of the new group; the parent's and a number when left out.

        Raises:
            ValueError: these cannot be the ranks of a group.
        """
        size, members = self._parent.group_size, tuple(int(rank) for rank in ranks)
        if not members or len(set(members)) != len(members):
            raise ValueError(f"mooncake_mpi: split_group: not the ranks of a group: {list(ranks)}")
        if not all(0 <= rank < size for rank in members):
            raise ValueError(
                f"mooncake_mpi: split_group: {list(ranks)}: the ranks of group "
                f"{str(self._parent.group_id)!r} are 0 to {size - 1}"
            )
        self.count += 1
        if self._parent.group_rank not in members:
            return None
        self._made[members] += 1
        mark = f"{hashlib.sha256(repr(members).encode()).hexdigest()}/{self._made[members]}"
        return SimpleNamespace(
            store=dist.PrefixStore(f"mooncake_mpi/split/{mark}", self._parent.store),
            group_rank=members.index(self._parent.group_rank),
            group_size=len(members),
            timeout=timeout,
            group_id=name or f"{self._parent.group_id}:split:{self.count}",
            global_ranks_in_group=[self._ranks[rank] for rank in members],
        )

    def take_back(self, ranks: Sequence[int]) -> None:
        """The group could not be made, and may be when all come."""
        self._made[tuple(int(rank) for rank in ranks)] -= 1
