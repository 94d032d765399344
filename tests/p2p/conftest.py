"""Fixtures of the behaviour tests, which every rank of a job runs together."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LAUNCHED = any(
    name in os.environ for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK")
)
# Tests that start jobs themselves cannot run inside one.
collect_ignore = ["outer"] if LAUNCHED else []

# The helpers beside the tests, under any import mode.
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parent))  # fake_cuda


def pytest_configure(config):
    config.addinivalue_line("markers", "ours: a promise that the MPI library does not make")
    config.addinivalue_line(
        "markers", "broken_in(*names): a promise that these MPI libraries break"
    )
    config.addinivalue_line("markers", "large: moves gigabytes")
    config.addinivalue_line("markers", "fake: needs what only the fake libcuda can do")


def pytest_collection_modifyitems(config, items):
    """Where the MPI library is under test, leave out what it does not promise or keep."""
    if os.environ.get("MOONCAKE_MPI_TEST_AGAINST") == "mpi":
        from subject import library

        vendor = library.get_vendor()[0]

        def kept(item):
            broken = any(vendor in mark.args for mark in item.iter_markers("broken_in"))
            return not (broken or item.get_closest_marker("ours"))

        config.hook.pytest_deselected(items=[item for item in items if not kept(item)])
        items[:] = [item for item in items if kept(item)]


@pytest.fixture
def comm():
    """A communicator over all ranks with a context of its own, entered by all ranks together."""
    from subject import MPI, quiet_barrier

    quiet_barrier()
    duplicate = MPI.COMM_WORLD.Dup()
    yield duplicate
    duplicate.Free()


@pytest.fixture
def wrapped(comm):
    """A communicator that was wrapped by hand, whose requests the MPI library knows."""
    from subject import AGAINST_MPI, library

    import mooncake_mpi

    world = library.COMM_WORLD if AGAINST_MPI else mooncake_mpi.Intracomm(library.COMM_WORLD)
    duplicate = world.Dup()
    yield duplicate
    library.COMM_WORLD.Barrier()
    duplicate.Free()


@pytest.fixture
def attached():
    """A buffer for buffered sends, of 4 MiB."""
    from subject import MPI

    memory = bytearray(4 << 20)
    MPI.Attach_buffer(memory)
    yield memory
    MPI.Detach_buffer()
