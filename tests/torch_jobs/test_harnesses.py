"""The base classes of torch's own distributed tests, for those who test on this backend with them."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import sys
import torch
import torch.distributed as dist
from torch.testing._internal.common_distributed import DistributedTestBase, MultiProcContinuousTest
from torch.testing._internal.common_utils import run_tests

import mooncake_mpi.torch

class Continuous(MultiProcContinuousTest):
    world_size = 2

    @classmethod
    def backend_str(cls):
        return "mooncake_mpi"

    @classmethod
    def device_type(cls):
        return "cpu"

    def test_messages(self):
        work = dist.isend(torch.full((3,), float(self.rank)), 1 - self.rank)
        into = torch.zeros(3)
        self.assertEqual(dist.recv(into), 1 - self.rank)
        work.wait()
        self.assertEqual(into, torch.full((3,), 1.0 - self.rank))

    def test_collectives(self):
        total = torch.ones(3)
        dist.all_reduce(total, group=self.pg)
        self.assertEqual(total, torch.full((3,), 2.0))

class Spawned(DistributedTestBase):
    @property
    def world_size(self):
        return 2

    def backend(self, device):
        return "mooncake_mpi"

    def test_collectives(self):
        group = self.create_pg("cpu", 2)
        total = torch.ones(3)
        dist.all_reduce(total, group=group)
        self.assertEqual(total, torch.full((3,), 2.0))
        assert "mpi4py" not in sys.modules

if __name__ == "__main__":
    run_tests()
"""


def test_processes_that_torchs_harnesses_start(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    variables = dict(os.environ, OMP_NUM_THREADS="1")
    variables.pop("CI", None)  # torch's runner would want a package of its own there
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        env=variables,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 3 tests" in done.stderr, done.stderr
