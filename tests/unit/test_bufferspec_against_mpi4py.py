"""mpi4py and this package accept the same buffer specifications and move the same bytes.

Open MPI and MPICH carry mpi4py's side, on ``COMM_SELF``.
"""

from __future__ import annotations

import ctypes

import numpy as np
from datatype_strategies import datatypes
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from mooncake_mpi.buffers.bufferspec import parse, place

SELF = MPI.COMM_SELF
LARGEST = 1 << 16
SETTINGS = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))

DTYPES = ["i1", "u2", "i4", "i8", "f4", "f8", "c8", "c16", "?", "S1", "S3", "O", "i4,f8", "M8[s]"]


def arrays():
    """Arrays: contiguous in either order, strided, read-only, empty, of any dtype."""

    def make(dtype, shape, layout, read_only):
        count = int(np.prod(shape))
        array = (
            np.zeros(count, dtype)
            if dtype == "O"
            else (np.arange(count * np.dtype(dtype).itemsize).astype("u1").view(dtype))
        )
        if dtype == "?":
            array = np.arange(count) % 2 == 0
        array = array.reshape(shape)
        if layout == "F":
            array = array.T
        elif layout == "strided":
            array = array[..., ::2]
        if read_only:
            array.flags.writeable = False
        return array

    return st.builds(
        make,
        st.sampled_from(DTYPES),
        st.lists(st.integers(0, 4), min_size=1, max_size=3),
        st.sampled_from(["C", "F", "strided"]),
        st.booleans(),
    )


def buffers():
    """Buffers, and things that are none."""
    return st.one_of(
        arrays(),
        st.binary(max_size=40),
        st.binary(max_size=40).map(bytearray),
        st.binary(max_size=40).map(memoryview),
        st.sampled_from([None, MPI.BOTTOM, 3, "text", [1, 2], object()]),
    )


def kinds():
    """Datatypes and type codes, known or not."""
    return st.sampled_from(
        [None, MPI.BYTE, MPI.INT, MPI.DOUBLE, MPI.DOUBLE_INT, "i", "d", "B", "Zd", "i2", "nonsense",
         MPI.DATATYPE_NULL, 5]
    )  # fmt: skip


def counts():
    return st.one_of(st.none(), st.integers(-1, 6), st.sampled_from([1.5, "2", np.int32(2)]))


def specs():
    """Specifications of every form, right and wrong."""
    pair = st.tuples(counts(), counts())
    return st.one_of(
        buffers(),
        st.tuples(buffers(), counts()),
        st.tuples(buffers(), kinds()),
        st.tuples(buffers(), pair),
        st.tuples(buffers(), counts(), kinds()),
        st.tuples(buffers(), pair, kinds()).map(list),
        st.tuples(buffers(), counts(), counts(), kinds()).map(list),
        st.tuples(buffers()),
    )


def outcome(act, *args):
    """What a call gives, or the kind of exception that it raises."""
    try:
        return act(*args), None
    except MPI.Exception as error:
        return None, error.Get_error_class()
    except Exception as error:  # noqa: BLE001
        return None, type(error)


def is_comparable(spec, writable):
    """Whether mpi4py and MPI say the same on every platform.

    Elements outside their buffer are read by mpi4py and refused here, as are those at address zero,
    where Open MPI crashes for MPI.DOUBLE_INT; MPICH takes no elements of the null datatype for valid.
    """
    try:
        elements = parse(spec, writable)
        if elements.count == 0 and elements.datatype == MPI.DATATYPE_NULL:
            return False
        place(elements, writable)
    except ValueError as error:
        return "too small" not in str(error)
    except MPI.Exception as error:
        return error.Get_error_class() != MPI.ERR_BUFFER
    except Exception:  # noqa: BLE001
        return True
    return True


def our_send(spec):
    address, nbytes, keepalive, *_ = place(parse(spec, writable=False), writable=False)
    data = ctypes.string_at(address, nbytes) if nbytes else b""
    del keepalive
    return data


def their_send(spec):
    into = bytearray(LARGEST)
    status = MPI.Status()
    receive = SELF.Irecv([into, MPI.BYTE], 0, 1)
    try:
        SELF.Send(spec, 0, 1)
    except BaseException:
        receive.Cancel()
        receive.Wait()
        raise
    receive.Wait(status)
    return bytes(into[: status.Get_elements(MPI.BYTE)])


def our_receive(spec, data):
    address, nbytes, _keepalive, finish, _ = place(parse(spec, writable=True), writable=True)
    data = data[:nbytes]
    if data:
        ctypes.memmove(address, data, len(data))
    if finish is not None:
        finish(len(data))


def their_receive(spec, data):
    nbytes = place(parse(spec, writable=True), writable=True).nbytes
    receive = SELF.Irecv(spec, 0, 2)
    SELF.Send([data[:nbytes], MPI.BYTE], 0, 2)
    receive.Wait()


@given(specs())
@SETTINGS
def test_a_send_is_accepted_or_refused_alike_and_sends_the_same_bytes(spec):
    assume(is_comparable(spec, writable=False))
    assert outcome(our_send, spec) == outcome(their_send, spec)


@given(specs())
@SETTINGS
def test_a_receive_is_accepted_or_refused_alike(spec):
    assume(is_comparable(spec, writable=True))
    assert outcome(our_irecv, spec) == outcome(their_irecv, spec)


def our_irecv(spec):
    place(parse(spec, writable=True), writable=True)


def their_irecv(spec):
    request = SELF.Irecv(spec, 0, 3)
    request.Cancel()
    request.Wait()


@given(datatypes(), st.integers(0, 3), st.integers(0, 100))
@SETTINGS
def test_a_message_of_a_derived_datatype_has_the_same_bytes(datatype, count, seed):
    datatype.Commit()
    try:
        memory, spec = around(datatype, count, seed)
        assert our_send(spec) == their_send(spec)
        del memory
    finally:
        datatype.Free()


@given(datatypes(), st.integers(0, 3), st.integers(0, 100), st.floats(0, 1))
@SETTINGS
def test_a_message_is_received_into_a_derived_datatype_alike(datatype, count, seed, part):
    datatype.Commit()
    try:
        ours, our_spec = around(datatype, count, seed)
        theirs, their_spec = around(datatype, count, seed)
        nbytes = int(count * part) * datatype.Get_size()
        data = bytes(range(256)) * 40
        assume(nbytes <= len(data))
        assume(writes_once(datatype, count))
        our_receive(our_spec, data[:nbytes])
        their_receive(their_spec, data[:nbytes])
        assert (ours == theirs).all()
    finally:
        datatype.Free()


def around(datatype, count, seed):
    """Memory that every element lies in, and the specification that starts inside it."""
    lower_bound, extent = datatype.Get_true_extent()
    reach = abs(lower_bound) + extent + count * abs(datatype.Get_extent()[1]) + 64
    memory = np.random.default_rng(seed).integers(0, 256, 2 * reach, np.uint8)
    return memory, [memory[reach:], count, datatype]


def writes_once(datatype, count):
    """Whether no two elements share a byte: MPI allows no others in a receive."""
    marks, spec = around(datatype, count, 0)
    size = datatype.Get_size() * count
    numbers = np.arange(size) % 251 + 1
    marks[:] = 0
    our_receive(spec, numbers.astype(np.uint8).tobytes())
    return np.count_nonzero(marks) == size
