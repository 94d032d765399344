"""The message of an object is one pickle stream for everybody; the package leaves its buffers where they arrive."""

from __future__ import annotations

import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from mooncake_mpi import _native
from mooncake_mpi.objects.pickling import dump, dump_parts, load

LARGE_ARRAY = np.arange(100_000.0)


def arrives(message):
    """The message in memory of its own, as a receiver has it."""
    return bytearray(message)


@pytest.fixture
def user_pickle():
    """Restore ``MPI.pickle`` after a test changed it."""
    yield MPI.pickle
    MPI.pickle.__init__()
    MPI.pickle.THRESHOLD = 1 << 18


PLAIN = [None, True, 42, 1.5, 2j, "text", b"bytes", [1, [2]], {"a": (1, 2)}, np.arange(10)]


@pytest.mark.parametrize("obj", PLAIN, ids=repr)
def test_an_object_without_large_buffers_is_its_pickle_stream(obj):
    message = dump(obj)
    assert message == MPI.pickle.dumps(obj)
    np.testing.assert_equal(pickle.loads(message), obj)  # noqa: S301
    np.testing.assert_equal(load(message), obj)


class Holder:
    """An object whose buffers the pickler hands out as they are."""

    def __init__(self, *buffers):
        self.buffers = buffers

    def __reduce_ex__(self, protocol):
        return Holder, tuple(pickle.PickleBuffer(buffer) for buffer in self.buffers)


def read_only(array):
    array.flags.writeable = False
    return array


SHAPES = {
    "array": lambda: LARGE_ARRAY,
    "in a dictionary": lambda: {"a": LARGE_ARRAY, "b": "text", "c": np.arange(3)},
    "several": lambda: [np.full(70_000 + i, float(i)) for i in range(7)],
    "read-only": lambda: read_only(np.arange(50_000)),
    "of both kinds": lambda: (np.arange(50_000), read_only(np.arange(60_000.0)), "x" * 100_000),
    "in Fortran's order": lambda: np.asfortranarray(np.arange(90_000.0).reshape(300, 300)),
    "two views": lambda: [LARGE_ARRAY, LARGE_ARRAY[10:], LARGE_ARRAY],
    "beside large bytes": lambda: [b"b" * 300_000, LARGE_ARRAY, bytearray(b"c" * 300_000)],
    "of large elements": lambda: np.arange(30_000, dtype=np.longdouble),
    "masked": lambda: np.ma.masked_greater(LARGE_ARRAY, 5),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_unpickler_reads_the_message_of_large_buffers(name):
    obj = SHAPES[name]()
    message = dump(obj)
    for loads in (pickle.loads, pickle._loads, MPI.pickle.loads, load):
        again = loads(arrives(message))
        np.testing.assert_equal(again, obj)
        for mine, theirs in zip(arrays_of(again), arrays_of(obj), strict=True):
            assert mine.flags.writeable == theirs.flags.writeable
    assert len(message) <= len(MPI.pickle.dumps(obj))
    assert message[:2] == b"\x80\x05"
    parts = dump_parts(obj)
    assert (parts if isinstance(parts, bytes) else b"".join(parts)) == message
    assert sum(1 for _ in pickletools.genops(message)) > 5


def arrays_of(obj):
    """The large arrays in an object."""
    if isinstance(obj, dict):
        obj = list(obj.values())
    found = (
        [obj]
        if isinstance(obj, np.ndarray)
        else [each for each in obj if isinstance(each, np.ndarray)]
    )
    return [array for array in found if array.nbytes >= 1 << 18]


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "masked"])  # pickled as bytes
def test_large_arrays_stay_where_they_arrived_at_aligned_addresses(name):
    message = arrives(dump(SHAPES[name]()))
    memory = np.frombuffer(message, np.uint8)
    for array in arrays_of(load(message)):
        assert np.shares_memory(array, memory)
        assert array.flags.aligned
        assert (array.ctypes.data - memory.ctypes.data) % 16 == 0


def test_what_was_bytes_is_bytes_again():
    again = load(arrives(dump([b"b" * 300_000, LARGE_ARRAY, bytearray(b"c" * 300_000)])))
    assert type(again[0]) is bytes
    assert type(again[2]) is bytearray


