"""Tensors as flat memory that messages are sent from and received into.

Called in the program's threads and in a group's own, no lock of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mooncake_mpi import _native
from mooncake_mpi.engine import surroundings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mooncake_mpi.requests.request import Request

_DEVICES = ("cpu", "cuda")
#: In the place of a sender's rank: that of whoever sends first.
ANY_RANK = -1
#: An MPI library may allow less, and says so itself.
LARGEST_TAG = 2**31 - 1


def check(tensor: torch.Tensor, what: str) -> None:
    """Raise unless messages can carry this tensor."""
    if tensor.layout is not torch.strided:
        raise ValueError(
            f"mooncake_mpi: {what}: a tensor of layout {tensor.layout}, not a dense one"
        )
    if tensor.device.type not in _DEVICES:
        raise ValueError(f"mooncake_mpi: {what}: a tensor on {tensor.device}, not on cpu or cuda")


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether the tensor's elements are what its memory holds, in order."""
    return tensor.is_contiguous() and not tensor.is_neg() and not tensor.is_conj()


def source(tensor: torch.Tensor) -> torch.Tensor:
    """The elements, flat; a copy where their memory is not."""
    return packed(tensor).detach().view(-1)


def sink(tensor: torch.Tensor) -> torch.Tensor:
    """Flat memory for the elements: the tensor's own, or some to copy back from."""
    return room(tensor).detach().view(-1)


def packed(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy whose memory is its elements in order."""
    if is_plain(tensor):
        return tensor
    return tensor.detach().resolve_conj().resolve_neg().contiguous()


def room(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or one to copy back from whose memory is its elements in order."""
    if is_plain(tensor):
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def copy_back(tensor: torch.Tensor, flat: torch.Tensor) -> None:
    """Give the tensor what came into its sink, unless that is its own memory."""
    if flat is not tensor and (flat.data_ptr() != tensor.data_ptr() or not is_plain(tensor)):
        tensor.detach().copy_(flat.view(tensor.shape))


def settle(tensors: Sequence[torch.Tensor]) -> None:
    """Let the work that streams of devices have been given on these tensors end."""
    for device in {tensor.device for tensor in tensors if not tensor.is_cpu}:
        torch.cuda.current_stream(device).synchronize()


def moments(tensors: Sequence[torch.Tensor]) -> list[torch.cuda.Event]:
    """How far the streams of devices have work that these tensors may be part of."""
    devices = {tensor.device for tensor in tensors if not tensor.is_cpu}
    return [torch.cuda.current_stream(device).record_event() for device in devices]


def post_send(
    communicator: _native.Communicator, flat: torch.Tensor, peer: int, tag: int
) -> Request:
    """Start sending memory without gaps."""
    if flat.is_cpu:
        return _native.post_send(communicator, flat.data_ptr(), flat.nbytes, flat, peer, tag)
    return _native.post_batch(communicator, ((True, bare(flat), peer, tag),))[0]


def post_recv(
    communicator: _native.Communicator, flat: torch.Tensor, peer: int, tag: int
) -> Request:
    """Start receiving into memory without gaps; the peer may be any rank."""
    peer = place(peer)
    if flat.is_cpu:
        return _native.post_recv(communicator, flat.data_ptr(), flat.nbytes, flat, peer, tag)
    return _native.post_batch(communicator, ((False, bare(flat), peer, tag),))[0]


def bare(flat: torch.Tensor) -> torch.Tensor:
    """The same memory as a tensor that needs no gradient."""
    return flat.detach() if flat.requires_grad else flat


def place(peer: int) -> int:
    """A rank, or any, as the engine takes it."""
    return surroundings.current().any_source if peer == ANY_RANK else peer
