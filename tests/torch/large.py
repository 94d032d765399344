"""Tensors beyond what an int counts; 10 GiB of memory on two ranks, so only where it is named.

python tests/launch.py -n 2 --torchrun -- -m pytest tests/torch/large.py
"""

from __future__ import annotations

import pytest
import torch

COUNT = (2 << 30) + 4097  # bytes, and not a multiple of anything


def test_a_tensor_of_more_than_2_gib_travels(dist):
    rank = dist.get_rank()
    if rank == 0:
        tensor = torch.arange(251, dtype=torch.uint8).repeat(COUNT // 251 + 1)[:COUNT]
        dist.send(tensor, 1, tag=1)
        dist.isend(tensor[: COUNT - 1], 1, tag=2).wait()
    elif rank == 1:
        tensor = torch.zeros(COUNT, dtype=torch.uint8)
        dist.recv(tensor, 0, tag=1)
        for at in (0, 1, (1 << 31) - 1, 1 << 31, COUNT - 1):
            assert tensor[at].item() == at % 251
        assert tensor.sum(dtype=torch.int64).item() == sum(
            (COUNT - value + 250) // 251 * value for value in range(251)
        )
        wrong = f"{COUNT - 1} bytes came for a tensor of {COUNT}"
        with pytest.raises(dist.DistBackendError, match=wrong):
            dist.recv(tensor, 0, tag=2)


def test_more_than_2_gib_are_reduced_and_broadcast(dist):
    tensor = torch.ones(COUNT // 2 + 1, dtype=torch.bfloat16)
    dist.all_reduce(tensor)
    size = dist.get_world_size()
    assert tensor.min().item() == tensor.max().item() == size
    if dist.get_rank() == 0:
        tensor.fill_(7)
    dist.broadcast(tensor, 0)
    assert tensor.min().item() == tensor.max().item() == 7
