"""Tests on RDMA devices: in the lab (scripts/rdma-lab) or on a machine that has some.

Every rank counts as a host of its own, and messages between ranks take the verbs lane.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "p2p")]

from hosts import IN_LAB, become_a_host  # noqa: E402

become_a_host()


def pytest_configure(config):
    config.addinivalue_line("markers", "lab: needs the rails of scripts/rdma-lab")
    config.addinivalue_line("markers", "last: ranks cannot reach each other any more after it")


def pytest_collection_modifyitems(config, items):
    """On real hardware nobody pulls the cables."""
    if not IN_LAB:
        needing = [item for item in items if item.get_closest_marker("lab")]
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture
def comm():
    """A communicator over all ranks with a context of its own, entered by all ranks together."""
    from subject import MPI, quiet_barrier

    quiet_barrier()
    duplicate = MPI.COMM_WORLD.Dup()
    yield duplicate
    duplicate.Free()
