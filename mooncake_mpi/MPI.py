"""The names of ``mpi4py.MPI``, with point-to-point messages carried by this engine.

``from mooncake_mpi import MPI`` in place of ``from mpi4py import MPI`` changes nothing else: every
name of mpi4py's module is here, private ones too, and all but those imported by name below are
mpi4py's own objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from mpi4py.MPI import *  # noqa: F403

from mooncake_mpi.communicators.comm import Comm
from mooncake_mpi.communicators.intracomm import Intracomm  # noqa: TC001
from mooncake_mpi.communicators.topologies import Cartcomm, Distgraphcomm, Graphcomm
from mooncake_mpi.mirror.module_functions import (
    Alloc_mem,
    Detach_buffer,
    Flush_buffer,
    Free_mem,
    Init,
    Init_thread,
)
from mooncake_mpi.mirror.names import attribute as _attribute
from mooncake_mpi.mirror.names import fill as _fill
from mooncake_mpi.mirror.names import listing as _listing
from mooncake_mpi.objects.messages import Message  # type: ignore[assignment]
from mooncake_mpi.requests.request import Prequest, Request  # type: ignore[assignment]
from mooncake_mpi.requests.statuses import Status

if _TYPE_CHECKING:
    from typing import Any

    COMM_SELF: Intracomm  # type: ignore[no-redef]
    COMM_WORLD: Intracomm  # type: ignore[no-redef]


def __getattr__(name: str) -> Any:
    return _attribute(globals(), name)


def __dir__() -> list[str]:
    return _listing(globals())


_fill(globals())
