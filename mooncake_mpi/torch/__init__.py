"""The engine as a backend of ``torch.distributed``, under the name ``mooncake_mpi``.

::

    import torch.distributed as dist
    import mooncake_mpi.torch

    dist.init_process_group("mooncake_mpi")     # under mpirun: no MASTER_ADDR, no store

Importing it registers the backend; from torch 2.14 on torch does so itself, where a program names
the backend. Nothing else of the package imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from mooncake_mpi.torch import bootstrap
from mooncake_mpi.torch.group import NAME, Group
from mooncake_mpi.torch.mixed import create

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.communicators.intracomm import Intracomm

__all__ = ["batch_isend_irecv", "comm"]

_OLDEST = (2, 11)
if tuple(int(number) for number in torch.__version__.split(".")[:2]) < _OLDEST:
    raise ImportError(
        f"mooncake_mpi.torch needs torch 2.11 or newer, and this is {torch.__version__}"
    )

dist.Backend.register_backend(NAME, create, extended_api=True, devices=["cpu", "cuda"])
bootstrap.register()


def register() -> None:
    """What torch calls that finds the backend by the package's entry point."""
    if NAME.upper() not in dist.Backend._plugins:
        dist.Backend.register_backend(NAME, create, extended_api=True, devices=["cpu", "cuda"])


def comm(group: dist.ProcessGroup | None = None) -> Intracomm:
    """The communicator of a group's messages: what one end sends by torch, the other may receive.

    Args:
        group: of this backend; the default group when left out.
    """
    return _group(group).communicator


def batch_isend_irecv(operations: Sequence[dist.P2POp]) -> list[dist.Work]:
    """As torch's, started as one: no other thread's operations come in between.

    Args:
        operations: of one group of this backend.
    """
    if not operations:
        raise ValueError("mooncake_mpi: batch_isend_irecv: no operations")
    group = _group(operations[0].group)
    batch: list[tuple[str, Any, int, int]] = []
    for operation in operations:
        if _group(operation.group) is not group:
            raise ValueError("mooncake_mpi: batch_isend_irecv: operations of several groups")
        name = "send" if operation.op is dist.isend else "recv"
        peer = dist.get_group_rank(group, operation.peer)
        batch.append((name, operation.tensor, peer, operation.tag))
    return list(group.batch(batch))


def _group(group: dist.ProcessGroup | None) -> Group:
    found = dist.group.WORLD if group is None else group
    if not isinstance(found, Group):
        raise TypeError(f"mooncake_mpi: not a group of the backend {NAME!r}: {found!r}")
    return found
