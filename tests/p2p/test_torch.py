"""PyTorch CPU tensors travel like arrays, types without a NumPy twin too."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from subject import MPI, ring_of  # noqa: E402

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]


def values(count, dtype, seed=0):
    return torch.arange(seed, seed + count, dtype=torch.int64).remainder(100).to(dtype)


@pytest.mark.parametrize("count", [0, 1, 1000, 300_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_of_any_type_arrives_equal(comm, dtype, count):
    dest, source = ring_of(comm)
    into = torch.zeros(count, dtype=dtype)
    status = MPI.Status()
    request = comm.Isend(values(count, dtype, comm.rank), dest, 1)
    comm.Recv(into, source, 1, status)
    request.Wait()
    assert torch.equal(into, values(count, dtype, source))
    assert status.Get_count(MPI.BYTE) == count * into.element_size()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64], ids=str)
def test_tensors_travel_by_every_kind_of_call(comm, dtype):
    dest, source = ring_of(comm)
    out, into = values(50, dtype, comm.rank), torch.zeros(50, dtype=dtype)
    comm.Sendrecv(out, dest, 0, into, source, 0)
    assert torch.equal(into, values(50, dtype, source))
    into.zero_()
    receive = comm.Irecv(into, source, 1)
    send = comm.Isend(out, dest, 1)
    MPI.Request.Waitall([receive, send])
    assert torch.equal(into, values(50, dtype, source))
    into.zero_()
    receive, send = comm.Recv_init(into, source, 2), comm.Send_init(out, dest, 2)
    MPI.Prequest.Startall([receive, send])
    MPI.Request.Waitall([receive, send])
    assert torch.equal(into, values(50, dtype, source))
    receive.Free()
    send.Free()
    request = comm.Isend(out, dest, 3)
    into.zero_()
    comm.Mprobe(source, 3).Recv(into)
    request.Wait()
    assert torch.equal(into, values(50, dtype, source))
    request = comm.isend({"tensor": out}, dest, 4)
    assert torch.equal(comm.recv(source=source, tag=4)["tensor"], values(50, dtype, source))
    request.wait()


@pytest.mark.parametrize(
    "make",
    [lambda t: t.reshape(2, 3, 4).transpose(0, 1), lambda t: t[:, ::2]],
    ids=["transposed", "strided"],
)
def test_a_tensor_with_gaps_is_refused_and_the_message_says_what_to_do(comm, make):
    tensor = make(torch.zeros(6, 4))
    with pytest.raises((BufferError, ValueError), match="contiguous"):
        comm.Send(tensor, comm.rank)
    with pytest.raises((BufferError, ValueError), match="contiguous"):
        comm.Recv(tensor, comm.rank)


def test_a_contiguous_part_of_a_tensor_travels_alone(comm):
    dest, source = ring_of(comm)
    into = torch.full((10, 4), -1, dtype=torch.bfloat16)
    request = comm.Isend(values(40, torch.bfloat16).reshape(10, 4)[3:5], dest, 1)
    comm.Recv(into[7:9], source, 1)
    request.Wait()
    assert torch.equal(into[7:9].ravel(), values(8, torch.bfloat16, 12))
    assert (into[:7] == -1).all()
    assert (into[9:] == -1).all()


def test_a_numpy_array_is_received_into_a_tensor_of_its_type(comm):
    import numpy as np

    dest, source = ring_of(comm)
    into = torch.zeros(100, dtype=torch.float64)
    request = comm.Isend(np.arange(100.0), dest, 1)
    comm.Recv(into, source, 1)
    request.Wait()
    assert np.array_equal(into.numpy(), np.arange(100.0))


def test_a_tensor_that_needs_gradients_is_refused_or_detached_like_any_dlpack_export(comm):
    tensor = torch.zeros(4, requires_grad=True)
    with pytest.raises((BufferError, RuntimeError)):
        comm.Send(tensor, comm.rank)


REFUSED = {
    "a conjugate view": lambda: torch.ones(4, dtype=torch.complex64).conj(),
    "a negative view": lambda: torch.ones(4, dtype=torch.complex64).conj().imag,
    "needs gradients": lambda: torch.zeros(4, requires_grad=True),
    "columns": lambda: torch.zeros(3, 5)[:, :2],
    "reversed rows": lambda: torch.zeros(4, 6)[::2],
    "sparse": lambda: torch.eye(3).to_sparse(),
    "no memory": lambda: torch.empty(4, device="meta"),
    "a parameter": lambda: torch.nn.Parameter(torch.zeros(4)),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_a_tensor_whose_memory_does_not_hold_its_values_is_refused_at_every_call(comm, make):
    """The engine reads tensors by itself once it has seen one: both ways refuse the same."""
    comm.Isend(torch.zeros(2), MPI.PROC_NULL)
    for _ in range(3):
        request = comm.Isend(torch.ones(2), comm.rank)
        comm.Recv(torch.zeros(2), comm.rank)
        request.Wait()
        with pytest.raises((BufferError, RuntimeError, TypeError, ValueError)):
            comm.Isend(make(), comm.rank)
        with pytest.raises((BufferError, RuntimeError, TypeError, ValueError)):
            comm.Irecv(make(), comm.rank)


def test_tensors_of_any_shape_travel_whole(comm):
    dest, source = ring_of(comm)
    for shape in [(), (1,), (0, 3), (3, 1, 5), (1, 1), (2, 3, 4, 5)]:
        into = torch.full(shape, -1.0)
        request = comm.Isend(torch.full(shape, float(comm.rank)), dest, 1)
        comm.Recv(into, source, 1)
        request.Wait()
        assert torch.equal(into, torch.full(shape, float(source)))


def test_a_count_of_a_tensor_is_in_its_elements_or_in_bytes_of_a_type_that_mpi_lacks(comm):
    for _ in range(2):
        for dtype, length in [(torch.float64, 24), (torch.complex64, 24), (torch.bfloat16, 3)]:
            into = torch.zeros(8, dtype=dtype)
            status = MPI.Status()
            request = comm.Isend([torch.ones(8, dtype=dtype), 3], comm.rank)
            comm.Recv(into, comm.rank, 0, status)
            request.Wait()
            assert status.Get_count(MPI.BYTE) == length
