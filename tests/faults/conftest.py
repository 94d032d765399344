"""These tests start jobs and kill ranks of them: run them without mpirun, in one process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from jobs import is_open_mpi, run
from rank_programs import PRELUDE, SHELTER


@pytest.fixture
def survive(tmp_path):
    """Runs a program whose ranks may die; gives what the survivors told, by rank."""

    def run_program(ranks, text, survivors, timeout=60, environment=None, before=""):
        path = tmp_path / "program.py"
        path.write_text(before + PRELUDE + text)
        told = tmp_path / "told"
        told.mkdir()
        variables = {"FAULTS_FOLDER": str(told), **(environment or {})}
        python = (sys.executable,) if is_open_mpi() else ("/bin/sh", "-c", SHELTER, sys.executable)
        outcome = run(
            ranks, path, timeout=timeout, environment=variables, python=python, fault_tolerant=True
        )
        results = {}
        for rank in survivors:
            file = told / f"result-{rank}"
            assert file.exists(), f"rank {rank} told nothing:\n{outcome.output}"
            results[rank] = json.loads(file.read_text())
        deaths = [json.loads(file.read_text()) for file in told.glob("died-*")]
        results["died"] = max(deaths, default=None)
        results["output"] = outcome.output
        return results

    return run_program


@pytest.fixture(autouse=True)
def _no_core_files():
    import resource

    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)
