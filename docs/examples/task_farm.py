"""Rank 0 hands out tasks; whoever is free gets the next one.

::

    mpirun -n 4 python docs/examples/task_farm.py
"""

from __future__ import annotations

import sys
from collections import Counter

from mooncake_mpi import MPI

TASKS = list(range(40))
RESULT, TASK, STOP = 1, 2, 3


def solve(task: int) -> int:
    """Some tasks take longer than others."""
    return sum(range(task * task % 10_007))


def hand_out(comm: MPI.Intracomm) -> dict[int, int]:
    """Rank 0: answer every result, from whomever it comes, with the next task."""
    results, waiting, status = {}, list(TASKS), MPI.Status()
    served: Counter[int] = Counter()
    working = comm.size - 1
    while working:
        # Matched in the order in which each rank sent; a first message has no result.
        done = comm.recv(source=MPI.ANY_SOURCE, tag=RESULT, status=status)
        if done is not None:
            task, result = done
            results[task] = result
        if waiting:
            comm.send(waiting.pop(), dest=status.source, tag=TASK)
            served[status.source] += 1
        else:
            comm.send(None, dest=status.source, tag=STOP)
            working -= 1
    print(f"{len(results)} tasks, by rank: {dict(sorted(served.items()))}")
    return results


def work(comm: MPI.Intracomm) -> None:
    """Every other rank: ask, solve, tell."""
    comm.send(None, dest=0, tag=RESULT)
    status = MPI.Status()
    while True:
        task = comm.recv(source=0, tag=MPI.ANY_TAG, status=status)
        if status.tag == STOP:
            return
        comm.send((task, solve(task)), dest=0, tag=RESULT)


def main() -> None:
    """One master, the others work."""
    comm = MPI.COMM_WORLD
    if comm.size < 2:
        sys.exit("task_farm.py needs two ranks: mpirun -n 2 ...")
    if comm.rank:
        work(comm)
    elif hand_out(comm) != {task: solve(task) for task in TASKS}:
        raise ValueError("a result is missing or wrong")


if __name__ == "__main__":
    main()
