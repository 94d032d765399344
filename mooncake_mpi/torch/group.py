"""The process group that torch's functions call: point-to-point operations, and its life.

Called in the program's threads; the engine locks what messages need, :mod:`.worker` what the
collectives do. It is a ProcessGroup itself and no Backend in one: of a Backend's operations torch
passes on too little to tell who sent a message that was received from anybody.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from mooncake_mpi import _native
from mooncake_mpi.torch import errors, spaces, tensors
from mooncake_mpi.torch.collective_methods import CollectiveMethods
from mooncake_mpi.torch.late_failures import LateFailures
from mooncake_mpi.torch.splitting import Features, Splits
from mooncake_mpi.torch.stream_waits import DEADLINES
from mooncake_mpi.torch.tensors import ANY_RANK, LARGEST_TAG
from mooncake_mpi.torch.works import MessageWork, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from mooncake_mpi.communicators.intracomm import Intracomm

    Make: TypeAlias = Callable[[Any, Mapping[str, str] | None, Any], "Group"]

NAME = "mooncake_mpi"
_STRIDED = torch.strided


class Group(CollectiveMethods, dist.ProcessGroup):
    """A group of torch's whose operations are the engine's.

    Args:
        options: what torch tells a backend's creator.
        make: makes a group of such options, of the backend of each device, and of their options.
    """

    #: The backend of each device; this one of all if ``None``.
    _devices: Mapping[str, str] | None = None

    def __init__(self, options: Any, make: Make) -> None:
        # Of its constructors the one without a store alone makes what Python may subclass.
        dist.ProcessGroup.__init__(self, options.group_rank, options.group_size)
        self._store = options.store
        self._name, self._description = str(options.group_id), ""
        self._id = str(options.group_id)
        self._make = make
        self._splits = Splits(options)
        self._spaces = spaces.made(options)
        self._messages = self._spaces.messages
        self._size = self._messages.size
        self._open = True
        self._timeout_ms = milliseconds(options.timeout, 30 * 60 * 1000)
        self._late = LateFailures()
        self._start_collectives(self._spaces.collectives)

    @property
    def communicator(self) -> Intracomm:
        """The communicator whose messages are those of this group."""
        self._check_open("comm")
        return self._spaces.communicator()

    # --- point-to-point ---

    def send(self, tensors_: Sequence[torch.Tensor], dstRank: int, tag: int = 0) -> MessageWork:
        """Start sending a tensor."""
        (tensor,) = tensors_
        self._check_message("send", tensor, dstRank, tag)
        try:
            request = tensors.post_send(self._messages, tensors.packed(tensor), dstRank, tag)
        except Exception as error:
            self._late.heard(error, dstRank)
            raise MessageWork.failure(("send", self._id, dstRank, tag), error) from error
        what = ("send", self._id, dstRank, tag)
        work = MessageWork(what, tensor, None, request, self._timeout_ms, self._late)
        if self._window is not None:
            self._window.append(work)
        return work

    def recv(self, tensors_: Sequence[torch.Tensor], srcRank: int, tag: int = 0) -> MessageWork:
        """Start receiving a tensor."""
        (tensor,) = tensors_
        self._check_message("recv", tensor, srcRank, tag)
        flat = tensors.room(tensor)
        try:
            request = tensors.post_recv(self._messages, flat, srcRank, tag)
        except Exception as error:
            self._late.heard(error, srcRank)
            raise MessageWork.failure(("recv", self._id, srcRank, tag), error) from error
        what = ("recv", self._id, srcRank, tag)
        work = MessageWork(what, tensor, flat, request, self._timeout_ms, self._late)
        if self._window is not None:
            self._window.append(work)
        return work

    def recv_anysource(self, tensors_: Sequence[torch.Tensor], tag: int = 0) -> MessageWork:
        """Start receiving a tensor from any rank."""
        return self.recv(tensors_, ANY_RANK, tag)

    def batch(self, operations: Sequence[tuple[str, torch.Tensor, int, int]]) -> list[MessageWork]:
        """Start sends and receives as one: (name, tensor, peer or any source, tag) each."""
        posts, flats = [], []
        for name, tensor, peer, tag in operations:
            self._check_message(name, tensor, peer, tag)
            is_send = name == "send"
            flat = tensors.packed(tensor) if is_send else tensors.room(tensor)
            posts.append((is_send, tensors.bare(flat), tensors.place(peer), tag))
            flats.append(None if is_send else flat)
        try:
            requests = _native.post_batch(self._messages, posts)
        except Exception as error:
            raise errors.failed("batch_isend_irecv", self._id, "all ranks", error) from error
        timeout_ms, late = self._timeout_ms, self._late
        return [
            MessageWork((name, self._id, peer, tag), tensor, flat, request, timeout_ms, late)
            for (name, tensor, peer, tag), flat, request in zip(
                operations, flats, requests, strict=True
            )
        ]

    def _check_message(self, name: str, tensor: torch.Tensor, peer: int, tag: int) -> None:
        if not self._open:
            raise errors.destroyed(name, self._id)
        if self._late.pending:
            self._late.raise_first()
        if not (tensor.is_cpu and tensor.layout is _STRIDED):
            tensors.check(tensor, name)
        if not 0 <= tag <= LARGEST_TAG:
            fault = "negative" if tag < 0 else f"larger than {LARGEST_TAG}"
            raise ValueError(f"mooncake_mpi: {name}: tag {tag} is {fault}")
        if not 0 <= peer < self._size and (name == "send" or peer != ANY_RANK):
            raise ValueError(
                f"mooncake_mpi: {name}: group {self._id!r} has no rank {peer}, "
                f"its size is {self._size}"
            )

    # --- groups out of this one ---

    def split_group(
        self,
        ranks: Sequence[int],
        timeout: timedelta | None = None,
        opts: Any = None,
        group_name: str | None = None,
        group_desc: str | None = None,
        device_types: Sequence[torch.device] | None = None,
    ) -> Group | None:
        """A group of some ranks of this one, by its members alone; ``None`` at the others.

        Args:
            ranks: the members' ranks here, in the order of their new ones.
            timeout: of the new group; this one's when left out.
            opts: of another backend that the new group has, too.
            group_name: the name under which torch will find the new group.
            group_desc: what the new group is for.
            device_types: those that the new group is for; this one's when left out.
        """
        self._check_open("split_group")
        limit = timeout or timedelta(milliseconds=self._timeout_ms)
        devices = self._devices_of(device_types)
        options = self._splits.options(ranks, limit, group_name)
        if options is None:
            return None
        try:
            group = self._make(options, devices, opts)
        except BaseException:
            self._splits.take_back(ranks)
            raise
        group._set_group_name(options.group_id)
        group._set_group_desc(group_desc or f"{self._description}:split:{self._splits.count}")
        group.bound_device_id = self.bound_device_id
        return group

    def _devices_of(self, kinds: Sequence[torch.device] | None) -> Mapping[str, str] | None:
        """The backend of each of these kinds of devices."""
        if kinds is None:
            return self._devices
        known = self._devices or {kind.type: NAME for kind in self._device_types}
        for kind in kinds:
            if kind.type not in known:
                raise ValueError(
                    f"mooncake_mpi: split_group: group {self._id!r} has no backend for {kind.type}"
                )
        return {kind.type: known[kind.type] for kind in kinds}

    # --- life ---

    def set_timeout(self, timeout: timedelta) -> None:
        """Set how long the operations that begin from now on may take."""
        self._timeout_ms = milliseconds(timeout, self._timeout_ms)

    def shutdown(self) -> None:
        """Run what was called, and leave the group."""
        if not self._open:
            return
        self._open = False
        self._end_collectives()
        self._spaces.close()

    def abort(self) -> None:
        """As :meth:`shutdown`, but what is under way fails; the other ranks are not told."""
        if self._open:
            self._abort_collectives()
            DEADLINES.abort(self._id)
        self.shutdown()

    def _check_open(self, name: str) -> None:
        if not self._open:
            raise errors.destroyed(name, self._id)

    # --- what torch asks ---

    def _set_group_name(self, name: str) -> None:
        self._name = name
        super()._set_group_name(name)

    def _set_group_desc(self, description: str) -> None:
        self._description = description

    def getGroupName(self) -> str:
        """The name under which torch's own code finds the group."""
        return self._name

    def getGroupDesc(self) -> str:
        """What the group is for."""
        return self._description

    group_name = property(getGroupName)
    group_desc = property(getGroupDesc)

    def get_group_store(self) -> Any:
        """The store that torch gave the group."""
        return self._store

    def name(self) -> str:
        """The name of the backend."""
        return NAME

    def getBackendName(self) -> str:
        """The name of the backend."""
        return NAME

    _get_backend_name = getBackendName

    @property
    def _device_types(self) -> list[torch.device]:
        kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        return [torch.device(kind) for kind in kinds]

    def _get_backend(self, device: torch.device) -> Features:
        return Features(NAME, device)

    def _set_sequence_number_for_group(self) -> None:
        pass

    def _get_sequence_number_for_group(self) -> int:
        return self._sequence

    def _wait_for_pending_works(self) -> None:
        self.barrier_of_own()
