"""Messages match by context, source and tag, in the order in which they were sent and posted."""

from __future__ import annotations

import random
from decimal import Decimal

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of, wait_until


def numbered(value, size=8):
    """A message of ``size`` bytes that starts with ``value``."""
    array = np.zeros(max(size, 8), np.uint8)
    array[:8].view(np.int64)[0] = value
    return array


def number_of(array):
    return int(array[:8].view(np.int64)[0])


def test_messages_of_one_tag_do_not_overtake_each_other_whatever_their_size(comm):
    dest, source = ring_of(comm)
    choose = random.Random(5)
    sizes = [choose.choice([8, 8, 100, 5000, 70_000, 400_000]) for _ in range(200)]
    sends = [comm.Isend(numbered(i, size), dest, 1) for i, size in enumerate(sizes)]
    into, status = np.zeros(400_000, np.uint8), MPI.Status()
    for index, size in enumerate(sizes):
        comm.Recv(into, source, 1, status)
        assert (number_of(into), status.Get_count(MPI.BYTE)) == (index, size)
    MPI.Request.Waitall(sends)


def test_receives_of_one_tag_complete_in_the_order_in_which_they_were_posted(comm):
    dest, source = ring_of(comm)
    sizes = [8 if index % 3 else 200_000 for index in range(60)]
    into = [np.zeros(200_000, np.uint8) for _ in sizes]
    receives = [comm.Irecv(array, source, 1) for array in into]
    quiet_barrier()
    sends = [comm.Isend(numbered(i, size), dest, 1) for i, size in enumerate(sizes)]
    MPI.Request.Waitall(receives + sends)
    assert [number_of(array) for array in into] == list(range(60))


def model(message_tags, receive_tags):
    """What MPI's rules say of messages from one source: the message of each receive, or None."""
    waiting = list(enumerate(message_tags))
    matched = []
    for tag in receive_tags:
        found = next((item for item in waiting if tag in (MPI.ANY_TAG, item[1])), None)
        matched.append(None if found is None else found[0])
        if found is not None:
            waiting.remove(found)
    return matched


