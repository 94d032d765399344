"""Every communicator made from ours is accelerated and has a context of its own."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from payload import is_pattern, pattern
from subject import MPI, library, quiet_barrier, ring_of

from mooncake_mpi import _native


def split_by_parity(comm):
    return comm.Split(comm.rank % 2, -comm.rank)


def idup(comm):
    duplicate, request = comm.Idup()
    request.Wait()
    return duplicate


def idup_with_info(comm):
    duplicate, request = comm.Idup_with_info(MPI.INFO_NULL)
    request.Wait()
    return duplicate


def row_of_grid(comm):
    grid = comm.Create_cart([comm.size, 1], [True, False])
    row = grid.Sub([True, False])
    grid.Free()
    return row


def graph(comm):
    degrees = list(range(1, comm.size + 1))
    return comm.Create_graph(degrees, [(rank + 1) % comm.size for rank in range(comm.size)])


CHILDREN = {
    "Dup": lambda comm: comm.Dup(),
    "Clone": lambda comm: comm.Clone(),
    "Dup_with_info": lambda comm: comm.Dup_with_info(MPI.INFO_NULL),
    "Idup": idup,
    "Idup_with_info": idup_with_info,
    "Split": split_by_parity,
    "Split_type": lambda comm: comm.Split_type(MPI.COMM_TYPE_SHARED),
    "Create": lambda comm: comm.Create(comm.Get_group()),
    "Create_group": lambda comm: comm.Create_group(comm.Get_group(), 5),
    "Create_cart": lambda comm: comm.Create_cart([comm.size], [True]),
    "Cartcomm.Sub": row_of_grid,
    "Create_graph": graph,
    "Create_dist_graph_adjacent": lambda comm: comm.Create_dist_graph_adjacent(
        [ring_of(comm)[1]], [ring_of(comm)[0]]
    ),
    "Create_dist_graph": lambda comm: comm.Create_dist_graph([comm.rank], [1], [ring_of(comm)[0]]),
}


@pytest.mark.parametrize("name", CHILDREN)
def test_what_one_rank_cannot_make_is_told_to_every_rank(comm, name, monkeypatch):
    class Refusing(_native.Communicator):
        def __init__(self, *_):
            raise MemoryError("none left")

    refusing, parent = comm.size - 1, comm.Dup()
    with monkeypatch.context() as patch:
        if comm.rank == refusing:
            patch.setattr(_native.Communicator, "make_spares", Refusing)
            patch.setattr(_native, "Communicator", Refusing)
        with pytest.raises(MPI.Exception, match=f"rank {refusing}: MemoryError: none left"):
            CHILDREN[name](parent)
    child = CHILDREN[name](parent)
    dest, source = ring_of(child)
    assert child.sendrecv(child.rank, dest, source=source) == source
    child.Free()
    parent.Free()


def test_many_duplicates_have_a_space_each(comm):
    dest, source = ring_of(comm)
    parent = comm.Dup()
    for _ in range(3):
        made = [parent.Dup() if i % 3 else parent.Clone() for i in range(25)]
        requests = [child.isend((i, comm.rank), dest, 1) for i, child in enumerate(made)]
        for i, child in reversed([*enumerate(made)]):
            assert child.recv(None, source, 1) == (i, source)
            child.Free()
        MPI.Request.waitall(requests)
    last = parent.Dup()
    parent.Free()  # with what is kept for later duplicates
    assert last.sendrecv(comm.rank, dest, source=source) == source
    last.Free()


def test_a_duplicate_that_one_rank_did_not_begin_is_made_by_its_next_call(comm):
    parent = comm.Dup()
    dest, source = ring_of(parent)
    for turn in range(20):
        if comm.rank == turn % comm.size:
            with pytest.raises(TypeError):
                parent.Dup_with_info("hints")
        child = parent.Dup()
        assert child.sendrecv((turn, child.rank), dest, source=source) == (turn, source)
        child.Free()
    parent.Free()


@pytest.mark.parametrize("name", CHILDREN)
def test_messages_of_parent_and_child_never_mix(comm, name):
    child = CHILDREN[name](comm)
    dest, source = ring_of(comm)
    child_dest, child_source = ring_of(child)
    into = {key: np.zeros(200, np.uint8) for key in ("comm", "child", "object")}
    receive = child.Irecv(into["child"], MPI.ANY_SOURCE, MPI.ANY_TAG)
    quiet_barrier()
    first = comm.Isend(pattern(200, 1), dest, 3)
    second = child.Isend(pattern(200, 2), child_dest, 3)
    status = MPI.Status()
    receive.Wait(status)
    assert status.source == child_source
    assert is_pattern(into["child"], 2)
    comm.Recv(into["comm"], MPI.ANY_SOURCE, MPI.ANY_TAG)
    assert is_pattern(into["comm"], 1)
    MPI.Request.Waitall([first, second])
    request = child.isend(("child", child.rank), child_dest)
    assert child.recv(source=child_source) == ("child", child_source)
    request.wait()
    child.Free()
    assert child == MPI.COMM_NULL


@pytest.mark.ours
@pytest.mark.parametrize("name", CHILDREN)
def test_every_kind_of_child_is_accelerated_and_keeps_its_mpi_class(comm, name):
    child = CHILDREN[name](comm)
    plain = CHILDREN[name](library.COMM_WORLD)
    assert isinstance(child, type(plain))
    request = child.Irecv(bytearray(1), MPI.PROC_NULL)
    assert isinstance(request, MPI.Request)
    assert not isinstance(request, library.Request) or type(request) is not library.Request
    request.Wait()
    assert type(child).Send is not library.Comm.Send
    child.Free()
    plain.Free()


def test_ranks_of_a_split_are_its_own(comm):
    child = split_by_parity(comm)
    members = [rank for rank in reversed(range(comm.size)) if rank % 2 == comm.rank % 2]
    sends = [child.Isend(np.full(1, comm.rank), dest, 1) for dest in range(child.size)]
    into, status = np.zeros(1, np.int64), MPI.Status()
    for source in range(child.size):
        child.Recv(into, source, 1, status)
        assert into[0] == members[source]
        assert status.source == source
    MPI.Request.Waitall(sends)
    child.Free()


def test_ranks_left_out_get_the_null_communicator(comm):
    color = 0 if comm.rank == 0 else MPI.UNDEFINED
    child = comm.Split(color, 0)
    if comm.rank == 0:
        assert child.size == 1
        request = child.isend("alone", 0)
        assert child.recv() == "alone"
        request.wait()
        child.Free()
    else:
        assert child == MPI.COMM_NULL
    group = comm.Get_group().Incl([0])
    child = comm.Create(group)
    assert (child == MPI.COMM_NULL) == (comm.rank != 0)
    if comm.rank == 0:
        child.Free()
        child = comm.Create_group(group, 1)
        assert child.size == 1
        child.Free()


def test_many_communicators_at_once_each_get_their_own_messages(comm):
    dest, source = ring_of(comm)
    children = [comm.Dup() for _ in range(12)]
    into = [np.zeros(40, np.uint8) for _ in children]
    receives = [child.Irecv(into[i], MPI.ANY_SOURCE, 1) for i, child in enumerate(children)]
    order = list(enumerate(children))
    sends = [child.Isend(pattern(40, index), dest, 1) for index, child in reversed(order)]
    MPI.Request.Waitall(receives + sends)
    for index, array in enumerate(into):
        assert is_pattern(array, index)
    for child in children:
        child.Free()


def test_communicators_are_made_and_freed_hundreds_of_times(comm):
    dest, source = ring_of(comm)
    for turn in range(150):
        child = comm.Dup()
        request = child.Isend(np.full(1, turn), dest, 1)
        into = np.zeros(1, np.int64)
        child.Recv(into, source, 1)
        request.Wait()
        assert into[0] == turn
        child.Free()


@pytest.mark.ours
def test_a_message_left_in_a_freed_communicator_does_not_appear_in_the_next(comm):
    dest, source = ring_of(comm)
    child = comm.Dup()
    request = child.Isend(pattern(16, 1), dest, 1)
    request.Wait()
    quiet_barrier()
    child.Free()
    following = comm.Dup()
    assert following.Iprobe() is False
    quiet_barrier()
    request = following.Isend(pattern(16, 2), dest, 1)
    into = np.zeros(16, np.uint8)
    following.Recv(into, source, 1)
    assert is_pattern(into, 2)
    request.Wait()
    following.Free()


def test_a_pending_receive_survives_while_other_communicators_come_and_go(comm):
    dest, source = ring_of(comm)
    into = np.zeros(500_000, np.uint8)
    receive = comm.Irecv(into, source, 1)
    for _ in range(5):
        comm.Dup().Free()
    gc.collect()
    send = comm.Isend(pattern(into.size, 7), dest, 1)
    MPI.Request.Waitall([receive, send])
    assert is_pattern(into, 7)


@pytest.mark.ours
def test_wrapping_the_same_communicator_twice_gives_the_same_context(comm):
    from mooncake_mpi import Intracomm

    plain = library.COMM_WORLD.Dup()
    first, second = Intracomm(plain), Intracomm(plain)
    dest, source = ring_of(comm)
    into = np.zeros(100, np.uint8)
    send = first.Isend(pattern(100, 1), dest, 1)
    second.Recv(into, source, 1)
    send.Wait()
    assert is_pattern(into, 1)
    del first
    gc.collect()
    send = second.Isend(pattern(100, 2), dest, 1)
    second.Recv(into, source, 1)
    send.Wait()
    assert is_pattern(into, 2)
    plain.Free()


@pytest.mark.ours
def test_a_wrapped_communicator_does_not_see_the_librarys_messages(comm):
    from mooncake_mpi import Intracomm

    plain = library.COMM_WORLD.Dup()
    wrapped = Intracomm(plain)
    dest, source = ring_of(comm)
    into = np.zeros(8, np.uint8)
    theirs = plain.Isend(pattern(8, 1), dest, 1)
    ours = wrapped.Isend(pattern(8, 2), dest, 1)
    wrapped.Recv(into, source, 1)
    assert is_pattern(into, 2)
    plain.Recv(into, source, 1)
    assert is_pattern(into, 1)
    theirs.Wait()
    ours.Wait()
    plain.Free()


@pytest.mark.ours
def test_a_subclass_that_overrides_a_method_wins(comm):
    from mooncake_mpi import Intracomm

    class Counting(Intracomm):
        sends = 0

        def Send(self, buf, dest, tag=0):
            Counting.sends += 1
            super().Send(buf, dest, tag)

    plain = library.COMM_WORLD.Dup()
    counting = Counting(plain)
    dest, source = ring_of(comm)
    into = np.zeros(8, np.uint8)
    receive = counting.Irecv(into, source, 1)
    counting.Send(pattern(8, 1), dest, 1)
    receive.Wait()
    assert is_pattern(into, 1)
    assert Counting.sends == 1
    plain.Free()


def test_collectives_still_work_between_messages(comm):
    dest, source = ring_of(comm)
    for turn in range(5):
        request = comm.Isend(np.full(4, turn), dest, 1)
        assert comm.allreduce(comm.rank) == comm.size * (comm.size - 1) // 2
        into = np.zeros(4, np.int64)
        comm.Recv(into, source, 1)
        comm.Barrier()
        assert comm.bcast(turn, root=0) == turn
        request.Wait()
        assert (into == turn).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cartesian_shift_moves_the_border(comm, reverse):
    grid = comm.Create_cart([comm.size], periods=[False])
    source, dest = grid.Shift(0, -1 if reverse else 1)
    into = np.full(10, 99)
    grid.Sendrecv(np.full(10, grid.rank), dest, 0, into, source, 0)
    assert (into == (99 if source == MPI.PROC_NULL else source)).all()
    grid.Free()


@pytest.mark.mpi(min_size=2)
def test_an_intercommunicator_is_refused(comm):
    world = library.COMM_WORLD
    half = world.Split(comm.rank % 2)
    inter = half.Create_intercomm(0, world, 1 - comm.rank % 2)
    with pytest.raises(TypeError, match="intracommunicator"):
        MPI.Intracomm(inter)
    inter.Free()
    half.Free()


@pytest.mark.ours
@pytest.mark.parametrize("name", ["Is_revoked", "Revoke", "Get_failed", "Ack_failed"])
def test_what_asks_a_freed_communicator_for_failures_is_an_err_comm(comm, name):
    duplicate = comm.Dup()
    duplicate.Free()
    with pytest.raises(MPI.Exception) as raised:
        getattr(duplicate, name)()
    assert raised.value.Get_error_class() == MPI.ERR_COMM
