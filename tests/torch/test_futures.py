"""Callbacks of futures that wait for other operations, of the same group too."""

from __future__ import annotations

import pytest
import torch

WAITS = {
    "a call": lambda dist, group, tensor: dist.all_reduce(tensor, group=group),
    "a work": lambda dist, group, tensor: dist.all_reduce(
        tensor, group=group, async_op=True
    ).wait(),
    "a future": lambda dist, group, tensor: (
        dist.all_reduce(tensor, group=group, async_op=True).get_future().wait()
    ),
}


@pytest.fixture
def group(dist):
    made = dist.new_group()
    yield made
    dist.destroy_process_group(made)


@pytest.mark.parametrize("kind", WAITS)
def test_a_callback_waits_for_a_collective_of_its_group(dist, group, kind):
    size = dist.get_world_size()

    def again(done):
        tensor = done.value()[0]
        WAITS[kind](dist, group, tensor)
        return tensor

    def again_of(tensor):
        WAITS[kind](dist, group, tensor)
        return tensor

    future = dist.all_reduce(torch.ones(3), group=group, async_op=True).get_future()
    # one callback's collective is what the next one hangs on
    last = future.then(again).then(lambda done: again_of(done.value()))
    assert last.wait().tolist() == [size**3] * 3
    dist.barrier(group=group)


def test_a_callback_waits_for_what_was_called_before_it_ran(dist, group):
    size = dist.get_world_size()
    for _ in range(20):
        works = [dist.all_reduce(torch.ones(2), group=group, async_op=True) for _ in range(4)]
        future = works[0].get_future().then(lambda _, works=works: [one.wait() for one in works])
        chained = works[1].get_future().then(lambda _, later=works[3]: later.get_future().wait())
        assert future.wait() == [True] * 4
        assert chained.wait()[0].tolist() == [size] * 2


def test_a_callback_waits_for_another_message(dist, group, ring):
    after, before = ring
    first, second = torch.zeros(2), torch.zeros(2)
    late = dist.irecv(second, before, group=group, tag=2)
    future = dist.irecv(first, before, group=group, tag=1).get_future()
    told = future.then(lambda _: late.get_future().wait()[0].sum().item())
    dist.barrier(group=group)  # of an ended future callbacks are called in this thread
    dist.send(torch.ones(2), after, group=group, tag=1)
    dist.barrier(group=group)
    dist.send(torch.full((2,), 3.0), after, group=group, tag=2)
    assert told.wait() == 6


def test_a_callback_that_raises_leaves_the_others(dist, group, ring):
    after, before = ring

    def fail(_):
        raise ValueError("of the program")

    futures = [
        dist.all_reduce(torch.ones(1), group=group, async_op=True).get_future(),
        dist.irecv(torch.ones(1), before, group=group).get_future(),
    ]
    failing = [future.then(fail) for future in futures]
    dist.send(torch.ones(1), after, group=group)
    for future in failing:
        with pytest.raises(RuntimeError, match="of the program"):
            future.wait()
    dist.barrier(group=group, async_op=True).wait()
