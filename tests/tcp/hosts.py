"""Makes the ranks of one machine count as ranks of several hosts, where a program imports it first.

``MOONCAKE_MPI_TEST_HOSTS`` says of how many: ranks are dealt out to them in turn. Messages within a
host take shared memory, messages between hosts take TCP.
"""

from __future__ import annotations

import os

RANK = next(
    (
        int(os.environ[name])
        for name in ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
        if name in os.environ
    ),
    0,
)
HOSTS = int(os.environ.get("MOONCAKE_MPI_TEST_HOSTS", "2"))

os.environ["MOONCAKE_MPI_HOST_ID"] = f"host-{RANK % HOSTS}"
