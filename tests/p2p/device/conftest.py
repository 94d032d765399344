"""Messages between arrays of GPUs, on a libcuda that needs none.

With MOONCAKE_MPI_TEST_ARRAYS=cupy they are CuPy's on a real GPU, and what needs the fake's controls is
left out: scripts/gpu does that.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# arrays, and fake_cuda, which is not of these tests alone
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import fake_cuda

IS_FAKE = os.environ.get("MOONCAKE_MPI_TEST_ARRAYS", "fake") == "fake"
if IS_FAKE:
    # Before any test has made a communicator: the engine reads its settings then.
    os.environ.setdefault("MOONCAKE_MPI_CUDA_LIBRARY", str(fake_cuda.path()))
    new_array = fake_cuda.array
else:
    sys.path.insert(0, str(Path(__file__).parents[2] / "gpu"))
    import makers

    new_array = makers.CupyArray


def pytest_collection_modifyitems(config, items):
    """On a real GPU, without what only the fake does."""
    # Jobs that close the way between GPUs are warned of it, between any two instructions.
    ignore = pytest.mark.filterwarnings("ignore::mooncake_mpi.DetourWarning")
    for item in items:
        item.add_marker(ignore)
    if not IS_FAKE:
        kept = [item for item in items if not item.get_closest_marker("fake")]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.fixture
def made():
    """Makes arrays of a GPU and gives their memory back."""
    arrays = []

    def make(shape, dtype="u1", device=0, **options):
        arrays.append(new_array(shape, dtype, device, **options))
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
