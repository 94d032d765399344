"""Fixtures of the tests of one process."""

from __future__ import annotations

import sys
from pathlib import Path

# The helpers beside the tests, under any import mode.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1]))  # fake_cuda
