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


def pin_ranks(comm: MPI.Intracomm, required: bool, share: bool = False) -> str:
    """Pin this rank's calling thread, and threads that it starts later; collective.

    Args:
        comm: all ranks.
        required: it is an error if there are too few cores.
        share: give each rank an equal share of its node's cores, of two at least, instead of one:
            what works in the background needs a core of its own.

    Returns:
        A few words for the report on what was done. Where the cores do not suffice, ranks stay
        where the scheduler puts them.

    Raises:
        ValueError: ``required`` and some node has too few cores.
    """
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        cores = order_cores(
            cpu for cpus in node.allgather(sorted(os.sched_getaffinity(0))) for cpu in cpus
        )
        mine = cores[node.Get_rank() :: node.Get_size()]
        smallest = comm.allreduce(len(cores) // node.Get_size(), MPI.MIN)
        if smallest >= (2 if share else 1):
            os.sched_setaffinity(0, mine if share else mine[:1])
            return "each rank pinned to " + ("its share of the cores" if share else "a core")
    finally:
        node.Free()
    few = "fewer than two cores for each rank" if share else "more ranks than cores"
    if required:
        raise ValueError(f"there are {few} on a node")
    return f"not pinned: {few}"
