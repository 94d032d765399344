"""Objects with out-of-band buffers travel as frames, and damaged frames are refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI

from mooncake_mpi import frames
from mooncake_mpi.pickling import dump, load


def frame_of(stream, buffers):
    return frames.encode(stream, [MPI.buffer(buffer) for buffer in buffers])


@given(st.binary(max_size=200), st.lists(st.binary(max_size=300), max_size=5))
def test_a_frame_gives_back_its_stream_and_buffers(stream, buffers):
    message = frame_of(stream, buffers)
    assert frames.is_frame(message)
    again, views = frames.decode(message)
    assert bytes(again) == stream
    assert [bytes(view) for view in views] == buffers


@given(st.lists(st.integers(0, 300), min_size=1, max_size=5))
def test_buffers_are_aligned_in_their_message(sizes):
    message = np.frombuffer(frame_of(b"stream", [bytes(size) for size in sizes]), np.uint8)
    first = message.__array_interface__["data"][0]
    for view in frames.decode(message)[1]:
        if len(view):
            address = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
            assert (address - first) % frames.ALIGNMENT == 0


@given(st.binary(max_size=60), st.lists(st.binary(max_size=90), max_size=3), st.data())
def test_a_frame_that_is_cut_or_longer_is_refused(stream, buffers, data):
    message = frame_of(stream, buffers)
    cut = data.draw(st.integers(len(frames.MAGIC), len(message) - 1))
    for damaged in (message[:cut], message + b"?"):
        with pytest.raises(frames.FrameError, match="object message"):
            frames.decode(damaged)


@given(st.binary(max_size=300))
def test_random_bytes_after_the_magic_are_a_frame_error_or_a_frame(tail):
    message = frames.MAGIC + tail
    try:
        stream, buffers = frames.decode(message)
    except frames.FrameError:
        return
    assert len(stream) + sum(map(len, buffers)) <= len(message)


def test_no_pickle_stream_starts_like_a_frame():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert not frames.is_frame(pickle.dumps({"a": [1, 2.0, "three"]}, protocol))
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(frames.MAGIC)  # noqa: S301


PLAIN = [None, True, 42, 1.5, 2j, "text", b"bytes", [1, [2]], {"a": (1, 2)}, np.arange(10)]


@pytest.mark.parametrize("obj", PLAIN, ids=repr)
def test_an_object_without_large_buffers_is_its_pickle_stream(obj):
    message = dump(obj)
    assert not frames.is_frame(message)
    np.testing.assert_equal(pickle.loads(message), obj)  # noqa: S301
    np.testing.assert_equal(load(message), obj)


def test_a_large_array_is_a_frame_and_stays_where_it_arrived():
    array = np.arange(100_000.0)
    message = bytearray(dump({"array": array, "name": "x"}))
    assert frames.is_frame(message)
    again = load(message)
    assert (again["array"] == array).all()
    assert again["name"] == "x"
    assert again["array"].flags.writeable
    assert np.shares_memory(again["array"], np.frombuffer(message, np.uint8))


def test_a_read_only_array_stays_read_only():
    array = np.arange(100_000.0)
    array.flags.writeable = False
    assert not load(bytearray(dump(array))).flags.writeable


def test_an_empty_message_is_none():
    assert load(b"") is None


@pytest.fixture
def user_pickle():
    """Restore ``MPI.pickle`` after a test changed it."""
    yield MPI.pickle
    MPI.pickle.__init__()


def test_the_user_s_pickler_is_used(user_pickle):
    user_pickle.__init__(dumps=lambda obj: repr(obj).encode(), loads=bytes)
    assert dump([1, 2]) == b"[1, 2]"
    assert load(b"[1, 2]") == b"[1, 2]"


def dumps_in_band(obj, protocol):
    return pickle.dumps(obj, protocol)


def test_a_user_s_pickler_without_buffers_is_used_for_large_arrays_too(user_pickle):
    user_pickle.__init__(dumps=dumps_in_band, protocol=5)
    message = dump(np.arange(100_000.0))
    assert not frames.is_frame(message)
    assert load(message)[-1] == 99_999


def test_the_user_s_protocol_is_used(user_pickle):
    user_pickle.PROTOCOL = 2
    message = dump(np.arange(100_000.0))
    assert message[:2] == b"\x80\x02"


def test_the_user_s_threshold_is_used(user_pickle):
    user_pickle.THRESHOLD = 0
    assert frames.is_frame(dump(np.arange(3)))
    user_pickle.THRESHOLD = 1 << 30
    assert not frames.is_frame(dump(np.arange(100_000.0)))


def test_a_user_s_stream_that_starts_like_a_frame_arrives_whole(user_pickle):
    user_pickle.__init__(dumps=lambda obj: frames.MAGIC + obj, loads=lambda data, **_: bytes(data))
    assert load(dump(b"tail")) == frames.MAGIC + b"tail"


def test_a_pickler_that_makes_no_bytes_is_a_type_error(user_pickle):
    user_pickle.__init__(dumps=str)
    with pytest.raises(TypeError, match="expected bytes, str found"):
        dump(1)


def test_an_object_that_cannot_be_pickled_says_so():
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError), match="pickle"):
        dump(lambda: None)
