"""Tests over several hosts of one machine (scripts/hosts): run them without mpirun, in one process, as root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "scripts" / "lib" / "hosts")]

from hosted import Hosts  # noqa: E402
from jobs import is_open_mpi  # noqa: E402
from programs import PORTS, PRELUDE  # noqa: E402

AGAINST_MPI = os.environ.get("MOONCAKE_MPI_TEST_AGAINST") == "mpi"
LONG = "MOONCAKE_MPI_TEST_LONG" in os.environ


def pytest_configure(config):
    config.addinivalue_line("markers", "ours: a promise that the MPI library does not make")
    config.addinivalue_line("markers", "long: minutes; set MOONCAKE_MPI_TEST_LONG=1")


def pytest_collection_modifyitems(config, items):
    """Where the MPI library is under test, leave out what it does not promise."""
    names = [name for name, no in (("ours", AGAINST_MPI), ("long", not LONG)) if no]
    left_out = [item for item in items if any(map(item.get_closest_marker, names))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


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


@pytest.fixture
def play(tmp_path):
    """Runs a program on ranks of several hosts; gives what each of some ranks told, by rank."""

    def run_program(hosts, ranks, text, tellers, timeout=90, per_host=1, environment=None):
        path = tmp_path / "program.py"
        path.write_text(PRELUDE + text)
        told = tmp_path / "told"
        told.mkdir()
        variables = {
            "TOLD_FOLDER": str(told),
            "MOONCAKE_MPI_TCP_PORTS": f"{PORTS[0]}-{PORTS[1]}",
            **(environment or {}),
        }
        job, output = hosts.start_job(
            ranks,
            path,
            per_host=per_host,
            environment=variables,
            options=["--with-ft", "ulfm"] if is_open_mpi() else ["-disable-auto-cleanup"],
        )
        try:
            status = job.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        hosts.clear()
        output.seek(0)
        shown = output.read()
        results = {"output": shown, "status": status}
        for rank in tellers:
            file = told / f"result-{rank}"
            assert file.exists(), f"rank {rank} told nothing, status {status}:\n{shown}"
            results[rank] = json.loads(file.read_text())
        return results

    return run_program
