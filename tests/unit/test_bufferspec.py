"""Buffer specifications give the bytes that they describe, or say what is wrong."""

from __future__ import annotations

import ctypes
from array import array

import numpy as np
import pytest
from mpi4py import MPI

from mooncake_mpi.buffers.bufferspec import parse, resolve

DATA = np.arange(12.0)


def sent(spec, rank=0):
    """The bytes that a send of ``spec`` sends."""
    address, nbytes, keepalive, finish, _ = resolve(spec, writable=False, rank=rank)
    assert finish is None
    data = ctypes.string_at(address, nbytes) if nbytes else b""
    del keepalive
    return data


@pytest.mark.parametrize(
    ("spec", "first", "end"),
    [
        (DATA, 0, 12),
        ([DATA, 5], 0, 5),
        ([DATA, MPI.DOUBLE], 0, 12),
        ([DATA, "d"], 0, 12),
        ([DATA, (3, 2)], 2, 5),
        ([DATA, (None, 2)], 2, 12),
        ([DATA, (3, None)], 0, 3),
        ([DATA, 5, MPI.DOUBLE], 0, 5),
        ([DATA, 5, None], 0, 5),
        ([DATA, None, "d"], 0, 12),
        ([DATA, (3, 2), MPI.DOUBLE], 2, 5),
        ([DATA, 3, 2, MPI.DOUBLE], 2, 5),
        ([DATA, 3, None, "f8"], 0, 3),
        ((DATA, 3, 2, None), 2, 5),
        ([DATA[4:], 3], 4, 7),
        ([memoryview(DATA)[4:], np.int64(3), MPI.DOUBLE], 4, 7),
    ],
)
def test_every_form_gives_its_elements(spec, first, end):
    assert sent(spec) == DATA[first:end].tobytes()


