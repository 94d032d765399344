"""Derived datatypes: what is described is moved, and nothing between."""

from __future__ import annotations

import numpy as np
import pytest
from subject import MPI, ring_of, wait_until


@pytest.fixture
def made():
    """Keeps datatypes until the end of the test and frees them then."""
    datatypes = []

    def keep(datatype):
        datatypes.append(datatype)
        return datatype.Commit()

    yield keep
    for datatype in datatypes:
        datatype.Free()


def exchange(comm, sending, receiving):
    dest, source = ring_of(comm)
    status = MPI.Status()
    request = comm.Isend(sending, dest, 1)
    comm.Recv(receiving, source, 1, status)
    request.Wait()
    return status


@pytest.mark.parametrize("rows", [6, 5000, 200_000])
def test_a_vector_column_arrives_in_a_column(comm, made, rows):
    column = made(MPI.INT32_T.Create_vector(rows, 1, 4))
    out = np.arange(rows * 4, dtype=np.int32).reshape(rows, 4)
    into = np.full((rows, 4), -1, np.int32)
    status = exchange(comm, [out, 1, column], [into, 1, column])
    assert np.array_equal(into[:, 0], out[:, 0])
    assert (into[:, 1:] == -1).all()
    assert status.Get_count(column) == 1
    assert status.Get_elements(column) == rows
    assert status.Get_count(MPI.INT32_T) == rows


@pytest.mark.parametrize("rows", [6, 200_000])
def test_a_column_arrives_in_contiguous_memory_and_back(comm, made, rows):
    column = made(MPI.INT32_T.Create_vector(rows, 1, 4))
    out = np.arange(rows * 4, dtype=np.int32).reshape(rows, 4)
    flat = np.zeros(rows, np.int32)
    exchange(comm, [out, 1, column], flat)
    assert np.array_equal(flat, out[:, 0])
    into = np.full((rows, 4), -1, np.int32)
    exchange(comm, flat, [into, 1, column])
    assert np.array_equal(into[:, 0], flat)
    assert (into[:, 1:] == -1).all()


def test_a_later_column_is_reached_through_a_displacement_of_a_resized_type(comm, made):
    column = made(made(MPI.DOUBLE.Create_vector(5, 1, 3)).Create_resized(0, 8))
    out, into = np.arange(15.0).reshape(5, 3), np.zeros((5, 3))
    exchange(comm, [out, (2, 1), column], [into, (2, 0), column])
    assert np.array_equal(into[:, :2], out[:, 1:])
    assert not into[:, 2].any()


def test_indexed_blocks_arrive_in_other_indexed_blocks(comm, made):
    sending = made(MPI.INT64_T.Create_indexed([2, 1, 3], [0, 5, 9]))
    receiving = made(MPI.INT64_T.Create_hindexed([3, 3], [8, 80]))
    out, into = np.arange(16), np.full(16, -1)
    exchange(comm, [out, 1, sending], [into, 1, receiving])
    assert into[1:4].tolist() == [0, 1, 5]
    assert into[10:13].tolist() == [9, 10, 11]
    assert (np.delete(into, [1, 2, 3, 10, 11, 12]) == -1).all()


def test_a_structure_with_holes_keeps_the_receivers_padding(comm, made):
    layout = np.dtype([("kind", "i1"), ("value", "f8"), ("code", "i2")], align=True)
    pieces = MPI.Datatype.Create_struct(
        [1, 1, 1],
        [layout.fields[name][1] for name in layout.names],
        [MPI.INT8_T, MPI.DOUBLE, MPI.INT16_T],
    )
    structure = made(made(pieces).Create_resized(0, layout.itemsize))
    out = np.zeros(50, layout)
    out["kind"], out["value"], out["code"] = 3, np.arange(50) / 7, np.arange(50)
    into = np.frombuffer(bytearray(b"\x77" * out.nbytes), layout)
    exchange(comm, [out, 50, structure], [into, 50, structure])
    for name in layout.names:
        assert np.array_equal(into[name], out[name])
    raw = into.view(np.uint8).reshape(50, layout.itemsize)
    assert (raw[:, 1:8] == 0x77).all()
    assert (raw[:, 18:] == 0x77).all()


def test_a_subarray_arrives_in_a_subarray(comm, made):
    sending = made(MPI.DOUBLE.Create_subarray([6, 8], [3, 4], [1, 2]))
    receiving = made(MPI.DOUBLE.Create_subarray([10, 5], [4, 3], [5, 1]))
    out, into = np.arange(48.0).reshape(6, 8), np.zeros((10, 5))
    exchange(comm, [out, 1, sending], [into, 1, receiving])
    assert np.array_equal(into[5:9, 1:4].ravel(), out[1:4, 2:6].ravel())
    assert np.count_nonzero(into) == 12


def test_a_contiguous_type_travels_like_its_elements(comm, made):
    triple = made(MPI.DOUBLE.Create_contiguous(3))
    out, into = np.arange(30.0), np.zeros(30)
    status = exchange(comm, [out, 10, triple], [into, 10, triple])
    assert np.array_equal(into, out)
    assert status.Get_count(triple) == 10
    status = exchange(comm, [out, 4, MPI.DOUBLE], [into, 10, triple])
    assert status.Get_count(triple) == MPI.UNDEFINED
    assert status.Get_elements(triple) == 4


