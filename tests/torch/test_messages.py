"""send and recv of torch.distributed, and the handles of their non-blocking forms."""

from __future__ import annotations

import gc
import time
from datetime import timedelta

import numpy as np
import pytest
import torch

import mooncake_mpi.torch

DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16),
    *(torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
    torch.float8_e4m3fn,
]


def values(count, dtype, seed=0):
    return torch.arange(seed, seed + count, dtype=torch.int64).remainder(2).to(dtype)


def same(one, other):
    return torch.equal(one.view(torch.uint8), other.view(torch.uint8))


@pytest.mark.parametrize("count", [0, 1, 1000, 300_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_of_any_type_and_size_arrives(dist, ring, dtype, count):
    after, before = ring
    work = dist.isend(values(count, dtype, dist.get_rank()), after, tag=1)
    into = torch.zeros(count, dtype=dtype)
    assert dist.recv(into, before, tag=1) == before
    work.wait()
    assert same(into, values(count, dtype, before))


def test_a_tensor_of_no_dimension_and_one_that_needs_a_gradient_travel(dist, ring):
    after, before = ring
    work = dist.isend(torch.nn.Parameter(torch.tensor(2.5)), after)
    into = torch.tensor(0.0)
    dist.recv(into, before)
    work.wait()
    assert into.item() == 2.5


def test_blocking_calls_pass_a_message_around(dist, ring):
    after, before = ring
    tensor = torch.zeros(1000)
    if dist.get_rank() == 0:
        dist.send(torch.arange(1000.0), after)
        dist.recv(tensor, before)
    else:
        dist.recv(tensor, before)
        dist.send(tensor, after)
    assert torch.equal(tensor, torch.arange(1000.0))


def test_recv_from_any_rank_names_its_sender(dist):
    if dist.get_rank() == 0:
        senders = set()
        for _ in range(dist.get_world_size() - 1):
            into = torch.zeros(1)
            sender = dist.recv(into, tag=4)
            assert into.item() == sender
            senders.add(sender)
        assert senders == set(range(1, dist.get_world_size()))
    else:
        dist.send(torch.tensor([float(dist.get_rank())]), 0, tag=4)


def test_tags_match_their_own_messages(dist, ring):
    after, before = ring
    works = [dist.isend(torch.full((3,), float(tag)), after, tag=tag) for tag in (1, 2, 3)]
    for tag in (3, 1, 2):
        into = torch.zeros(3)
        dist.recv(into, before, tag=tag)
        assert torch.equal(into, torch.full((3,), float(tag)))
    for work in works:
        work.wait()


@pytest.mark.parametrize("drop", [False, True])
def test_what_is_not_contiguous_is_sent_and_received(dist, ring, drop):
    after, before = ring
    grid = torch.arange(4000.0).view(40, 100)
    works = [dist.isend(grid.t()[10:20], after, tag=1), dist.isend(grid[:, ::3], after, tag=2)]
    into = torch.zeros(40, 10)
    columns = torch.zeros(40, 102)[:, ::3]
    received = [dist.irecv(into.t(), before, tag=1), dist.irecv(columns, before, tag=2)]
    if drop:
        del received
        deadline = time.monotonic() + 20
        while not (into.any() and columns.any()) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)  # a copy may be under way
    else:
        for work in received:
            work.wait()
    assert torch.equal(into, grid.t()[10:20].t())
    assert torch.equal(columns, grid[:, ::3])
    for work in works:
        work.wait()


def test_a_message_that_has_come_is_copied_back_where_nobody_waits(dist, ring):
    after, before = ring
    works = [dist.isend(torch.arange(4.0), after, tag=tag) for tag in (1, 2)]
    dist.recv(torch.zeros(4), before, tag=2)  # the other has come before it
    column = torch.zeros(4, 2)[:, 1]
    dist.irecv(column, before, tag=1)
    assert torch.equal(column, torch.arange(4.0))
    for work in works:
        work.wait()


def test_a_wait_and_the_word_of_the_end_may_meet(dist, ring):
    after, before = ring
    column = torch.zeros(4, 2)[:, 1]
    for at in range(3000):
        receive = dist.irecv(column, before, tag=1)
        send = dist.isend(torch.full((4,), float(at)), after, tag=1)
        receive.wait()
        assert column[3].item() == at
        send.wait()


def test_a_conjugated_view_is_sent_as_what_it_shows(dist, ring):
    after, before = ring
    numbers = torch.tensor([1 + 2j, 3 - 4j])
    work = dist.group.WORLD.send([numbers.conj()], after, 0)
    into = torch.zeros(2, dtype=torch.complex64)
    dist.recv(into, before)
    work.wait()
    assert torch.equal(into, torch.tensor([1 - 2j, 3 + 4j]))


def test_a_work_tells_its_state(dist, ring, meet):
    after, before = ring
    into = torch.zeros(2)
    receive = dist.irecv(into, before, tag=9)
    assert not receive.is_completed()
    assert not receive.is_success()
    meet()
    dist.send(torch.ones(2), after, tag=9)
    assert receive.wait(timedelta(seconds=30))
    assert receive.is_completed()
    assert receive.is_success()
    assert receive.exception() is None
    assert receive.source_rank() == before
    assert receive.result()[0] is into
    assert receive.get_future().wait()[0] is into


def test_a_future_is_complete_with_the_message(dist, ring, meet):
    after, before = ring
    into = torch.zeros(2)
    future = dist.irecv(into, before, tag=9).get_future().then(lambda done: done.value()[0] + 1)
    assert not future.done()
    meet()
    dist.send(torch.ones(2), after, tag=9)
    assert torch.equal(future.wait(), torch.full((2,), 2.0))


def test_works_that_are_dropped_complete(dist, ring):
    after, before = ring
    for size in (1, 1000, 1_000_000):
        into = torch.zeros(size)
        dist.irecv(into, before, tag=5)
        dist.isend(torch.ones(size), after, tag=5)
        gc.collect()
        dist.isend(torch.zeros(1), after, tag=6)
        dist.recv(torch.zeros(1), before, tag=6)
        deadline = time.monotonic() + 20
        while not into.all() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert into.all()


def test_many_messages_are_under_way_at_once(dist, ring):
    after, before = ring
    into = [torch.zeros(10) for _ in range(500)]
    works = [dist.irecv(tensor, before) for tensor in into]
    works += [dist.isend(torch.full((10,), float(at)), after) for at in range(500)]
    for work in works:
        work.wait()
    assert [tensor[9].item() for tensor in into] == list(range(500))


@pytest.mark.parametrize("ours", [False, True])
def test_a_batch_in_opposite_orders_completes(dist, ring, ours):
    after, before = ring
    start = mooncake_mpi.torch.batch_isend_irecv if ours else dist.batch_isend_irecv
    large = 500_000
    into, column = torch.zeros(large), torch.zeros(4, 2)
    operations = [
        dist.P2POp(dist.isend, torch.full((large,), float(dist.get_rank())), after),
        dist.P2POp(dist.irecv, into, before),
        dist.P2POp(dist.irecv, column[:, 1], before, tag=2),
        dist.P2POp(dist.isend, torch.ones(4), after, tag=2),
        dist.P2POp(dist.isend, torch.zeros(0), after, tag=3),
        dist.P2POp(dist.irecv, torch.zeros(0), before, tag=3),
    ]
    if dist.get_rank() % 2:
        operations.reverse()
    for work in start(operations):
        work.wait()
    assert torch.equal(into, torch.full((large,), float(before)))
    assert torch.equal(column, torch.tensor([[0.0, 1.0]] * 4))


def test_objects_are_sent_and_received(dist):
    if dist.get_rank() == 0:
        for rank in range(1, dist.get_world_size()):
            dist.send_object_list([{"rank": rank}, "text"], rank)
    else:
        objects = [None, None]
        assert dist.recv_object_list(objects, 0) == 0
        assert objects == [{"rank": dist.get_rank()}, "text"]


def test_torch_and_a_communicator_share_their_messages(dist, ring, under_mpi):
    after, before = ring
    if not under_mpi:
        with pytest.raises(dist.DistBackendError, match="group '0' has no communicator"):
            mooncake_mpi.torch.comm()
        return
    comm = mooncake_mpi.torch.comm()
    assert comm.Get_rank() == dist.get_rank()
    work = dist.isend(torch.arange(5.0), after, tag=7)
    array = np.zeros(5, dtype=np.float32)
    comm.Recv(array, before, 7)
    work.wait()
    assert array.tolist() == [0, 1, 2, 3, 4]
    request = comm.Isend(array * 2, after, 8)
    into = torch.zeros(5)
    dist.recv(into, before, tag=8)
    request.Wait()
    assert into.tolist() == [0, 2, 4, 6, 8]


def test_groups_keep_their_messages_apart(dist, ring):
    after, before = ring
    one, other = dist.new_group(), dist.new_group()
    works = [dist.isend(torch.ones(1), after, group=one)]
    works.append(dist.isend(torch.full((1,), 2.0), after, group=other))
    into = torch.zeros(1)
    dist.recv(into, before, group=other)
    assert into.item() == 2
    dist.recv(into, before, group=one)
    assert into.item() == 1
    for work in works:
        work.wait()
    dist.destroy_process_group(one)
    with pytest.raises(dist.DistBackendError, match=r"send: group .* was destroyed"):
        one.send([into], after, 0)
    dist.destroy_process_group(other)


@pytest.mark.parametrize("sent", [1, 3, 500_000])
def test_a_message_of_another_size_raises(dist, ring, sent):
    after, before = ring
    work = dist.isend(torch.ones(sent), after, tag=2)
    receive = dist.irecv(torch.zeros(2), before, tag=2)
    with pytest.raises(dist.DistBackendError, match=f"recv of group .* from rank {before}, tag 2"):
        receive.wait()
    assert receive.is_completed()
    assert not receive.is_success()
    assert isinstance(receive.exception(), dist.DistBackendError)
    with pytest.raises(dist.DistBackendError):
        receive.wait()
    with pytest.raises(dist.DistBackendError):
        receive.get_future().wait()
    work.wait()


def test_a_wait_ends_with_its_timeout_and_may_be_repeated(dist, ring, meet):
    after, before = ring
    into = torch.zeros(1)
    receive = dist.irecv(into, before, tag=3)
    meet()
    with pytest.raises(
        dist.DistBackendError, match=r"recv of group .* tag 3: timed out after 0.05"
    ):
        receive.wait(timedelta(milliseconds=50))
    meet()
    dist.send(torch.ones(1), after, tag=3)
    receive.wait()
    assert into.item() == 1


def test_wrong_arguments_raise(dist, ring):
    after, _ = ring
    with pytest.raises(ValueError, match="negative"):
        dist.isend(torch.ones(1), after, tag=-1)
    with pytest.raises(ValueError, match="no rank 99"):
        dist.group.WORLD.send([torch.ones(1)], 99, 0)
    with pytest.raises(ValueError, match="on meta"):
        dist.isend(torch.ones(1, device="meta"), after)
    with pytest.raises(ValueError, match="sparse"):
        dist.isend(torch.ones(1).to_sparse(), after)
