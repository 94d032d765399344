"""Programs of torch.distributed, from their start to their end."""

from __future__ import annotations

import pytest
from jobs import run

pytest.importorskip("torch")

PROGRAM = """
import torch
import torch.distributed as dist
import mooncake_mpi.torch
dist.init_process_group("mooncake_mpi")
rank, size = dist.get_rank(), dist.get_world_size()
tensor = torch.full((1000,), float(rank))
dist.all_reduce(tensor)
assert tensor[999].item() == size * (size - 1) / 2
work = dist.isend(tensor, (rank + 1) % size, tag=1)
assert dist.recv(tensor, tag=1) == (rank - 1) % size
work.wait()
"""


@pytest.mark.parametrize("way", [(), ("-m", "mooncake_mpi", "run")], ids=["plain", "run"])
def test_a_program_ends_with_or_without_leaving_its_group(program, way, tmp_path):
    # the ends: left, not left with what runs in threads, and not left with what never comes
    path = program(
        PROGRAM
        + """
import sys, tempfile
from pathlib import Path
# what is removed by no name disturbs nobody who ends later
assert not list(Path(tempfile.gettempdir()).glob("mooncake_mpi-store-*"))
if sys.argv[1] == "left":
    dist.destroy_process_group()
else:
    dropped = dist.all_reduce(torch.ones(1_000_000), async_op=True)
    future = dist.irecv(tensor, (rank + 1) % size, tag=9).get_future()
print("end")
"""
    )
    folder = tmp_path / "temporary"
    folder.mkdir()
    for end in ("left", "not"):
        outcome = run(2, *way, path, end, environment={"TMPDIR": str(folder)})
        assert outcome.returncode == 0, outcome.output
        assert outcome.output.count("end") == 2
        assert not list(folder.glob("mooncake_mpi-store-*"))
