"""Messages between arrays of GPUs, on a libcuda that needs none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# arrays, and fake_cuda, which is not of these tests alone
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import fake_cuda

# Before any test has made a communicator: the engine reads its settings then.
os.environ.setdefault("MOONCAKE_MPI_CUDA_LIBRARY", str(fake_cuda.path()))


@pytest.fixture
def made():
    """Makes arrays of a GPU and gives their memory back."""
    arrays = []

    def make(shape, dtype="u1", device=0, **options):
        arrays.append(fake_cuda.array(shape, dtype, device, **options))
        return arrays[-1]

    yield make
    for array in arrays:
        array.free()


@pytest.fixture
def stream():
    """A stream of the first GPU."""
    new = fake_cuda.Stream(0)
    yield new
    new.let_go()
    new.synchronize()
    new.destroy()
