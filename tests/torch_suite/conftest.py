"""What torch's own tests find in their environment, set before they are imported."""

from __future__ import annotations

import os
import tempfile

import pytest

pytest.importorskip("torch")

os.environ["BACKEND"] = "mooncake_mpi"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
# The job's, so that the ranks have it in common.
FOLDER = os.environ.get("MOONCAKE_MPI_LAUNCH_FOLDER") or tempfile.mkdtemp()
os.environ["TEMP_DIR"] = FOLDER
os.environ["INIT_METHOD"] = f"file://{FOLDER}/init"
for name in ("barrier", "test_dir", "init_dir"):
    os.makedirs(os.path.join(FOLDER, name), exist_ok=True)  # noqa: PTH103, PTH118


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "ignore")
