"""Communicators of those who survived a failure, of which the MPI library knows nothing.

Called in the program's threads, no lock of its own. Point-to-point messages are the engine's and
need no library. What makes further communicators exchanges addresses in an agreement; everything
collective that is left to the library raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mpi4py import MPI

from mooncake_mpi.communicators.intracomm import Intracomm
from mooncake_mpi.errhandlers import reporting
from mooncake_mpi.errors import make_error
from mooncake_mpi.failures.agreements import finish
from mooncake_mpi.failures.methods import FailureMethods
from mooncake_mpi.failures.shrinking import Making, made_by_shrinking
from mooncake_mpi.objects.methods import ObjectMethods

if TYPE_CHECKING:
    from collections.abc import Callable


# What the library does with the handle alone, of which each process has one of its own.
_LOCAL = {
    *("Abort", "Call_errhandler", "Delete_attr", "Free", "Get_attr", "Get_errhandler", "Get_info"),
    *("Get_name", "Get_parent", "Get_topology", "Is_inter", "Is_intra", "Set_attr"),
    *("Set_errhandler", "Set_info", "Set_name", "Create_keyval", "Free_keyval", "Join"),
    *("Create_errhandler", "Get_topo", "free", "fromhandle", "fromint", "f2py", "py2f", "toint"),
}

# What the engine does.
_MESSAGES = {
    *("Send", "Isend", "Ssend", "Issend", "Rsend", "Irsend", "Bsend", "Ibsend", "Recv", "Irecv"),
    *("Sendrecv", "Isendrecv", "Sendrecv_replace", "Isendrecv_replace", "Send_init", "Ssend_init"),
    *("Rsend_init", "Bsend_init", "Recv_init", "Psend_init", "Precv_init"),
    *("Probe", "Iprobe", "Mprobe", "Improbe", "send", "recv"),
}


@reporting
@made_by_shrinking
class SurvivorComm(Intracomm):
    """The communicator that ``Shrink`` makes: an ``Intracomm`` of the survivors."""

    __slots__ = ("_group",)
    if TYPE_CHECKING:
        _group: MPI.Group

    def __new__(cls, comm: MPI.Comm | None = None) -> SurvivorComm:
        """A null communicator, as every other communicator class gives; ``Shrink`` makes others."""
        if comm is not None:
            raise TypeError("communicators of survivors are made by Shrink")
        return cast("SurvivorComm", Intracomm.__new__(cls))

    def Get_rank(self) -> int:
        """The rank of this process."""
        return self._checked_communicator().rank

    def Get_size(self) -> int:
        """The number of processes."""
        return self._checked_communicator().size

    def Get_group(self) -> MPI.Group:
        """The group of the processes, a copy that the caller frees."""
        return MPI.Group.Union(self._group, MPI.GROUP_EMPTY)

    def _revoke_in_library(self) -> None:
        """Nothing: the library has no such communicator."""

    rank = property(Get_rank)
    size = property(Get_size)
    group = property(Get_group)

    def Dup(self, info: MPI.Info | None = None) -> Any:  # noqa: ARG002 - the signature is mpi4py's
        """A duplicate with a matching space of its own."""
        return self.Split(0, self.Get_rank())

    Clone = Dup

    def Dup_with_info(self, info: MPI.Info) -> Any:
        """As :meth:`Dup`."""
        return self.Dup(info)

    def Split(self, color: int = 0, key: int = 0) -> Any:
        """Communicators of the processes of equal ``color``, ordered by ``key``."""

        def choose(brought: dict[int, Any]) -> list[int]:
            if color == MPI.UNDEFINED:
                return []
            mine = [rank for rank, other in brought.items() if other[0] == color]
            return sorted(mine, key=lambda rank: (brought[rank][1], rank))

        run = Making(self, (color, key), choose)
        finish(run)
        return run.comm if color != MPI.UNDEFINED else Intracomm()

    def Create(self, group: MPI.Group) -> Any:
        """A communicator of ``group``."""
        place = group.Get_rank()
        return self.Split(MPI.UNDEFINED if place == MPI.UNDEFINED else 0, max(place, 0))


def _unsupported(name: str) -> Callable[..., Any]:
    def call(_self: SurvivorComm, *_args: Any, **_kwargs: Any) -> Any:
        raise make_error(
            "ERR_UNSUPPORTED_OPERATION",
            f"{name} is the MPI library's, which has no communicator of a failure's survivors",
        )

    call.__name__ = name
    call.__doc__ = "Not here: raises ``ERR_UNSUPPORTED_OPERATION``."
    return call


def _close_to_the_library() -> None:
    ours = {*vars(SurvivorComm), *vars(ObjectMethods), *vars(FailureMethods), *_LOCAL, *_MESSAGES}
    for name in dir(MPI.Intracomm):
        value = getattr(MPI.Intracomm, name)
        if not name.startswith("_") and callable(value) and name not in ours:
            setattr(SurvivorComm, name, _unsupported(name))


_close_to_the_library()
