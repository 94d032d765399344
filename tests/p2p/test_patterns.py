"""Random patterns of messages end as MPI's rules say, here and in the MPI library."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from plans import execute, plans, prescribed
from subject import MPI, library

EXAMPLES = 60


def run_plan(comm, plain, plan):
    """All ranks: execute with both; rank 0 gets everybody's results."""
    plan = library.COMM_WORLD.bcast(plan, root=0)
    if plan is None:
        return None
    ours = execute(MPI, comm, plan)
    theirs = execute(library, plain, plan)
    return library.COMM_WORLD.gather((ours, theirs, prescribed(plan, comm.rank)), root=0) or []


def test_random_messages_arrive_as_the_rules_and_the_mpi_library_say(comm):
    plain = library.COMM_WORLD.Dup()
    if comm.rank:
        while run_plan(comm, plain, None) is not None:
            pass
        plain.Free()
        return

    @settings(
        max_examples=max(15, EXAMPLES // comm.size),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(plan=plans(comm.size))
    def check(plan):
        for rank, (ours, theirs, right) in enumerate(run_plan(comm, plain, plan)):
            assert theirs == right, f"the MPI library on rank {rank}"
            assert ours == right, f"rank {rank}"

    try:
        check()
    finally:
        run_plan(comm, plain, None)
    plain.Free()
