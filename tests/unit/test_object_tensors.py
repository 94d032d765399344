"""Tensors of objects go beside the pickle stream, where torch's devices are taken for a GPU."""

from __future__ import annotations

import copyreg
import sys

import pytest

from mooncake_mpi import MPI
from mooncake_mpi.objects import gpu_libraries
from mooncake_mpi.objects.gpu_sends import Departing

torch = pytest.importorskip("torch")


class CpuStream:
    """What stands for the current stream of a device that has none."""

    cuda_stream = 0

    def __init__(self, device):
        assert device.type == "cpu"


@pytest.fixture
def sizes(monkeypatch):
    """Torch's host memory is taken for a GPU's: the sizes of what goes beside the streams."""
    sent = []
    add = Departing.add

    def noted(self, library, block, address=0):
        sent.append((library, block.nbytes))
        return add(self, library, block, address)

    known = dict(copyreg.dispatch_table)
    monkeypatch.setattr(gpu_libraries, "_DEVICE", "cpu")
    monkeypatch.setattr(gpu_libraries, "_met", True)
    monkeypatch.setattr(gpu_libraries, "_unmet", ())
    monkeypatch.setattr(Departing, "takes", lambda *_: True)
    monkeypatch.setattr(Departing, "add", noted)
    monkeypatch.setattr(torch.version, "cuda", "0.0")
    monkeypatch.setattr(torch.cuda, "current_stream", CpuStream)
    assert gpu_libraries._meet_torch(torch)
    yield sent
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(known)


@pytest.fixture
def comm():
    comm = MPI.COMM_SELF.Dup()
    yield comm
    comm.Free()


def sent_to_itself(comm, obj):
    request = comm.isend(obj, 0, 1)
    got = comm.recv(source=0, tag=1)
    request.wait()
    return got


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(10, dtype=torch.bfloat16),
        torch.arange(12.0).reshape(3, 4).t(),
        torch.tensor(3),
        torch.zeros(0, 3),
        torch.ones(5, requires_grad=True),
        torch.nn.Parameter(torch.arange(4.0)),
        torch.arange(6).to_sparse(),
        torch.tensor([1 + 2j, 3]).conj(),
        torch.tensor([3, 4], dtype=torch.uint16),
    ],
    ids=lambda tensor: str(tensor.dtype),
)
def test_a_tensor_is_what_it_was(comm, sizes, tensor):
    got = sent_to_itself(comm, {"x": tensor})["x"]
    assert type(got) is type(tensor)
    assert got.dtype == tensor.dtype
    assert got.requires_grad == tensor.requires_grad
    assert got.layout == tensor.layout
    if not tensor.is_sparse:
        assert got.stride() == tensor.stride()
    assert got.detach().to_dense().tolist() == tensor.detach().to_dense().tolist()
    assert {library for library, _ in sizes} == {"torch"}


def test_tensors_that_share_their_memory_go_once_and_share_it_again(comm, sizes):
    whole = torch.zeros(1000)
    a, b, again = sent_to_itself(comm, [whole[:500], whole[250:], whole])
    assert sizes == [("torch", 4000)]
    a[300] = 7
    assert b[50] == 7
    assert again[300] == 7
    assert whole[300] == 0


def test_what_isend_was_given_may_be_changed_at_once(comm, sizes):
    tensor = torch.arange(100_000)
    request = comm.isend(tensor, 0, 1)
    tensor.zero_()
    assert torch.equal(comm.recv(source=0, tag=1), torch.arange(100_000))
    request.wait()
    assert len(sizes) == 1


def test_a_module_goes_with_its_parameters(comm, sizes):
    module = torch.nn.Linear(30, 20)
    got = sent_to_itself(comm, module)
    for mine, theirs in zip(module.parameters(), got.parameters(), strict=True):
        assert isinstance(theirs, torch.nn.Parameter)
        assert torch.equal(mine, theirs)
    assert sorted(sizes) == [("torch", 80), ("torch", 2400)]


def test_a_tensor_of_the_host_pickles_itself(comm, monkeypatch, sizes):
    monkeypatch.setattr(gpu_libraries, "_DEVICE", "cuda")
    assert sent_to_itself(comm, torch.arange(5)).tolist() == [0, 1, 2, 3, 4]
    assert sizes == []


def test_a_torch_without_cuda_is_left_alone(monkeypatch):
    monkeypatch.setattr(gpu_libraries, "_met", False)
    monkeypatch.setattr(gpu_libraries, "_looked_at", -1)
    monkeypatch.setattr(gpu_libraries, "_unmet", ("torch",))
    monkeypatch.setattr(torch.version, "cuda", None)
    assert not gpu_libraries.met()
    assert gpu_libraries._unmet == ()


def test_a_library_that_is_still_being_imported_is_met_later(monkeypatch):
    monkeypatch.setattr(gpu_libraries, "_met", False)
    monkeypatch.setattr(gpu_libraries, "_looked_at", -1)
    monkeypatch.setattr(gpu_libraries, "_unmet", ("cupy",))
    monkeypatch.setitem(sys.modules, "cupy", object())
    assert not gpu_libraries.met()
    assert "cupy" in gpu_libraries._unmet