sizes = st.sampled_from([0, 1, 3, 8, 255, 256, 1000, 65_535, 65_536, 70_000, 300_000])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sizes, st.booleans(), st.text(max_size=20)), max_size=8), st.booleans())
def test_any_buffers_make_a_stream_that_is_no_longer_than_the_pickler_s(parts, holder):
    MPI.pickle.THRESHOLD = 0
    try:
        buffers = [bytes(range(256)) * (size // 256 + 1) for size, _, _ in parts]
        buffers = [
            memoryview(bytearray(b)) if w else memoryview(b)
            for b, (_, w, _) in zip(buffers, parts, strict=True)
        ]
        buffers = [b[:size] for b, (size, _, _) in zip(buffers, parts, strict=True)]
        obj = (
            [Holder(*buffers)]
            if holder
            else [[Holder(b), t] for b, (_, _, t) in zip(buffers, parts, strict=True)]
        )
        message = dump(obj)
        assert len(message) <= len(MPI.pickle.dumps(obj))
        for loads in (pickle.loads, load):
            again = loads(arrives(message))
            found = list(again[0].buffers) if holder else [h.buffers[0] for h, _ in again]
            assert [bytes(b) for b in found] == [bytes(b) for b in buffers]
            if not holder:
                assert [t for _, t in again] == [t for _, _, t in parts]
    finally:
        MPI.pickle.THRESHOLD = 1 << 18


def taken(message):
    memory = MPI.buffer.frombuffer(message, readonly=True)
    return _native.take_buffers_out(memory.address, memory.nbytes)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_stream_is_left_to_the_unpickler(data):
    message = bytearray(dump({"a": np.arange(40_000), "b": read_only(np.arange(40_000))}))
    (first, first_end), (second, second_end) = taken(message)[1]
    headers = [*range(first), *range(first_end, second), *range(second_end, len(message))]
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.sampled_from(headers))] = data.draw(st.integers(0, 255))
    del message[data.draw(st.integers(0, len(message))) :]
    found = taken(message) if message else None
    if found is not None:
        assert all(0 <= begin <= end <= len(message) for begin, end in found[1])


@given(st.binary(max_size=200), st.lists(st.integers(0, 1 << 62), max_size=4))
def test_any_bytes_are_looked_at_without_harm(noise, sizes):
    for stream in (noise, b"\x80\x05" + noise, b"\x80\x05" + noise + b"."):
        around = _native.put_buffers_in(stream, sizes)
        assert around is None or len(around) == len(sizes) + 1
        found = taken(stream) if stream else None
        assert found is None or all(begin <= end <= len(stream) for begin, end in found[1])


def test_an_empty_message_is_none():
    assert load(b"") is None


def test_the_user_s_pickler_is_used(user_pickle):
    user_pickle.__init__(dumps=lambda obj: repr(obj).encode(), loads=bytes)
    assert dump([1, 2]) == b"[1, 2]"
    assert load(b"[1, 2]") == b"[1, 2]"


def dumps_in_band(obj, protocol):
    return pickle.dumps(obj, protocol)


def test_a_user_s_pickler_without_buffers_is_used_for_large_arrays_too(user_pickle):
    user_pickle.__init__(dumps=dumps_in_band, protocol=5)
    message = dump(LARGE_ARRAY)
    assert message == pickle.dumps(LARGE_ARRAY, 5)
    assert load(message)[-1] == 99_999


def test_a_user_s_stream_that_is_no_pickle_is_made_whole(user_pickle):
    def dumps(obj, protocol=5, buffer_callback=None):
        return b"own" + pickle.dumps(obj, protocol, buffer_callback=buffer_callback)

    user_pickle.__init__(dumps=dumps, loads=lambda data, **_: pickle.loads(bytes(data)[3:]))  # noqa: S301
    message = dump(LARGE_ARRAY)
    assert message == dumps(LARGE_ARRAY)
    assert (load(message) == LARGE_ARRAY).all()


def test_a_user_s_unpickler_without_buffers_reads_large_arrays(user_pickle):
    message = dump(LARGE_ARRAY)
    user_pickle.__init__(loads=lambda data: pickle.loads(data, buffers=None))  # noqa: S301
    assert (load(arrives(message)) == LARGE_ARRAY).all()


def test_the_user_s_protocol_is_used(user_pickle):
    user_pickle.PROTOCOL = 2
    message = dump(LARGE_ARRAY)
    assert message[:2] == b"\x80\x02"
    assert (load(message) == LARGE_ARRAY).all()


def test_the_user_s_threshold_is_used(user_pickle):
    user_pickle.THRESHOLD = 0
    assert taken(dump([np.arange(300), "x"])) is not None
    user_pickle.THRESHOLD = 1 << 30
    assert taken(dump(LARGE_ARRAY)) is None


def test_a_pickler_that_makes_no_bytes_is_a_type_error(user_pickle):
    user_pickle.__init__(dumps=lambda _: "text")
    with pytest.raises(TypeError, match="expected bytes"):
        dump(1)
    with pytest.raises(TypeError, match="expected bytes"):
        dump([1])


class Exporting(bytearray):
    """Asks a buffer for its exporter, as the documentation of pickle does."""

    def __reduce_ex__(self, protocol):
        return Exporting.rebuilt, (pickle.PickleBuffer(self),)

    @classmethod
    def rebuilt(cls, obj):
        with memoryview(obj) as view:
            return cls(view.obj)


def test_a_buffer_is_no_view_of_the_whole_message():
    again = load(arrives(dump(Exporting(b"q" * 400_000))))
    assert bytes(again) == b"q" * 400_000


def test_bytes_that_mark_each_other_are_left_to_the_unpickler():
    assert load(bytearray(b"\x80\x05N0" + b"C\x000" * 90_000 + b"N.")) is None
