"""A DLPack capsule is checked before its memory is touched."""

from __future__ import annotations

import ctypes

import pytest

from mooncake_mpi.buffers import dlpack
from mooncake_mpi.buffers.exporters import export

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_new_capsule.restype = ctypes.py_object


class Handmade:
    """Offers a capsule whose every field a test may choose."""

    def __init__(self, **fields):
        self.memory = (ctypes.c_double * 6)(*range(6))
        shape = fields.pop("shape", (2, 3))
        strides = fields.pop("strides", None)
        self.shape = (ctypes.c_int64 * 4)(*(shape or ()))
        self.strides = (ctypes.c_int64 * 4)(*(strides or ()))
        self.managed = dlpack._VersionedTensor(major=fields.pop("major", 1))
        self.managed.flags = fields.pop("flags", 0)
        tensor = self.managed.tensor
        tensor.data = ctypes.addressof(self.memory)
        tensor.device.kind = dlpack.CPU
        tensor.ndim = fields.pop("ndim", len(shape or ()))
        tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes = fields.pop("dtype", (2, 64, 1))
        tensor.byte_offset = fields.pop("byte_offset", 0)
        if shape is not None:
            tensor.shape = ctypes.cast(self.shape, type(tensor.shape))
        if strides is not None:
            tensor.strides = ctypes.cast(self.strides, type(tensor.strides))
        assert not fields

    def __dlpack_device__(self):
        return (dlpack.CPU, 0)

    def __dlpack__(self, **_options):
        return _new_capsule(ctypes.addressof(self.managed), b"dltensor_versioned", None)


def test_a_tensor_is_where_its_offset_says():
    made = Handmade(byte_offset=8, shape=(5,))
    tensor = dlpack.export(made)
    assert tensor.address == ctypes.addressof(made.memory) + 8
    assert (tensor.nbytes, tensor.format, tensor.read_only) == (40, "d", False)


def test_the_read_only_flag_is_seen():
    assert dlpack.export(Handmade(flags=1)).read_only


@pytest.mark.parametrize(
    ("dtype", "text", "nbytes"),
    [
        ((4, 16, 1), "B", 12),  # bfloat16: MPI knows only its bytes
        ((2, 32, 2), "Zf", 48),
        ((2, 16, 2), "B", 24),
        ((0, 32, 4), "B", 96),
        ((6, 8, 1), "?", 6),
        ((1, 4, 1), "B", 6),
    ],
)
def test_a_dtype_has_mpi_s_format_or_is_bytes(dtype, text, nbytes):
    tensor = dlpack.export(Handmade(dtype=dtype))
    assert (tensor.format, tensor.nbytes) == (text, nbytes)


@pytest.mark.parametrize("strides", [(3, 1), (1, 2), None])
def test_rows_and_columns_are_contiguous(strides):
    assert dlpack.export(Handmade(strides=strides)).nbytes == 48


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("version 2 is not supported", {"major": 2}),
        ("number of dimensions is negative", {"ndim": -1}),
        ("shape is missing", {"shape": None, "ndim": 2}),
        ("dimension or stride is negative", {"shape": (2, -3)}),
        ("dimension or stride is negative", {"strides": (-3, 1)}),
        ("not contiguous", {"strides": (6, 1)}),
    ],
)
def test_a_capsule_that_cannot_be_right_is_refused(words, fields):
    with pytest.raises(BufferError, match=words):
        dlpack.export(Handmade(**fields))


class Elsewhere(Handmade):
    """A DLPack tensor in memory that the host does not reach."""

    def __init__(self, device):
        super().__init__()
        self.managed.tensor.data = 4096  # never mapped
        self.device = device

    def __dlpack_device__(self):
        return (self.device, 0)


def test_a_dlpack_tensor_of_a_gpu_is_the_default_stream_s_unless_it_names_one():
    assert export(Elsewhere(2), writable=False, with_format=False).stream == 0
    both = Elsewhere(2)
    both.__cuda_array_interface__ = {"version": 3, "stream": 5}
    assert export(both, writable=False, with_format=False).stream == 5


def test_memory_of_other_devices_is_refused_and_named():
    with pytest.raises(BufferError, match=r"the send buffer .*Elsewhere.* not CUDA's .*number 10"):
        export(Elsewhere(10), writable=False, with_format=False)
    with pytest.raises(BufferError, match=r"the receive buffer .* copy it to the host"):
        export(Elsewhere(8), writable=True, with_format=False)