@pytest.mark.parametrize("any_source", [False, True])
@pytest.mark.parametrize("posted", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_wildcard_and_exact_receives_mix_in_posting_order(comm, seed, posted, any_source):
    dest, source = ring_of(comm)
    choose = random.Random(seed)
    messages = [choose.randrange(4) for _ in range(120)]
    receives = [tag if choose.random() < 0.6 else MPI.ANY_TAG for tag in messages]
    choose.shuffle(receives)
    expected = model(messages, receives)
    while None in expected:
        receives[expected.index(None)] = MPI.ANY_TAG
        expected = model(messages, receives)
    into = [np.zeros(30_000, np.uint8) for _ in receives]
    froms = [MPI.ANY_SOURCE if any_source and choose.random() < 0.5 else source for _ in receives]

    def post():
        return [comm.Irecv(*item) for item in zip(into, froms, receives, strict=True)]

    if posted:
        requests = post()
        quiet_barrier()
    sends = [
        comm.Isend(numbered(index, 30_000 if index % 7 == 0 else 8), dest, tag)
        for index, tag in enumerate(messages)
    ]
    if not posted:
        requests = post()
    statuses = [MPI.Status() for _ in requests]
    MPI.Request.Waitall(requests, statuses)
    assert [number_of(array) for array in into] == expected
    assert [status.tag for status in statuses] == [messages[index] for index in expected]
    assert {status.source for status in statuses} == {source}
    MPI.Request.Waitall(sends)


def test_a_receive_takes_only_its_own_tag(comm):
    dest, source = ring_of(comm)
    tags = list(range(50))
    sends = [comm.Isend(numbered(tag), dest, tag) for tag in tags]
    random.Random(1).shuffle(tags)
    into = np.zeros(8, np.uint8)
    for tag in tags:
        comm.Recv(into, source, tag)
        assert number_of(into) == tag
    MPI.Request.Waitall(sends)


def test_any_source_takes_each_message_of_all_ranks_once(comm):
    each = 50
    sends = [
        comm.Isend(numbered(comm.rank * 1000 + turn), dest, 5)
        for turn in range(each)
        for dest in range(comm.size)
    ]
    next_turn = dict.fromkeys(range(comm.size), 0)
    into, status = np.zeros(8, np.uint8), MPI.Status()
    for _ in range(each * comm.size):
        comm.Recv(into, MPI.ANY_SOURCE, 5, status)
        rank, turn = divmod(number_of(into), 1000)
        assert rank == status.source
        assert turn == next_turn[rank], "messages of one source overtook each other"
        next_turn[rank] += 1
    assert set(next_turn.values()) == {each}
    MPI.Request.Waitall(sends)


def test_a_receive_of_one_source_leaves_the_others_messages(comm):
    sends = [comm.Isend(numbered(comm.rank), dest, 5) for dest in range(comm.size)]
    into = np.zeros(8, np.uint8)
    for source in reversed(range(comm.size)):
        comm.Recv(into, source, 5)
        assert number_of(into) == source
    MPI.Request.Waitall(sends)


def test_the_earliest_posted_of_a_wildcard_and_an_exact_receive_wins(comm):
    dest, source = ring_of(comm)
    into = [np.zeros(8, np.uint8) for _ in range(4)]
    receives = [
        comm.Irecv(into[0], MPI.ANY_SOURCE, MPI.ANY_TAG),
        comm.Irecv(into[1], source, 1),
        comm.Irecv(into[2], MPI.ANY_SOURCE, 1),
        comm.Irecv(into[3], source, MPI.ANY_TAG),
    ]
    quiet_barrier()
    sends = [comm.Isend(numbered(index), dest, 1) for index in range(4)]
    MPI.Request.Waitall(receives + sends)
    assert [number_of(array) for array in into] == [0, 1, 2, 3]


def test_the_largest_and_smallest_tags_match_exactly(comm):
    dest, source = ring_of(comm)
    upper = comm.Get_attr(MPI.TAG_UB)
    assert upper >= 32767
    sends = [comm.Isend(numbered(tag), dest, tag) for tag in (0, upper, upper - 1)]
    into = np.zeros(8, np.uint8)
    for tag in (upper - 1, upper, 0):
        comm.Recv(into, source, tag)
        assert number_of(into) == tag
    MPI.Request.Waitall(sends)


def test_ten_thousand_posted_receives_each_get_their_own_message(comm):
    dest, source = ring_of(comm)
    count = 10_000
    into = np.zeros((count, 8), np.uint8)
    receives = [comm.Irecv(into[tag], source, tag) for tag in range(count)]
    quiet_barrier()
    order = np.random.default_rng(comm.rank).permutation(count)
    sends = [comm.Isend(numbered(int(tag)), dest, int(tag)) for tag in order]
    MPI.Request.Waitall(receives)
    MPI.Request.Waitall(sends)
    assert np.array_equal(into.view(np.int64)[:, 0], np.arange(count))


def test_a_self_message_does_not_disturb_those_of_others(comm):
    dest, source = ring_of(comm)
    own = comm.Isend(pattern(100, 1), comm.rank, 1)
    other = comm.Isend(pattern(100, 2), dest, 2)
    into = np.zeros(100, np.uint8)
    comm.Recv(into, source, 2)
    assert is_pattern(into, 2)
    comm.Recv(into, comm.rank, 1)
    assert is_pattern(into, 1)
    MPI.Request.Waitall([own, other])


class Four:
    def __int__(self):
        return 4


@pytest.mark.parametrize("four", [4.0, 4.9, np.float64(4), np.int8(4), Decimal("4.5"), Four()])
def test_ranks_and_tags_are_what_int_makes_of_them(comm, four):
    dest, source = (float(rank) for rank in ring_of(comm))
    array, into = np.arange(3.0), np.zeros(3)

    for receive in (
        lambda: comm.Recv(into, source, four),
        lambda: comm.Irecv(into, source, four).Wait(),
        lambda: comm.Sendrecv(array, dest, 5, into, source, four) or comm.Recv(into, source, 5),
        lambda: comm.Probe(source, four) and comm.Recv(into, source, 4),
        lambda: wait_until(lambda: comm.Iprobe(source, four)) or comm.Recv(into, source, 4),
        lambda: comm.Mprobe(source, four).Recv(into),
    ):
        into[:] = 0
        request = comm.Isend(array, dest, four)
        receive()
        request.Wait()
        assert np.array_equal(into, array)
    for receive in (
        lambda: comm.recv(None, source, four),
        lambda: comm.irecv(None, source, four).wait(),
        lambda: comm.mprobe(source, four).recv(),
        lambda: comm.sendrecv(1, dest, four, None, source, four),
    ):
        request = comm.isend([4], dest, four)
        assert receive() == [4]
        request.wait()
    assert comm.recv(None, source, four) == 1
    for start in (comm.Send_init, comm.Ssend_init):
        send, receive = start(array, dest, four), comm.Recv_init(into, source, four)
        MPI.Prequest.Startall([send, receive])
        MPI.Request.Waitall([send, receive])
        send.Free()
        receive.Free()
    comm.send(1, float(MPI.PROC_NULL), four)
    assert comm.recv(None, float(MPI.PROC_NULL), four) is None


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), ValueError),
        (float("inf"), OverflowError),
        (1e300, OverflowError),
        (2**40, OverflowError),
        ("4", TypeError),
        (4j, TypeError),
        (None, TypeError),
    ],
)
def test_what_int_makes_nothing_of_is_no_rank_or_tag(comm, value, error):
    for call in (
        lambda: comm.Send(bytes(1), comm.rank, value),
        lambda: comm.Send(bytes(1), value, 1),
        lambda: comm.Irecv(bytearray(1), comm.rank, value),
        lambda: comm.isend(1, value, 1),
        lambda: comm.send(1, comm.rank, value),
        lambda: comm.recv(None, comm.rank, value),
        lambda: comm.irecv(None, value),
        lambda: comm.sendrecv(1, comm.rank, value),
        lambda: comm.Iprobe(value),
        lambda: comm.improbe(comm.rank, value),
    ):
        with pytest.raises(error):
            call()
