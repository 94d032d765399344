"""Memory is taken from whatever offers it: buffers, DLPack, CUDA arrays, torch tensors."""

from __future__ import annotations

import ctypes
import gc
import mmap
import warnings
import weakref

import numpy as np
import pytest

from mooncake_mpi.buffers.exporters import export
from mooncake_mpi.buffers.memory import is_host_readable, owner_bounds

UNREADABLE = 4096  # never mapped


class Producer:
    """Offers an array through DLPack alone."""

    def __init__(self, array, device=None, old=False):
        self.array = array
        self.device = device
        self.old = old

    def __dlpack_device__(self):
        return (self.device, 0) if self.device else self.array.__dlpack_device__()

    def __dlpack__(self, **options):
        if self.old and options:
            raise TypeError("unexpected keyword")
        options.pop("stream", None)
        return self.array.__dlpack__(**options)


class CudaArray:
    """Offers memory through ``__cuda_array_interface__`` alone."""

    def __init__(self, array, **changes):
        self.array = array
        self.__cuda_array_interface__ = {
            "version": 3,
            "data": (array.ctypes.data, False),
            "typestr": array.dtype.str,
            "shape": array.shape,
            "strides": None,
        } | changes


def bytes_of(memory):
    return ctypes.string_at(memory.address, memory.nbytes)


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "u8", "f2", "f4", "f8", "c8", "c16", "?"])
@pytest.mark.parametrize("old", [False, True])
def test_a_dlpack_tensor_has_the_array_s_bytes_and_format(dtype, old):
    array = np.ones((2, 3), dtype)
    memory = export(Producer(array, old=old), writable=False, with_format=True)
    assert bytes_of(memory) == array.tobytes()
    plain = (
        export(array, writable=False, with_format=True).format.replace("l", "q").replace("L", "Q")
    )
    assert memory.format.replace("l", "q").replace("L", "Q") == plain


@pytest.mark.parametrize("old", [False, True])
def test_a_dlpack_tensor_lives_as_long_as_its_message(old):
    array = np.arange(5.0)
    alive = weakref.ref(array)
    memory = export(Producer(array, old=old), writable=False, with_format=False)
    del array
    gc.collect()
    assert alive() is not None
    assert bytes_of(memory) == np.arange(5.0).tobytes()
    del memory
    gc.collect()
    assert alive() is None


def test_a_dlpack_tensor_in_columns_is_contiguous_and_a_slice_is_not():
    array = np.arange(6.0).reshape(2, 3)
    assert bytes_of(export(Producer(array.T), writable=False, with_format=False)) == array.tobytes()
    with pytest.raises(BufferError, match="not contiguous"):
        export(Producer(array[:, ::2]), writable=False, with_format=False)


def test_a_read_only_dlpack_tensor_is_sent_and_not_received_into():
    array = np.arange(3.0)
    array.flags.writeable = False
    assert export(Producer(array), writable=False, with_format=False).nbytes == 24
    with pytest.raises(BufferError, match="read-only"):
        export(Producer(array), writable=True, with_format=False)


def test_something_else_than_a_capsule_is_refused():
    producer = Producer(np.arange(3))
    producer.__class__ = type("Liar", (Producer,), {"__dlpack__": lambda _self, **_: "capsule"})
    with pytest.raises(BufferError, match="invalid capsule"):
        export(producer, writable=False, with_format=False)


def test_host_memory_that_a_device_library_labels_is_used():
    array = np.arange(3.0)
    assert (
        bytes_of(export(Producer(array, device=2), writable=False, with_format=False))
        == array.tobytes()
    )
    assert bytes_of(export(CudaArray(array), writable=True, with_format=True)) == array.tobytes()


@pytest.mark.parametrize(("said", "stream"), [(None, 0), (1, 1), (2, 2), (0x7F00, 0x7F00)])
def test_memory_of_a_gpu_has_the_stream_that_its_array_names(said, stream):
    array = CudaArray(np.arange(3.0), data=(UNREADABLE, False), stream=said)
    memory = export(array, writable=False, with_format=True)
    assert memory == (UNREADABLE, 24, "d", array, stream)


def test_an_array_that_says_nothing_of_streams_is_the_default_stream_s():
    array = CudaArray(np.arange(3.0), data=(UNREADABLE, False), version=2)
    assert export(array, writable=False, with_format=False).stream == 0


def test_memory_of_the_host_has_no_stream():
    array = np.arange(3.0)
    assert export(array, writable=False, with_format=False).stream is None
    assert export(CudaArray(array, stream=1), writable=False, with_format=False).stream is None


def test_an_empty_cuda_array_may_have_no_address():
    empty = CudaArray(np.arange(0.0), data=(None, False))
    assert export(empty, writable=True, with_format=True).nbytes == 0


@pytest.mark.parametrize(
    ("error", "words", "changes"),
    [
        (BufferError, "masked", {"mask": np.zeros(3)}),
        (BufferError, "negative", {"shape": (-3,)}),
        (BufferError, "not contiguous", {"strides": (16,)}),
        (BufferError, "not contiguous", {"strides": (9,)}),
        (BufferError, "byte order", {"typestr": ">f8"}),
        (BufferError, "byte order", {"typestr": "?f8"}),
        (TypeError, "shape must be a tuple", {"shape": [3]}),
        (TypeError, "data must be a tuple", {"data": None}),
        (TypeError, "typestr must be a str", {"typestr": None}),
        (TypeError, "strides must be a tuple", {"strides": [8]}),
        (TypeError, "descr must be a list", {"descr": 3}),
        (RuntimeWarning, "ignoring 'descr'", {"descr": [("a", "<f8")]}),
    ],
)
def test_a_wrong_cuda_array_says_what_is_wrong(error, words, changes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=words):
            export(CudaArray(np.arange(3.0), **changes), writable=False, with_format=True)


def test_a_read_only_cuda_array_is_not_received_into():
    array = np.arange(3.0)
    constant = CudaArray(array, data=(array.ctypes.data, True))
    assert export(constant, writable=False, with_format=True).nbytes == 24
    with pytest.raises(BufferError, match="read-only"):
        export(constant, writable=True, with_format=True)


def test_the_kernel_says_what_can_be_read():
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = np.frombuffer(page, np.uint8).ctypes.data
    assert is_host_readable(address, mmap.PAGESIZE)
    assert is_host_readable(UNREADABLE, 0)
    assert not is_host_readable(UNREADABLE, 1)


def test_the_bounds_are_those_of_the_allocation():
    matrix = np.zeros((4, 5))
    whole = (matrix.ctypes.data, matrix.ctypes.data + 160)
    for view in (matrix, matrix[1:, 2:], matrix.T[::2], memoryview(matrix)[2:]):
        assert owner_bounds(view) == whole
    data = bytearray(b"abcdef")
    low, high = owner_bounds(memoryview(data)[2:4])
    assert high - low == 6
    assert owner_bounds(object()) is None
    assert owner_bounds(np.frombuffer(mmap.mmap(-1, 10), np.uint8)) is None