@pytest.mark.parametrize(
    "buffer",
    [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        array("h", [1, 2]),
        np.ones((2, 3)).T,
        np.float32(3),
        MPI.buffer(b"xyz"),
        np.zeros((0, 5)),
        np.array(3 + 4j),
        np.array([True, False]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_contiguous_buffer_is_sent_whole(buffer):
    assert sent(buffer) == memoryview(buffer).tobytes("A")


@pytest.mark.parametrize(
    "spec", [[None, 0, "B"], [None, "B"], [None, MPI.INT], [MPI.BOTTOM, 0, "B"], [MPI.BOTTOM, "d"]]
)
def test_none_and_bottom_without_elements_are_empty(spec):
    assert sent(spec) == b""


def test_bottom_with_absolute_addresses_gives_their_bytes():
    scattered = MPI.Datatype.Create_struct(
        [1, 2], [DATA.ctypes.data + 24, DATA.ctypes.data], [MPI.DOUBLE, MPI.DOUBLE]
    ).Commit()
    assert sent([MPI.BOTTOM, 1, scattered]) == DATA[[3, 0, 1]].tobytes()
    scattered.Free()
    in_order = MPI.DOUBLE.Create_hindexed([2], [DATA.ctypes.data + 8]).Commit()
    assert sent([MPI.BOTTOM, 1, in_order]) == DATA[1:3].tobytes()
    in_order.Free()


def test_nothing_is_looked_at_for_proc_null():
    assert tuple(resolve(object(), writable=True, rank=MPI.PROC_NULL)) == (0, 0, None, None, None)


ERRORS = [
    (TypeError, "expecting buffer or list/tuple", 42),
    (TypeError, "expecting buffer or list/tuple", None),
    (TypeError, "expecting buffer or list/tuple", MPI.IN_PLACE.__class__),
    (TypeError, "bytes-like object", [[1, 2, 3], 3, "i"]),
    (TypeError, "integer", [DATA, 2.0]),
    (ValueError, "2 to 4 items", [DATA]),
    (ValueError, "2 to 4 items", [DATA, 1, 2, "d", None]),
    (ValueError, "negative count -1", [DATA, -1]),
    (ValueError, "negative displacement -1", [DATA, 1, -1, "d"]),
    (ValueError, "out of bounds", [DATA, 1, 13, "d"]),
    (ValueError, "buffer is None but count is 2", [None, 2, "d"]),
    (ValueError, "not a multiple", [bytearray(5), MPI.INT]),
    (ValueError, "buffer too small", [DATA, 13]),
    (ValueError, "buffer too small", [DATA, 5, 8, "d"]),
    (ValueError, "buffer too small", [bytearray(5), 6, MPI.BYTE]),
    (ValueError, "buffer too small", [bytes(5), 2, MPI.INT]),
    (ValueError, "too many", [DATA, 2**61, MPI.DOUBLE]),
    (ValueError, "datatype is null", [DATA, None, MPI.DATATYPE_NULL]),
    (ValueError, "datatype is null", [DATA, 1, 1, MPI.DATATYPE_NULL]),
    (KeyError, "cannot map", [DATA, "nonsense"]),
    (KeyError, "cannot map", [None, 0]),
    (KeyError, "cannot map 'O'", np.array([None, {}])),
    (KeyError, "cannot map 'T", np.zeros(2, "i4,f8")),
    (BufferError, "byte order", np.zeros(2, np.dtype("=i4").newbyteorder("S"))),
    (BufferError, "the send buffer .numpy.ndarray. is not contiguous.*ascontiguous", DATA[::2]),
    (BufferError, "not contiguous", memoryview(b"abcd")[::2]),
]


@pytest.mark.parametrize(("error", "words", "spec"), ERRORS)
def test_a_wrong_specification_says_what_is_wrong(error, words, spec):
    with pytest.raises(error, match=words):
        resolve(spec, writable=False, rank=0)


@pytest.mark.parametrize("buffer", [b"abc", memoryview(b"abc"), np.broadcast_to(1.0, 3)])
def test_a_message_is_not_received_into_read_only_memory(buffer):
    with pytest.raises(BufferError, match=r"the receive buffer .* is read-only"):
        resolve(buffer, writable=True, rank=0)
    with pytest.raises(BufferError, match=r"the receive buffer .* is read-only"):
        resolve([buffer, MPI.BYTE], writable=True, rank=0)


def test_a_null_datatype_is_mpi_s_err_type():
    with pytest.raises(MPI.Exception) as caught:
        resolve([DATA, 1, MPI.DATATYPE_NULL], writable=False, rank=0)
    assert caught.value.Get_error_class() == MPI.ERR_TYPE


def test_bottom_without_absolute_addresses_is_mpi_s_err_buffer():
    with pytest.raises(MPI.Exception) as caught:
        resolve([MPI.BOTTOM, 1, MPI.BYTE], writable=False, rank=0)
    assert caught.value.Get_error_class() == MPI.ERR_BUFFER


def test_a_view_s_datatype_may_reach_the_rest_of_its_array():
    matrix = np.arange(20.0).reshape(4, 5)
    column = MPI.DOUBLE.Create_vector(4, 1, 5).Commit()
    assert sent([matrix[0, 2:], 1, column]) == matrix[:, 2].tobytes()
    with pytest.raises(ValueError, match="buffer too small"):
        resolve([matrix[1, 2:], 1, column], writable=False, rank=0)
    column.Free()


def test_the_exporter_cannot_be_resized_while_its_message_is_pending():
    growing = bytearray(8)
    placed = resolve([growing, 4, MPI.BYTE], writable=True, rank=0)
    with pytest.raises(BufferError):
        growing.extend(b"more")
    del placed
    growing.extend(b"more")


@pytest.mark.parametrize(("spec", "count"), [(DATA, 4), ([DATA, 2], 2), ([DATA, (None, 6)], 2)])
def test_a_count_is_that_of_one_partition(spec, count):
    assert parse(spec, writable=False, blocks=3).count == count


def test_partitions_must_be_equal():
    with pytest.raises(ValueError, match="required number of blocks 5"):
        parse(DATA, writable=False, blocks=5)


def test_a_datatype_without_extent_has_to_be_counted():
    flat = MPI.INT.Create_resized(0, 0).Commit()
    with pytest.raises(ValueError, match="cannot infer count, datatype extent 0"):
        resolve([DATA, flat], writable=False, rank=0)
    assert sent([np.arange(3, dtype="i"), 2, flat]) == np.array([0, 0], "i").tobytes()
    flat.Free()
