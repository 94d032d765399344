"""Tensors of GPUs are read through DLPack: its exchange table, or a capsule where there is none."""

from __future__ import annotations

import ctypes

import fake_cuda
import pytest
from payload import is_pattern, pattern
from subject import MPI, quiet_barrier, ring_of

from mooncake_mpi import _native
from mooncake_mpi.buffers import dlpack

pytestmark = [pytest.mark.ours, pytest.mark.fake]

BFLOAT = 4
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_new_capsule.restype = ctypes.py_object
_FROM_OBJECT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(dlpack._Tensor))
_CURRENT_STREAM = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)
)


class Table(ctypes.Structure):
    """DLPackExchangeAPI of DLPack 1.2."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("older", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("managed_from_object", ctypes.c_void_p),
        ("managed_to_object", ctypes.c_void_p),
        ("tensor_from_object", _FROM_OBJECT),
        ("current_stream", _CURRENT_STREAM),
    )


class Tensor:
    """A tensor as a library with an exchange table has it."""

    stream = 0  # the library's current one
    asked = 0

    def __init__(self, array, *, strides=None, code=dlpack._UINT, lanes=1):
        self.array = array
        self.shape = (ctypes.c_int64 * 1)(array.nbytes // array.dtype.itemsize)
        self.strides = (ctypes.c_int64 * 1)(strides) if strides else None
        self.kind = (code, array.dtype.itemsize * 8, lanes)

    def fill(self, tensor):
        tensor.data = self.array.ptr
        tensor.device.kind, tensor.device.index = dlpack.CUDA, self.array.device
        tensor.ndim = 1
        tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes = self.kind
        tensor.shape = ctypes.cast(self.shape, type(tensor.shape))
        if self.strides is not None:
            tensor.strides = ctypes.cast(self.strides, type(tensor.strides))

    def __dlpack_device__(self):
        return (dlpack.CUDA, self.array.device)

    def __dlpack__(self, **options):
        assert options.get("stream") == -1  # nothing is to be waited for
        self.managed = dlpack._VersionedTensor(major=1)
        self.fill(self.managed.tensor)
        return _new_capsule(ctypes.addressof(self.managed), b"dltensor_versioned", None)


@_FROM_OBJECT
def tensor_from_object(tensor, into):
    tensor.fill(into[0])
    return 0


@_CURRENT_STREAM
def current_stream(kind, _index, into):
    Tensor.asked += 1
    into[0] = Tensor.stream
    return 0 if kind == dlpack.CUDA else -1


TABLE = Table(1, 2, tensor_from_object=tensor_from_object, current_stream=current_stream)


@pytest.fixture(autouse=True)
def learned(comm):
    capsule = _new_capsule(ctypes.addressof(TABLE), b"dlpack_exchange_api", None)
    assert _native.learn_tensor_type(Tensor, capsule, ())
    yield
    Tensor.stream = 0


class Capsules(Tensor):
    """The same from a library without a table."""


@pytest.mark.parametrize("kind", [Tensor, Capsules])
@pytest.mark.parametrize("size", [0, 8, 5000, 400_000])
def test_a_tensor_arrives_whole(comm, made, kind, size):
    right, left = ring_of(comm)
    out, into = kind(made(size).set(pattern(size, comm.rank))), kind(made(size).set(255))
    send = comm.Isend(out, right, 1)
    comm.Recv(into, left, 1)
    send.Wait()
    assert is_pattern(into.array.get(), left)


@pytest.mark.parametrize("kind", [Tensor, Capsules])
def test_a_tensor_of_a_type_that_mpi_lacks_is_bytes(comm, made, kind):
    out = kind(made(8, "u2").set(range(8)), code=BFLOAT)
    into = kind(made(8, "u2").set(99), code=BFLOAT)
    status = MPI.Status()
    for part, length in ((out, 16), ([out, 6], 6)):
        send = comm.Isend(part, comm.rank)
        comm.Recv(into, comm.rank, 0, status)
        send.Wait()
        assert status.Get_count(MPI.BYTE) == length
    assert into.array.get().tolist() == list(range(8))


@pytest.mark.parametrize("kind", [Tensor, Capsules])
def test_a_tensor_with_gaps_is_refused(comm, made, kind):
    tensor = kind(made(8), strides=2)
    for call in (comm.Send, comm.Irecv):
        with pytest.raises((BufferError, TypeError)):
            call(tensor, comm.rank)


def test_the_table_gives_the_stream_of_each_call(comm, made, stream):
    right, left = ring_of(comm)
    size = 5000
    array = made(size).set(0)
    out, into = Tensor(array), made(size).set(255)
    send, receive = comm.Send_init(out, right, 1), comm.Recv_init(into, left, 1)
    for turn in range(2):
        Tensor.stream = stream.handle
        asked = Tensor.asked
        stream.hold()
        fake_cuda.copy_async(array, made(size).set(pattern(size, comm.rank + turn)), stream)
        receive.Start()
        send.Start()
        assert Tensor.asked == asked + 1
        assert not receive.Test()
        quiet_barrier()
        stream.let_go()
        MPI.Request.Waitall([send, receive])
        assert is_pattern(into.get(), left + turn)
    send.Free()
    receive.Free()
