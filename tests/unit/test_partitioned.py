"""Partitioned messages between a process and itself."""

from __future__ import annotations

import time
from threading import Thread

import numpy as np
import pytest

from mooncake_mpi import MPI


@pytest.fixture
def comm():
    comm = MPI.COMM_SELF.Dup()
    yield comm
    comm.Free()


def error_class(call, *args):
    with pytest.raises(MPI.Exception) as caught:
        call(*args)
    return caught.value.Get_error_class()


@pytest.mark.parametrize(("theirs", "ours"), [(1, 1), (4, 4), (6, 2), (2, 6), (4, 6), (1, 12)])
@pytest.mark.parametrize("unit", [0, 1, 50_000])
def test_a_partition_arrives_when_all_of_it_was_sent(comm, theirs, ours, unit):
    size = 12 * unit
    data = np.arange(float(size))
    into = np.zeros(size)
    receive = comm.Precv_init(into, ours, 0, 3)
    send = comm.Psend_init(data, theirs, 0, 3)
    for turn in range(3):
        data += turn
        receive.Start()
        send.Start()
        for ready in range(theirs):
            for partition in range(ours):
                whole = (partition + 1) * theirs <= ready * ours
                if whole:
                    while not receive.Parrived(partition):
                        pass
                    part = slice(partition * size // ours, (partition + 1) * size // ours)
                    assert (into[part] == data[part]).all()
                else:
                    assert not receive.Parrived(partition)
            send.Pready(ready)
        status = MPI.Status()
        assert receive.Wait(status) is True
        assert send.Wait() is True
        assert (into == data).all()
        assert (status.source, status.tag, status.count) == (0, 3, data.nbytes)
    send.Free()
    receive.Free()
    assert send == receive == MPI.REQUEST_NULL


def test_requests_match_in_the_order_of_their_calls_and_no_other_messages(comm):
    data = [np.full(4, value) for value in (1, 2)]
    into = [np.zeros(4, int) for _ in range(3)]
    ordinary = comm.Irecv(into[2])
    sends = [comm.Psend_init(array, 2, 0, 0) for array in data]
    receives = [comm.Precv_init(array, 2, 0, 0) for array in into[:2]]
    MPI.Prequest.Startall([*receives, *sends])
    sends[1].Pready_range(0, 1)
    sends[0].Pready_list([1, 0])
    MPI.Request.Waitall([*receives, *sends])
    assert [array.tolist() for array in into] == [[1] * 4, [2] * 4, [0] * 4]
    assert not ordinary.Test()
    comm.Send(np.full(4, 7), 0)
    ordinary.Wait()
    assert into[2].tolist() == [7] * 4


def test_a_sender_that_waits_does_not_need_the_receiver_to_look(comm):
    data = np.arange(1_000_000.0)
    into = np.zeros_like(data)
    receive = comm.Precv_init(into, 2, 0, 1)
    receive.Start()  # before the sender exists
    send = comm.Psend_init(data, 4, 0, 1)
    send.Start()
    send.Pready_range(0, 3)
    send.Wait()
    receive.Wait()
    assert (into == data).all()


def test_scattered_elements_are_packed_by_partition(comm):
    column = MPI.INT.Create_vector(3, 1, 2).Create_resized(0, 24).Commit()
    data = np.arange(24, dtype="i")
    into = np.full(24, -1, "i")
    send = comm.Psend_init([data, 1, column], 4, 0)
    receive = comm.Precv_init([into, 2, column], 2, 0, 0)
    column.Free()
    receive.Start()
    send.Start()
    send.Pready_list([2, 3])
    while not receive.Parrived(1):
        pass
    assert (into[:12] == -1).all()
    assert (into[12::2] == data[12::2]).all()
    assert (into[13::2] == -1).all()
    send.Pready_range(0, 1)
    receive.Wait()
    send.Wait()
    assert (into[::2] == data[::2]).all()


def test_several_threads_make_partitions_ready(comm):
    data = np.arange(64_000.0)
    into = np.zeros_like(data)
    send = comm.Psend_init(data, 64, 0)
    receive = comm.Precv_init(into, 64, 0, 0)
    receive.Start()
    send.Start()
    threads = [
        Thread(target=lambda first=first: send.Pready_list(range(first, 64, 4)))
        for first in range(4)
    ]
    for thread in threads:
        thread.start()
    receive.Wait()
    send.Wait()
    for thread in threads:
        thread.join()
    assert (into == data).all()


def test_a_message_longer_than_its_receive_is_an_err_truncate(comm):
    send = comm.Psend_init(np.zeros(8), 2, 0)
    receive = comm.Precv_init(np.zeros(4), 2, 0, 0)
    receive.Start()
    send.Start()
    send.Pready_range(0, 1)
    assert error_class(receive.Wait) == MPI.ERR_TRUNCATE
    send.Wait()


def test_a_shorter_message_leaves_the_rest_untouched(comm):
    into = np.full(8, -1.0)
    send = comm.Psend_init(np.zeros(4), 2, 0)
    receive = comm.Precv_init(into, 4, 0, 0)
    receive.Start()
    send.Start()
    send.Pready_range(0, 1)
    status = MPI.Status()
    receive.Wait(status)
    send.Wait()
    assert into.tolist() == [0] * 4 + [-1] * 4
    assert status.count == 32


def test_proc_null_is_complete_at_once(comm):
    send = comm.Psend_init(np.zeros(4), 2, MPI.PROC_NULL)
    receive = comm.Precv_init(np.zeros(4), 2, MPI.PROC_NULL, 0)
    send.Start()
    receive.Start()
    send.Pready(0)
    status = MPI.Status()
    receive.Wait(status)
    send.Wait()
    assert status.source == MPI.PROC_NULL


def test_wrong_use_is_mpi_s_error(comm):
    send = comm.Psend_init(np.zeros(4), 2, 0, 9)
    receive = comm.Precv_init(np.zeros(4), 2, 0, 9)
    assert error_class(send.Pready, 0) == MPI.ERR_REQUEST
    assert receive.Parrived(0)  # not started: complete
    send.Start()
    assert error_class(send.Start) == MPI.ERR_REQUEST
    assert error_class(send.Pready, 2) == MPI.ERR_ARG
    assert error_class(send.Pready, -1) == MPI.ERR_ARG
    assert error_class(send.Pready_range, 1, 0) == MPI.ERR_ARG
    send.Pready(0)
    assert error_class(send.Pready, 0) == MPI.ERR_ARG
    assert error_class(send.Parrived, 0) == MPI.ERR_REQUEST
    assert error_class(receive.Pready, 0) == MPI.ERR_REQUEST
    assert error_class(receive.Parrived, 2) == MPI.ERR_ARG
    send.Pready(1)
    receive.Start()
    receive.Wait()
    send.Wait()
    send.Free()
    assert error_class(send.Pready, 0) == MPI.ERR_REQUEST
    assert error_class(send.Start) == MPI.ERR_REQUEST


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((-1, 0, 0), MPI.ERR_ARG),
        ((2, 9, 0), MPI.ERR_RANK),
        ((2, 0, -5), MPI.ERR_TAG),
    ],
)
def test_wrong_arguments_are_mpi_s_errors(comm, args, error):
    assert error_class(comm.Psend_init, np.zeros(4), *args) == error
    assert error_class(comm.Precv_init, np.zeros(4), *args) == error


