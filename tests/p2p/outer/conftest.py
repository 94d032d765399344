"""These tests start jobs themselves: run them without mpirun, in one process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture
def program(tmp_path):
    """Writes a program and gives its path."""

    def write(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        return path

    return write
