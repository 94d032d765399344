"""Leaving the default group and making it again: last, as every other test needs the first one."""

from __future__ import annotations

import torch


def test_the_default_group_is_made_again(dist):
    for _ in range(2):
        dist.all_reduce(torch.ones(1), async_op=True)  # dropped, and complete all the same
        dist.destroy_process_group()
        assert not dist.is_initialized()
        dist.init_process_group("mooncake_mpi")
        tensor = torch.ones(10)
        dist.all_reduce(tensor)
        assert tensor[0].item() == dist.get_world_size()
        dist.barrier()
