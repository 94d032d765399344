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
from payload import pattern
from ways import CLOSING

IS_FAKE = os.environ.get("MOONCAKE_MPI_TEST_ARRAYS", "fake") == "fake"
if IS_FAKE:
    # Before any test has made a communicator: the engine reads its settings then.
    os.environ.setdefault("MOONCAKE_MPI_CUDA_LIBRARY", str(fake_cuda.path()))
    new_array = fake_cuda.array
else:
    sys.path.insert(0, str(Path(__file__).parents[2] / "gpu"))
    import makers

    new_array = makers.CupyArray


def pytest_configure(config):
    """What a test says of itself."""
    config.addinivalue_line("markers", "needs_push: of GPUs that reach each other")
    config.addinivalue_line("markers", "needs_thread: of the progress thread")
    config.addinivalue_line("markers", "without_thread: where there is none")


def pytest_collection_modifyitems(config, items):
    """Without what only the fake does on a real GPU, and what the job's settings leave out."""
    # Jobs that close the way between GPUs are warned of it, between any two instructions.
    ignore = pytest.mark.filterwarnings("ignore::mooncake_mpi.DetourWarning")
    for item in items:
        item.add_marker(ignore)
    has_thread = os.environ.get("MOONCAKE_MPI_PROGRESS_THREAD") != "0"
    out = {
        "fake": not IS_FAKE,
        "needs_thread": not has_thread,
        "without_thread": has_thread,
        "needs_push": not CLOSING.isdisjoint(os.environ),
    }
    kept = [
        item
        for item in items
        if not any(out[name] and item.get_closest_marker(name) for name in out)
    ]
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


@pytest.fixture
def streams():
    """Makes streams of the first GPU."""
    made = []

    def make(count):
        made.extend(fake_cuda.Stream(0) for _ in range(count))
        return made[-count:]

    yield make
    for stream in made:
        stream.let_go()
        stream.synchronize()
        stream.destroy()


@pytest.fixture
def queue(made):
    """Puts a pattern into an array, in a stream's order."""

    def put(array, seed, stream):
        source = made(array.nbytes).set(pattern(array.nbytes, seed))
        fake_cuda.copy_async(array, source, stream)

    return put
