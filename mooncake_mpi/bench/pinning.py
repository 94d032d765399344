"""Give each rank of a node its own core: the scheduler's choices stay out of the numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpi4py import MPI


def order_cores(cpus: Iterable[int]) -> list[int]:
    """The CPUs with one hardware thread of every core first, then the second threads, and so on."""
    seen: dict[str, int] = {}
    ranked = []
    for cpu in sorted(set(cpus)):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            core = siblings.read_text().strip()
        except OSError:
            core = str(cpu)
        turn = seen.get(core, 0)
        seen[core] = turn + 1
        ranked.append((turn, cpu))
    return [cpu for _, cpu in sorted(ranked)]


def pin_ranks(comm: MPI.Intracomm, required: bool) -> str:
    """Pin this rank's calling thread, and threads that it starts later, to one core; collective.

    Returns:
        A few words for the report on what was done. Ranks that outnumber the cores of their node
        stay where the scheduler puts them.

    Raises:
        ValueError: ``required`` and some node has fewer cores than ranks.
    """
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        cores = order_cores(
            cpu for cpus in node.allgather(sorted(os.sched_getaffinity(0))) for cpu in cpus
        )
        fits = node.Get_size() <= len(cores)
        if comm.allreduce(fits, MPI.LAND):
            os.sched_setaffinity(0, {cores[node.Get_rank()]})
            return "each rank pinned to a core"
    finally:
        node.Free()
    if required:
        raise ValueError("there are more ranks than cores on a node")
    return "not pinned: more ranks than cores"
