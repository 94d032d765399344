"""What messages that are started as one take of torch's tensors where no MPI library is loaded."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from mooncake_mpi.engine import surroundings


class Tensor:
    """A tensor of one sort of device."""

    nbytes = 40

    def __init__(self, device, *, contiguous=True):
        self.is_cpu = device == "cpu"
        self.device = SimpleNamespace(type=device)
        self.contiguous = contiguous

    def is_contiguous(self):
        return self.contiguous

    def data_ptr(self):
        return 0x1000


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    """A torch that works on one stream."""
    stand_in = SimpleNamespace(
        version=SimpleNamespace(hip=None),
        cuda=SimpleNamespace(current_stream=lambda _device: SimpleNamespace(cuda_stream=77)),
    )
    monkeypatch.setitem(sys.modules, "torch", stand_in)


def resolved(tensor):
    writable, rank = True, 1
    return surroundings._resolve(tensor, writable, rank)


def test_of_the_host():
    tensor = Tensor("cpu")
    assert resolved(tensor) == (0x1000, 40, tensor, None, None)


def test_of_a_gpu_in_the_order_of_the_current_stream():
    tensor = Tensor("cuda")
    assert resolved(tensor) == (0x1000, 40, tensor, None, 77)


@pytest.mark.parametrize(
    "tensor", [Tensor("xpu"), Tensor("cuda", contiguous=False), Tensor("cpu", contiguous=False)]
)
def test_others_are_refused(tensor):
    with pytest.raises(TypeError, match="contiguous tensor of the host or a CUDA GPU"):
        resolved(tensor)
