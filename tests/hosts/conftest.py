"""Tests over several hosts of one machine (scripts/hosts): run them without mpirun, in one process, as root."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "scripts" / "lib" / "hosts")]

from hosted import Hosts  # noqa: E402


@pytest.fixture(scope="module")
def two_hosts():
    """Two hosts that a module's tests share; what a test left running in them is ended."""
    with Hosts(2) as made:
        yield made


@pytest.fixture
def hosts(two_hosts):
    """The same, as nothing had happened to them."""
    yield two_hosts
    two_hosts.restore()


@pytest.fixture
def make_hosts():
    """Hosts of a test's own: make_hosts(count, Network(...))."""
    made = []

    def make(count, network=None):
        made.append(Hosts(count, network))
        return made[-1].__enter__()

    yield make
    for each in made:
        each.close()
