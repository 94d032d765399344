"""All forms in which mpi4py takes a buffer."""

from __future__ import annotations

import array
import ctypes

import numpy as np
import pytest
from subject import MPI, ring_of


def exchange(comm, sending, receiving):
    """Send to the right with one spec, receive from the left with another."""
    dest, source = ring_of(comm)
    status = MPI.Status()
    request = comm.Isend(sending, dest, 1)
    comm.Recv(receiving, source, 1, status)
    request.Wait()
    return status


SPECS = {
    "buffer": lambda buffer: buffer,
    "[buffer]": lambda buffer: [buffer, None],
    "[buffer, type]": lambda buffer: [buffer, MPI.DOUBLE],
    "[buffer, letter]": lambda buffer: [buffer, "d"],
    "(buffer, type)": lambda buffer: (buffer, MPI.DOUBLE),
    "[buffer, count]": lambda buffer: [buffer, 10],
    "[buffer, count, type]": lambda buffer: [buffer, 10, MPI.DOUBLE],
    "[buffer, None, type]": lambda buffer: [buffer, None, MPI.DOUBLE],
    "[buffer, (count, displ), type]": lambda buffer: [buffer, (10, 0), MPI.DOUBLE],
    "[buffer, (count, None), type]": lambda buffer: [buffer, (10, None), MPI.DOUBLE],
    "[buffer, count, displ, type]": lambda buffer: [buffer, 10, 0, MPI.DOUBLE],
    "[buffer, count, None, type]": lambda buffer: [buffer, 10, None, MPI.DOUBLE],
    "[memory, type]": lambda buffer: [memoryview(buffer), MPI.DOUBLE],
    "[bytes]": lambda buffer: [memoryview(buffer).cast("B"), 80, MPI.BYTE],
}


@pytest.mark.parametrize("sending", SPECS)
def test_every_spec_sends_to_every_other(comm, sending):
    for receiving in SPECS:
        out, into = np.arange(10.0) + comm.rank, np.zeros(10)
        status = exchange(comm, SPECS[sending](out), SPECS[receiving](into))
        assert np.array_equal(into, np.arange(10.0) + (comm.rank - 1) % comm.size), receiving
        assert status.Get_count(MPI.DOUBLE) == 10, receiving


def test_a_displacement_counts_elements_from_the_start(comm):
    out, into = np.arange(20.0), np.zeros(20)
    exchange(comm, [out, 5, 10, MPI.DOUBLE], [into, (5, 2), MPI.DOUBLE])
    assert np.array_equal(into[2:7], np.arange(10.0, 15.0))
    assert not into[:2].any()
    assert not into[7:].any()


def test_a_displacement_without_a_count_takes_the_rest(comm):
    out, into = np.arange(20.0), np.zeros(20)
    status = exchange(comm, [out, (None, 15), MPI.DOUBLE], [into, (None, 4), MPI.DOUBLE])
    assert status.Get_count(MPI.DOUBLE) == 5
    assert np.array_equal(into[4:9], out[15:])


def test_a_smaller_count_sends_only_the_beginning(comm):
    out, into = np.arange(20, dtype=np.int32), np.full(20, -1, np.int32)
    status = exchange(comm, [out, 3], into)
    assert status.Get_count(MPI.INT32_T) == 3
    assert into.tolist() == [0, 1, 2] + [-1] * 17


def test_bytes_like_objects_travel(comm):
    for out in (
        b"bytes!",
        bytearray(b"bytes!"),
        memoryview(b"bytes!"),
        np.frombuffer(b"bytes!", np.uint8),
    ):
        for into in (bytearray(6), np.zeros(6, np.uint8)):
            exchange(comm, out, into)
            assert bytes(into) == b"bytes!"
        into = bytearray(6)
        exchange(comm, out, memoryview(into))
        assert into == b"bytes!"


def test_standard_arrays_and_ctypes_travel(comm):
    for letter in "bBhHiIlLqQfd":
        out = array.array(letter, [1, 2, 3])
        into = array.array(letter, [0, 0, 0])
        exchange(comm, out, into)
        assert into == out
    out = (ctypes.c_double * 4)(1, 2, 3, 4)
    into = (ctypes.c_double * 4)()
    exchange(comm, out, into)
    assert list(into) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "dtype",
    ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "g", "F", "D", "G"],
)
def test_numpy_arrays_of_every_mpi_type_travel_whole(comm, dtype):
    out = np.arange(7).astype(dtype)
    into = np.zeros(7, dtype)
    exchange(comm, out, into)
    assert np.array_equal(into, out)


