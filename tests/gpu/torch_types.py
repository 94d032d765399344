"""Tensors of torch: every type, the current stream, what is refused, and CuPy at the other end."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
from harness import MPI, RANK, LeftOut, check, main, only
from kinds import Cupy, Torch

gpu = Torch()
only(0, f"rank 0: {gpu.describe()}{'  STAND-IN, NO GPU' if gpu.is_stand_in else ''}")

TYPES = ["float32", "bfloat16", "float16", "float64", "complex64", "complex128", "int64", "bool"]


def around(comm, out, into, **options):
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    status = MPI.Status()
    request = comm.Isend(out, right, 1)
    comm.Recv(into, left, 1, status)
    request.Wait()
    return left, status


def values_of(kind, size, seed):
    return (torch.arange(size, device=gpu.place) % 7 + seed).to(getattr(torch, kind))


@check
def every_type_and_size(comm):
    for kind in TYPES:
        for size in (1, 7, 2000, 100_000, 3_000_001):
            into = values_of(kind, size, 5)
            out = values_of(kind, size, comm.rank)
            left, status = around(comm, out, into)
            assert status.Get_count(MPI.BYTE) == size * out.element_size(), (kind, size)
            assert torch.equal(into, values_of(kind, size, left)), (kind, size)


@check
def several_dimensions_and_none(comm):
    for shape in [(), (0, 3), (3, 1, 5), (2, 70, 300)]:
        out = torch.full(shape, float(comm.rank), device=gpu.place)
        into = torch.full(shape, -1.0, device=gpu.place)
        left, _ = around(comm, out, into)
        assert torch.equal(into, torch.full(shape, float(left), device=gpu.place)), shape


@check
def counts_and_datatypes(comm):
    out = torch.arange(10.0, device=gpu.place) + comm.rank
    into = torch.full((10,), -1.0, device=gpu.place)
    left, _ = around(comm, [out, 6, MPI.FLOAT], [into, 6, MPI.FLOAT])
    assert into.tolist() == [*(np.arange(6.0) + left), *[-1.0] * 4]


@check
def slices_with_gaps_are_refused(comm):
    tensor = torch.zeros(8, 8, device=gpu.place)[:, ::2]
    for call in (comm.Send, comm.Irecv):
        try:
            call(tensor, comm.rank)
        except (BufferError, TypeError, ValueError):
            continue
        raise AssertionError(call)


@check
def results_of_a_product_are_sent_without_waiting(comm):
    if gpu.is_stand_in:
        raise LeftOut("torch has no GPU here")
    size = 2048
    with torch.cuda.stream(torch.cuda.Stream()):
        for turn in range(5):
            factor = torch.full((size, size), float(comm.rank + turn), device=gpu.place)
            unit = torch.eye(size, device=gpu.place)
            out, into = torch.zeros_like(factor), torch.zeros_like(factor)
            for _ in range(5):
                torch.mm(factor, unit, out=out)
            left, _ = around(comm, out, into)
            assert (into == left + turn).all(), turn


@check
def from_cupy_to_torch_and_back(comm):
    if find_spec("cupy") is None or gpu.is_stand_in:
        raise LeftOut("CuPy and torch are not both here")
    other = Cupy()
    for size in (8, 5000, 400_000, 3 << 20):
        values = np.arange(size, dtype="u1")
        ours, theirs = other.empty(size), gpu.empty(size)
        other.put(ours, values + np.uint8(RANK))
        left, _ = around(comm, ours, theirs)
        assert (gpu.get(theirs) == values + np.uint8(left)).all()
        around(comm, theirs, ours)
        assert (other.get(ours) == values + np.uint8(RANK if comm.size == 2 else left)).all()


main()