def test_a_wildcard_is_refused(comm):
    assert error_class(comm.Precv_init, np.zeros(4), 2, MPI.ANY_SOURCE, 0) == MPI.ERR_RANK
    assert error_class(comm.Precv_init, np.zeros(4), 2, 0, MPI.ANY_TAG) == MPI.ERR_TAG


def test_a_buffer_that_cannot_be_cut_evenly_is_refused(comm):
    with pytest.raises(ValueError, match="not a multiple"):
        comm.Psend_init(np.zeros(5), 2, 0)


def test_what_a_dropped_receive_costs_does_not_grow_with_their_number(comm):
    def dropped(count, introduced):
        receives = [comm.Precv_init(np.zeros(1), 1, 0, 3) for _ in range(count)]
        sends = [comm.Psend_init(np.zeros(1), 1, 0, 3) for _ in range(count * introduced)]
        comm.Iprobe()
        start = time.perf_counter()
        receives.clear()
        seconds = time.perf_counter() - start
        sends.clear()
        return seconds / count

    for introduced in (False, True):
        few = min(dropped(200, introduced) for _ in range(5))
        assert min(dropped(6000, introduced) for _ in range(2)) < 8 * few


def test_a_receive_that_is_dropped_leaves_those_before_it_what_they_have(comm):
    into = np.zeros((4, 1))
    receives = [comm.Precv_init(each, 1, 0, 3) for each in into]
    sends = [comm.Psend_init(np.full(1, value), 1, 0, 3) for value in (1.0, 2.0, 3.0)]
    comm.Iprobe()
    del receives[1]
    for request in (*receives, *sends):
        request.Start()
    for send in sends:
        send.Pready(0)
    MPI.Request.Waitall([*receives, *sends])
    assert into.ravel().tolist() == [1, 0, 2, 3]


def test_what_memory_did_not_suffice_for_when_it_was_dropped_is_withdrawn_later(comm, capsys):
    into = np.zeros(1)
    receives = [comm.Precv_init(into, 1, 0, 3) for _ in range(3)]
    send = comm.Psend_init(np.ones(1), 1, 0, 3)
    comm.Iprobe()
    leave, tries = receives[0]._driver._withdraw, []

    def fails_once():
        tries.append(None)
        if len(tries) == 1:
            raise MemoryError
        leave()

    receives[0]._driver._withdraw = fails_once
    del receives[0]
    assert len(tries) == 1
    del receives[0]
    assert len(tries) == 2
    for request in (receives[0], send):
        request.Start()
    send.Pready(0)
    MPI.Request.Waitall([receives[0], send])
    assert into[0] == 1
    assert capsys.readouterr().err == ""
