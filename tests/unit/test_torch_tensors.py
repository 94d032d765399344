"""torch's CPU tensors are buffers, whatever their dtype."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from mooncake_mpi.buffers import torch_tensors
from mooncake_mpi.buffers.bufferspec import resolve

torch = pytest.importorskip("torch")

DTYPES = [
    "bool", "uint8", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
]  # fmt: skip


def bytes_of(tensor, *, writable=False):
    address, nbytes, keepalive, *_ = resolve(tensor, writable=writable, rank=0)
    assert keepalive is tensor
    return ctypes.string_at(address, nbytes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_every_dtype_is_its_bytes(dtype):
    tensor = torch.ones(3, 4).to(getattr(torch, dtype))
    expected = bytes(tensor.view(torch.uint8).flatten().tolist())
    assert bytes_of(tensor) == expected
    assert bytes_of(tensor.t(), writable=True) == expected


def test_a_count_is_in_elements_where_mpi_knows_them():
    tensor = torch.arange(10, dtype=torch.float64)
    address, nbytes, *_ = resolve([tensor, (3, 2)], writable=False, rank=0)
    assert (address, nbytes) == (tensor.data_ptr() + 16, 24)


@pytest.mark.parametrize(
    ("words", "make"),
    [
        ("not contiguous: pass tensor.contiguous", lambda: torch.zeros(4, 4)[:, 1]),
        ("not contiguous", lambda: torch.zeros(1).expand(5)),
        ("requires grad: pass tensor.detach", lambda: torch.zeros(3, requires_grad=True)),
        ("lazy view: pass tensor.resolve_conj", lambda: torch.zeros(3, dtype=torch.cfloat).conj()),
        ("layout torch.sparse_coo: pass tensor.to_dense", lambda: torch.zeros(3).to_sparse()),
        ("device memory .meta.", lambda: torch.zeros(3, device="meta")),
    ],
)
def test_a_tensor_that_is_not_plain_memory_says_what_to_do(words, make):
    with pytest.raises(BufferError, match=words):
        resolve(make(), writable=False, rank=0)


def test_a_message_is_received_into_a_tensor():
    tensor = torch.zeros(4, dtype=torch.bfloat16)
    address, nbytes, _, finish, _ = resolve(tensor, writable=True, rank=0)
    assert finish is None
    ctypes.memmove(address, bytes([0x80, 0x3F] * 4), nbytes)
    assert tensor.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("kind", "hip", "stream"), [("cuda", None, 0x70), ("cuda", "6.0", None), ("mps", None, None)]
)
def test_a_tensor_of_a_gpu_is_of_the_stream_that_torch_works_in(monkeypatch, kind, hip, stream):
    tensor = SimpleNamespace(device=SimpleNamespace(type=kind))
    current = {tensor.device.type: SimpleNamespace(cuda_stream=0x70)}
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[device.type])
    monkeypatch.setattr(torch.version, "hip", hip)
    assert torch_tensors.stream_of(tensor) == stream