def test_absolute_addresses_are_used_through_bottom(comm, made):
    first, second = np.arange(5.0) + comm.rank, np.arange(4, dtype=np.int32)
    sending = made(
        MPI.Datatype.Create_struct(
            [5, 4], [MPI.Get_address(first), MPI.Get_address(second)], [MPI.DOUBLE, MPI.INT32_T]
        )
    )
    into_first, into_second = np.zeros(5), np.zeros(4, np.int32)
    receiving = made(
        MPI.Datatype.Create_struct(
            [5, 4],
            [MPI.Get_address(into_first), MPI.Get_address(into_second)],
            [MPI.DOUBLE, MPI.INT32_T],
        )
    )
    exchange(comm, [MPI.BOTTOM, 1, sending], [MPI.BOTTOM, 1, receiving])
    assert np.array_equal(into_first, np.arange(5.0) + (comm.rank - 1) % comm.size)
    assert np.array_equal(into_second, second)


def test_a_short_message_fills_only_the_first_elements_of_a_vector(comm, made):
    column = made(MPI.INT32_T.Create_vector(6, 1, 2))
    into = np.full(12, -1, np.int32)
    status = exchange(comm, np.arange(4, dtype=np.int32), [into, 1, column])
    assert into.tolist() == [0, -1, 1, -1, 2, -1, 3, -1, -1, -1, -1, -1]
    assert status.Get_elements(column) == 4
    assert status.Get_count(column) == MPI.UNDEFINED


def test_a_nonblocking_receive_unpacks_when_it_completes(comm, made):
    dest, source = ring_of(comm)
    column = made(MPI.INT32_T.Create_vector(1000, 2, 5))
    out = np.arange(5000, dtype=np.int32)
    for complete in ("Wait", "Test", "Waitall", "Waitany", "Waitsome", "Testall"):
        into = np.full(5000, -1, np.int32)
        receive = comm.Irecv([into, 1, column], source, 1)
        send = comm.Isend([out, 1, column], dest, 1)
        if complete == "Wait":
            receive.Wait()
        elif complete == "Test":
            wait_until(receive.Test)
        elif complete == "Testall":
            wait_until(lambda receive=receive: MPI.Request.Testall([receive]))
        else:
            getattr(MPI.Request, complete)([receive])
        send.Wait()
        assert np.array_equal(into.reshape(-1, 5)[:, :2], out.reshape(-1, 5)[:, :2])
        assert (into.reshape(-1, 5)[:, 2:] == -1).all()


def test_a_derived_send_copies_what_the_array_held_at_the_call_or_later_before_completion(
    comm, made
):
    dest, source = ring_of(comm)
    column = made(MPI.INT32_T.Create_vector(10, 1, 2))
    out, into = np.zeros(20, np.int32), np.full(20, -1, np.int32)
    for turn in range(5):
        out[:] = turn
        request = comm.Isend([out, 1, column], dest, 1)
        comm.Recv([into, 1, column], source, 1)
        request.Wait()
        assert (into[::2] == turn).all()


def test_matched_messages_take_derived_datatypes(comm, made):
    dest, source = ring_of(comm)
    column = made(MPI.INT32_T.Create_vector(10, 1, 2))
    out, into = np.arange(20, dtype=np.int32), np.full(20, -1, np.int32)
    requests = [comm.Isend([out, 1, column], dest, 1) for _ in range(2)]
    comm.Mprobe(source, 1).Recv([into, 1, column])
    assert np.array_equal(into[::2], out[::2])
    into[:] = -1
    comm.Mprobe(source, 1).Irecv([into, 1, column]).Wait()
    assert np.array_equal(into[::2], out[::2])
    assert (into[1::2] == -1).all()
    MPI.Request.Waitall(requests)


@pytest.mark.broken_in("MPICH")  # the nonblocking one sends garbage
def test_sendrecv_replace_takes_a_derived_datatype(comm, made):
    dest, source = ring_of(comm)
    column = made(MPI.INT64_T.Create_vector(10, 1, 2))
    buffer = np.full(20, comm.rank)
    comm.Sendrecv_replace([buffer, 1, column], dest, 0, source, 0)
    assert (buffer[::2] == source).all()
    assert (buffer[1::2] == comm.rank).all()
    comm.Isendrecv_replace([buffer, 1, column], dest, 0, source, 0).Wait()
    assert (buffer[::2] == (comm.rank - 2) % comm.size).all()


def test_packed_data_travels_and_unpacks(comm):
    dest, source = ring_of(comm)
    out, packed = np.arange(10.0), bytearray(200)
    end = MPI.DOUBLE.Pack(out, packed, 0, comm)
    into = bytearray(200)
    request = comm.Isend([packed, end, MPI.PACKED], dest, 1)
    comm.Recv([into, MPI.PACKED], source, 1)
    request.Wait()
    values = np.zeros(10)
    MPI.DOUBLE.Unpack(into, 0, values, comm)
    assert np.array_equal(values, out)


def test_pair_types_travel(comm):
    out = np.zeros(5, np.dtype([("value", "f8"), ("place", "i4")], align=True))
    out["value"], out["place"] = np.arange(5), np.arange(5)[::-1]
    into = np.zeros_like(out)
    exchange(comm, [out, 5, MPI.DOUBLE_INT], [into, 5, MPI.DOUBLE_INT])
    assert np.array_equal(into["value"], out["value"])
    assert np.array_equal(into["place"], out["place"])
