"""Partitioned sends and receives: parts become ready in any order, in different counts on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from subject import MPI, quiet_barrier, ring_of, wait_until

TOTAL = 240  # elements of each message, divisible by all partition counts


def start_both(send, receive):
    receive.Start()
    send.Start()


@pytest.mark.parametrize("partitions", [1, 2, 8])
def test_partitions_made_ready_out_of_order_arrive_whole_each_time(comm, partitions):
    dest, source = ring_of(comm)
    out, into = np.zeros(TOTAL, np.int64), np.zeros(TOTAL, np.int64)
    each = TOTAL // partitions
    send = comm.Psend_init(out, partitions, dest, 1)
    receive = comm.Precv_init(into, partitions, source, 1)
    for turn in range(4):
        into[:] = -1
        start_both(send, receive)
        for part in reversed(range(partitions)):
            out[part * each : (part + 1) * each] = np.arange(each) + part * 1000 + turn * 10_000
            send.Pready(part)
        MPI.Request.Waitall([send, receive])
        expected = np.arange(TOTAL) % each + np.arange(TOTAL) // each * 1000 + turn * 10_000
        assert np.array_equal(into, expected)
        assert send != MPI.REQUEST_NULL
        assert receive != MPI.REQUEST_NULL
    send.Free()
    receive.Free()
    assert send == MPI.REQUEST_NULL


@pytest.mark.broken_in("Open MPI")  # hangs
@pytest.mark.parametrize(("sending", "receiving"), [(8, 2), (2, 8), (3, 5), (1, 12), (12, 1)])
@pytest.mark.parametrize("factor", [1, 2000])
def test_both_sides_may_have_different_partition_counts(comm, sending, receiving, factor):
    dest, source = ring_of(comm)
    total = TOTAL * factor
    out = np.arange(total) + comm.rank
    into = np.zeros(total, np.int64)
    send = comm.Psend_init([out, total // sending, MPI.INT64_T], sending, dest, 1)
    receive = comm.Precv_init([into, total // receiving, MPI.INT64_T], receiving, source, 1)
    for turn in range(3):
        into[:] = -1
        out += turn
        start_both(send, receive)
        for part in range(sending):
            send.Pready((part * 5 + turn) % sending)
        MPI.Request.Waitall([send, receive])
        assert np.array_equal(into, np.arange(total) + source + turn * (turn + 1) // 2)
    send.Free()
    receive.Free()


def test_parrived_tells_of_each_partition_and_not_before_it_is_ready(comm):
    dest, source = ring_of(comm)
    out, into = np.arange(TOTAL), np.zeros(TOTAL, np.int64)
    send = comm.Psend_init(out, 4, dest, 1)
    receive = comm.Precv_init(into, 4, source, 1)
    for _ in range(2):
        into[:] = 0
        start_both(send, receive)
        assert not any(receive.Parrived(part) for part in range(4))
        quiet_barrier()
        for part in (2, 0, 3):
            send.Pready(part)
        quiet_barrier()
        assert not receive.Parrived(1)
        quiet_barrier()
        send.Pready(1)
        for part in range(4):
            wait_until(lambda part=part: receive.Parrived(part))
            first = part * TOTAL // 4
            assert np.array_equal(into[first : first + TOTAL // 4], out[first : first + TOTAL // 4])
        MPI.Request.Waitall([send, receive])
    send.Free()
    receive.Free()


@pytest.mark.ours
def test_an_early_partition_can_be_read_while_others_are_not_ready(comm):
    dest, source = ring_of(comm)
    out, into = np.arange(TOTAL), np.zeros(TOTAL, np.int64)
    send = comm.Psend_init(out, 8, dest, 1)
    receive = comm.Precv_init([into, TOTAL // 4, MPI.INT64_T], 4, source, 1)
    start_both(send, receive)
    send.Pready_range(2, 3)
    wait_until(lambda: receive.Parrived(1))
    assert np.array_equal(into[60:120], out[60:120])
    assert not receive.Parrived(0)
    quiet_barrier()
    send.Pready_list([0, 1, 4, 5, 6, 7])
    MPI.Request.Waitall([send, receive])
    assert np.array_equal(into, out)
    send.Free()
    receive.Free()


def test_ranges_and_lists_make_many_partitions_ready(comm):
    dest, source = ring_of(comm)
    out, into = np.arange(TOTAL), np.zeros(TOTAL, np.int64)
    send = comm.Psend_init(out, 8, dest, 1)
    receive = comm.Precv_init(into, 8, source, 1)
    start_both(send, receive)
    send.Pready_range(2, 5)
    send.Pready_list([7, 0, 6, 1])
    MPI.Request.Waitall([send, receive])
    assert np.array_equal(into, out)
    send.Free()
    receive.Free()


@pytest.mark.broken_in("Open MPI")  # hangs
def test_two_partitioned_messages_of_one_tag_match_in_order_of_their_init(comm):
    dest, source = ring_of(comm)
    out = [np.full(TOTAL, value) for value in (1, 2)]
    into = [np.zeros(TOTAL, np.int64) for _ in range(2)]
    sends = [comm.Psend_init(array, 3, dest, 4) for array in out]
    receives = [comm.Precv_init(array, 3, source, 4) for array in into]
    MPI.Prequest.Startall(receives + sends)
    for part in range(3):
        sends[1].Pready(part)
        sends[0].Pready(part)
    MPI.Request.Waitall(receives + sends)
    assert [int(array[0]) for array in into] == [1, 2]
    assert [int(array[-1]) for array in into] == [1, 2]
    for request in receives + sends:
        request.Free()


@pytest.mark.ours
def test_partitioned_messages_do_not_match_ordinary_ones(comm):
    dest, source = ring_of(comm)
    out, into, plain = np.arange(TOTAL), np.zeros(TOTAL, np.int64), np.zeros(1, np.int64)
    send = comm.Psend_init(out, 2, dest, 1)
    receive = comm.Precv_init(into, 2, source, 1)
    start_both(send, receive)
    send.Pready_range(0, 1)
    ordinary = comm.Isend(np.full(1, 77), dest, 1)
    comm.Recv(plain, source, 1)
    assert plain[0] == 77
    MPI.Request.Waitall([send, receive, ordinary])
    assert np.array_equal(into, out)
    send.Free()
    receive.Free()


@pytest.mark.ours
def test_a_partition_number_out_of_range_is_an_argument_error(comm):
    dest, source = ring_of(comm)
    out, into = np.arange(TOTAL), np.zeros(TOTAL, np.int64)
    send = comm.Psend_init(out, 4, dest, 1)
    receive = comm.Precv_init(into, 4, source, 1)
    start_both(send, receive)
    for partition in (-1, 4):
        with pytest.raises(MPI.Exception) as raised:
            send.Pready(partition)
        assert raised.value.Get_error_class() == MPI.ERR_ARG
    send.Pready_range(0, 3)
    MPI.Request.Waitall([send, receive])
    assert np.array_equal(into, out)
    send.Free()
    receive.Free()


@pytest.mark.broken_in("MPICH")  # a segmentation fault
def test_to_process_null_partitions_complete(comm):
    send = comm.Psend_init(np.zeros(4), 2, MPI.PROC_NULL, 1)
    receive = comm.Precv_init(np.zeros(4), 2, MPI.PROC_NULL, 1)
    start_both(send, receive)
    send.Pready_range(0, 1)
    MPI.Request.Waitall([send, receive])
    send.Free()
    receive.Free()


@pytest.mark.ours
def test_a_receive_that_was_freed_before_its_start_leaves_the_sender_to_the_next(comm):
    dest, source = ring_of(comm)
    into = np.zeros(4)
    comm.Precv_init(np.zeros(4), 2, source, 5).Free()
    taken = comm.Precv_init(np.zeros(4), 2, source, 5)
    send = comm.Psend_init(np.arange(4.0), 4, dest, 5)  # so much for one partition: 1 of each
    quiet_barrier()
    comm.Iprobe()
    taken.Free()
    receive = comm.Precv_init(into, 2, source, 5)
    small = comm.Precv_init(np.zeros(4), 2, source, 6)
    del small
    send.Free()
    send = comm.Psend_init([np.arange(4.0), 1, MPI.DOUBLE], 4, dest, 5)
    receive.Free()
    receive = comm.Precv_init([into, 2, MPI.DOUBLE], 2, source, 5)
    start_both(send, receive)
    send.Pready_range(0, 3)
    MPI.Request.Waitall([send, receive])
    assert into.tolist() == [0, 1, 2, 3]
    send.Free()
    receive.Free()


@pytest.mark.ours
def test_a_send_that_was_freed_before_its_start_leaves_the_receive_to_the_next(comm):
    dest, source = ring_of(comm)
    into = np.zeros(4)
    receive = comm.Precv_init([into, 2, MPI.DOUBLE], 2, source, 5)
    comm.Psend_init([np.full(4, -1.0), 1, MPI.DOUBLE], 4, dest, 5).Free()
    quiet_barrier()
    receive.Start()
    assert not receive.Parrived(0)
    quiet_barrier()
    send = comm.Psend_init([np.arange(4.0), 1, MPI.DOUBLE], 4, dest, 5)
    send.Start()
    send.Pready_range(0, 3)
    MPI.Request.Waitall([send, receive])
    assert into.tolist() == [0, 1, 2, 3]
    send.Free()
    receive.Free()


@pytest.mark.ours
def test_a_started_partitioned_receive_that_is_freed_completes_without_its_request(comm):
    dest, source = ring_of(comm)
    into = np.zeros(8)
    datatype = MPI.DOUBLE.Create_vector(2, 1, 2).Commit()
    receive = comm.Precv_init([into, 1, datatype], 2, source, 5)
    datatype.Free()
    receive.Start()
    receive.Free()
    send = comm.Psend_init([np.arange(1.0, 5.0), 1, MPI.DOUBLE], 4, dest, 5)
    send.Start()
    send.Pready_range(0, 3)
    send.Wait()
    wait_until(lambda: (comm.Iprobe(), into.any())[1])
    assert into[[0, 2, 3, 5]].tolist() == [1, 2, 3, 4]
    send.Free()


def test_numbers_of_partitions_are_what_int_makes_of_them(comm):
    dest, source = (float(rank) for rank in ring_of(comm))
    into = np.zeros(4)
    receive = comm.Precv_init(into, 4.5, source, 5.9)
    send = comm.Psend_init(np.arange(1.0, 5.0), 4.0, dest, 5.0)
    start_both(send, receive)
    send.Pready(0.0)
    wait_until(lambda: receive.Parrived(0.9))
    send.Pready_range(1.0, 3.5)
    MPI.Request.Waitall([send, receive])
    assert into.tolist() == [1, 2, 3, 4]
    send.Free()
    receive.Free()
