"""A group whose devices have different backends: ``cpu:mooncake_mpi,cuda:nccl`` and its like.

Called in the program's threads, no lock of its own. Torch makes no more backends once it was given
a process group, so the others are made here, in a group of torch's own beside this one; an
operation goes to whichever has the backend of its tensor's device.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from mooncake_mpi.torch.group import NAME, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from mooncake_mpi.torch.group import Make

_BY_TENSOR = (
    *("send", "recv", "recv_anysource", "broadcast", "allreduce", "allreduce_coalesced", "reduce"),
    *("allgather", "allgather_coalesced", "all_gather_single", "_allgather_base"),
    *("all_gather_single_coalesced", "allgather_into_tensor_coalesced", "reduce_scatter"),
    *("reduce_scatter_single", "_reduce_scatter_base", "reduce_scatter_single_coalesced"),
    *(
        "reduce_scatter_tensor_coalesced",
        "gather",
        "gather_single",
        "gather_into_tensor",
        "scatter",
        "alltoall",
        "all_to_all_single",
    ),
    "alltoall_base",
)


def create(options: Any, backend_options: Any) -> Group:
    """What torch calls for a new group."""
    # Torch tells the creator of a backend its own name only, and forgets the device that a group of
    # a Python class was bound to. The names are those of torch's variables; where they are gone,
    # all devices are this backend's, and no group is bound.
    told = sys._getframe(1).f_locals
    group = make(options, _devices_of(told.get("backend_config")), backend_options)
    device = told.get("device_id")
    # Bound to a device torch would split the communicator of another backend behind this one.
    if isinstance(device, torch.device) and not isinstance(group, MixedGroup):
        group.bound_device_id = device
    return group


def make(options: Any, devices: Mapping[str, str] | None, backend_options: Any) -> Group:
    """A group.

    Args:
        options: what torch tells a backend's creator.
        devices: the backend of each device; this one of all if ``None``.
        backend_options: those of NCCL, where that is one of them.
    """
    if devices is None or (set(devices.values()) == {NAME} and {"cpu", "cuda"} <= set(devices)):
        return Group(options, make)
    return MixedGroup(options, make, devices, backend_options)


def _devices_of(config: Any) -> Mapping[str, str] | None:
    """Which backends the program has asked for."""
    try:
        found = config.get_device_backend_map()
    except AttributeError:
        return None
    return {str(device): str(backend) for device, backend in found.items()}


class MixedGroup(Group):
    """A group of which some devices have other backends, or none.

    Args:
        options: what torch tells a backend's creator.
        make: makes a group out of this one.
        devices: the backend of each device.
        backend_options: those of NCCL, where that is one of them.
    """

    _devices: Mapping[str, str]

    def __init__(
        self, options: Any, make: Make, devices: Mapping[str, str], backend_options: Any = None
    ) -> None:
        super().__init__(options, make)
        self._devices = dict(devices)
        others = {device: name for device, name in devices.items() if name != NAME}
        self._theirs = _theirs(options, others, backend_options) if others else None

    def _is_ours(self, device: torch.device, what: str) -> bool:
        name = self._devices.get(device.type)
        if name is None:
            known = ",".join(f"{kind}:{backend}" for kind, backend in self._devices.items())
            raise ValueError(
                f"mooncake_mpi: {what}: a tensor on {device}, and the group {self._id!r} has "
                f"backends for {known}"
            )
        return name == NAME

    def barrier(self, opts: Any = None) -> Any:
        """Wait for all ranks."""
        device = getattr(opts, "device", None)
        if self._theirs is None or device is None or self._devices.get(device.type) in {None, NAME}:
            return super().barrier(opts)
        return self._theirs.barrier(opts)

    def set_timeout(self, timeout: timedelta) -> None:
        """Set how long the operations that begin from now on may take."""
        super().set_timeout(timeout)
        if self._theirs is not None:
            self._theirs.set_timeout(timeout)

    def shutdown(self) -> None:
        """Run what was called, and leave the group."""
        super().shutdown()
        if self._theirs is not None:
            self._theirs.shutdown()

    def abort(self) -> None:
        """As :meth:`shutdown`, but what is under way fails; the other ranks are not told."""
        super().abort()
        if self._theirs is not None:
            self._theirs.abort()

    def _start_coalescing(self, device: torch.device) -> None:
        if self._is_ours(device, "coalescing"):
            super()._start_coalescing(device)
        elif self._theirs is not None:
            self._theirs._start_coalescing(device)

    def _end_coalescing(self, device: torch.device) -> Any:
        if self._theirs is None or self._is_ours(device, "coalescing"):
            return super()._end_coalescing(device)
        return self._theirs._end_coalescing(device)

    @property
    def _device_types(self) -> list[torch.device]:
        return [torch.device(device) for device in self._devices]

    def _get_backend(self, device: torch.device) -> Any:
        if self._theirs is None or self._is_ours(device, "_get_backend"):
            return super()._get_backend(device)
        return self._theirs._get_backend(device)


def _by_tensor(name: str) -> Callable[..., Any]:
    ours = getattr(Group, name)

    def call(self: MixedGroup, *args: Any, **kwargs: Any) -> Any:
        tensor = _first_tensor(args)
        if tensor is None or self._is_ours(tensor.device, name):
            return ours(self, *args, **kwargs)
        return getattr(self._theirs, name)(*args, **kwargs)

    call.__name__, call.__doc__ = name, ours.__doc__
    return call


for _name in _BY_TENSOR:
    setattr(MixedGroup, _name, _by_tensor(_name))


def _first_tensor(given: Any) -> torch.Tensor | None:
    if isinstance(given, torch.Tensor):
        return given
    if isinstance(given, (list, tuple)):
        return next((one for one in map(_first_tensor, given) if one is not None), None)
    return None


def _theirs(options: Any, others: Mapping[str, str], backend_options: Any) -> Any:
    """A group of torch's with the backends of others, by device."""
    store = dist.PrefixStore("mooncake_mpi/others/", options.store)
    group = dist.ProcessGroup(store, options.group_rank, options.group_size)
    kinds = dist.ProcessGroup.BackendType
    made: dict[str, Any] = {}
    for device, name in others.items():
        if name == dist.Backend.GLOO:
            kind, make_one = kinds.GLOO, _gloo
        elif name == dist.Backend.NCCL:
            kind, make_one = kinds.NCCL, partial(_nccl, backend_options)
        else:
            raise ValueError(f"mooncake_mpi: {device}:{name}: beside it may be gloo and nccl")
        if name not in made:
            made[name] = make_one(dist.PrefixStore(f"{name}/", store), options)
        group._register_backend(torch.device(device), kind, made[name])
    group._set_group_name(f"{options.group_id}/others")
    return group


def _gloo(store: Any, options: Any) -> Any:
    backend = dist.ProcessGroupGloo(
        store, options.group_rank, options.group_size, timeout=options.timeout
    )
    backend._set_sequence_number_for_group()
    return backend


def _nccl(given: Any, store: Any, options: Any) -> Any:
    if not dist.is_nccl_available():
        raise RuntimeError("Distributed package doesn't have NCCL built in")
    kind = dist.ProcessGroupNCCL.Options
    chosen = given if isinstance(given, kind) else kind()
    chosen._timeout = options.timeout
    chosen.global_ranks_in_group = list(options.global_ranks_in_group)
    chosen.group_name = f"{options.group_id}/others"
    backend = dist.ProcessGroupNCCL(store, options.group_rank, options.group_size, chosen)
    backend._set_sequence_number_for_group()
    return backend