def test_arrays_of_any_shape_and_c_or_fortran_order_travel(comm):
    for order in "CF":
        out = np.arange(24.0).reshape(2, 3, 4).copy(order=order)
        into = np.zeros((2, 3, 4), order=order)
        exchange(comm, out, into)
        assert np.array_equal(into, out)
    out, into = np.array(3.5), np.array(0.0)
    exchange(comm, out, into)
    assert into == 3.5


def test_a_contiguous_slice_travels_alone(comm):
    out, into = np.arange(100), np.full(100, -1)
    exchange(comm, out[10:20], into[50:60])
    assert np.array_equal(into[50:60], out[10:20])
    assert (into[:50] == -1).all()
    assert (into[60:] == -1).all()


def test_a_read_only_array_can_be_sent(comm):
    out = np.arange(10)
    out.setflags(write=False)
    into = np.zeros(10, int)
    exchange(comm, out, into)
    assert np.array_equal(into, out)


def test_empty_specs_send_nothing(comm):
    empties = [
        None,
        [None, 0, MPI.INT],
        [None, MPI.INT],
        [bytearray(), MPI.BYTE],
        np.empty(0),
        bytearray(),
    ]
    for out in empties[1:]:
        for into in empties[1:]:
            status = exchange(comm, out, into)
            assert status.Get_count(MPI.BYTE) == 0
    buffer = bytearray(b"kept")
    exchange(comm, [None, 0, MPI.BYTE], buffer)
    assert buffer == b"kept"
    exchange(comm, [buffer, 0], [buffer, 0])


def test_memory_from_the_mpi_library_travels(comm):
    out, into = MPI.Alloc_mem(1000), MPI.Alloc_mem(1000)
    np.frombuffer(out, np.uint8)[:] = 7
    np.frombuffer(into, np.uint8)[:] = 0
    exchange(comm, out, into)
    assert (np.frombuffer(into, np.uint8) == 7).all()
    MPI.Free_mem(out)
    MPI.Free_mem(into)


def test_sendrecv_takes_specs_on_both_sides(comm):
    dest, source = ring_of(comm)
    out, into = np.arange(10.0), np.zeros(10)
    comm.Sendrecv([out, 5, MPI.DOUBLE], dest, 0, [into, (5, 5), MPI.DOUBLE], source, 0)
    assert np.array_equal(into[5:], np.arange(5.0))
    comm.Sendrecv_replace([into, (5, 5), MPI.DOUBLE], dest, 0, source, 0)
    assert np.array_equal(into[5:], np.arange(5.0))


class HostTensor:
    """The DLPack protocol alone, on the memory of a NumPy array."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def test_anything_with_dlpack_on_the_host_travels(comm):
    out, into = np.arange(50.0), np.zeros(50)
    exchange(comm, HostTensor(out), HostTensor(into))
    assert np.array_equal(into, out)
    into[:] = 0
    exchange(comm, [HostTensor(out), MPI.DOUBLE], [HostTensor(into), 50, MPI.DOUBLE])
    assert np.array_equal(into, out)


@pytest.mark.parametrize("kind", [MPI.INT32_T, "i"], ids=["datatype", "code"])
def test_a_specification_means_the_same_once_its_datatype_is_known(comm, kind):
    """The engine reads by itself what the package has read once; both refuse the same."""
    data = np.arange(6, dtype="i4")
    forms = [([data, kind], 6), ((data, 4, kind), 4), ([data, 0, kind], 0), ([data, 3], 3)]
    wrong = [[data, -1, kind], [data, 7, kind], [data, 2**62, kind], [data[::2], kind]]
    ragged = np.zeros(7, dtype="i1")
    for _ in range(3):
        for spec, count in forms:
            into = np.full(6, -1, dtype="i4")
            request = comm.Isend(spec, comm.rank)
            comm.Recv([into, kind], comm.rank)
            request.Wait()
            assert into.tolist() == [*range(count), *[-1] * (6 - count)]
        for spec in wrong:
            with pytest.raises((ValueError, BufferError)):
                comm.Isend(spec, comm.rank)
        with pytest.raises(ValueError, match="multiple"):
            comm.Isend([ragged, kind], comm.rank)
        with pytest.raises(BufferError, match="read-only"):
            comm.Irecv([b"12345678", kind], comm.rank)
