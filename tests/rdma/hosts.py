"""Makes the ranks of one machine count as ranks of several hosts that only RDMA connects.

Also a pytest plugin (``-p hosts`` with this folder on the path), for tests that know nothing of lanes.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

RDMA_LAB = Path(__file__).parents[2] / "scripts" / "rdma-lab"
IN_LAB = Path("/run/rdma-lab").is_dir()
RAILS = (0, 1)

RANK = next(
    (
        int(os.environ[name])
        for name in ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
        if name in os.environ
    ),
    0,
)


def end_of(rank: int) -> str:
    """The end of both rails at which a rank sits."""
    return "ab"[rank % 2]


def device_names(rank: int) -> list[str]:
    """The RDMA devices of a rank: one for each rail in the lab, all of them elsewhere."""
    if IN_LAB:
        return [f"rxe{rail}{end_of(rank)}" for rail in RAILS]
    return sorted(path.name for path in Path("/sys/class/infiniband").iterdir())


def become_a_host() -> None:
    """Set this process's environment; the engine reads it when it starts."""
    os.environ["MOONCAKE_MPI_HOST_ID"] = f"host-{RANK}"
    os.environ["MOONCAKE_MPI_LANES"] = "self,verbs"
    # an emulated processor that others share may take its time
    os.environ["MOONCAKE_MPI_VERBS_TIMEOUT_S"] = "20"
    if IN_LAB:
        os.environ["MOONCAKE_MPI_VERBS_DEVICES"] = ",".join(device_names(RANK))


def change_rail(verb: str, rail: int, *arguments: str) -> None:
    """``down``, ``up`` or ``netem`` of scripts/rdma-lab."""
    subprocess.run([str(RDMA_LAB), verb, str(rail), *arguments], check=True, timeout=60)


def bytes_sent(rail: int, end: str) -> int:
    """What the interface at one end of a rail has sent so far, in bytes."""
    return int(Path(f"/sys/class/net/rail{rail}{end}/statistics/tx_bytes").read_text())
