"""``python -m mooncake_mpi bench``: measure against the MPI library that started the job."""

from __future__ import annotations

import os
import platform
import sys
import textwrap
import traceback
from typing import TYPE_CHECKING

from mooncake_mpi.bench.arguments import parse_options
from mooncake_mpi.bench.options import BenchOptions, OptionError
from mooncake_mpi.bench.report import Job
from mooncake_mpi.bench.table import table_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI

    from mooncake_mpi.bench.table import Table


def run_command(world: MPI.Intracomm, command: str, options: BenchOptions) -> Table:
    """Measure, and show the table on rank 0; collective.

    Raises:
        OptionError: the job has the wrong number of ranks, or cannot do what an option asks for.
    """
    from mooncake_mpi.bench import pinning, plans, plot, table
    from mooncake_mpi.bench.peers import open_peers
    from mooncake_mpi.bench.progress import make_progress
    from mooncake_mpi.bench.session import Session

    rank, size = world.Get_rank(), world.Get_size()
    plans.require_ranks(command, size)
    plans.require_peers(command, options.against)
    if options.plot_path is not None:
        plot.require_matplotlib(options.plot_path)
    pinned = "not pinned"
    if options.pin is not False:
        try:
            pinned = pinning.pin_ranks(
                world, required=options.pin is True, share=command == "overlap"
            )
        except ValueError as error:
            raise OptionError(f"argument --pin: {error}") from None
    with open_peers(world, options) as peers:
        session = Session(world, peers, options, make_progress(rank, options.progress))
        told = None
        if rank == 0:
            labels = plans.labels_of(command, session)
            told = table.Writer(plans.heading(command, session), labels).write
        result = plans.run_plan(command, session, told)
    hosts = world.gather(platform.node())
    if hosts is not None:
        publish(command, options, result, Job(tuple(hosts), pinned))
    return result


def publish(command: str, options: BenchOptions, result: Table, job: Job) -> None:
    """What stands below the table, and the files that were asked for."""
    from mpi4py import MPI

    from mooncake_mpi.bench import plot, report
    from mooncake_mpi.bench.peers import library_name

    library = library_name(MPI.Get_library_version())
    note = (
        f"{len(job.hosts)} ranks, {job.pinning}; {library}; {report.processor_name()}, "
        f"{os.cpu_count()} CPUs"
    )
    print(textwrap.fill(note, table_width()))
    if options.json_path is not None:
        report.write(options.json_path, report.document(command, options, result, library, job))
    if options.plot_path is not None:
        plot.write(options.plot_path, result, note)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on rank 0's standard error for impossible options."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] == "startup":  # alone in its process, with options of its own
        from mooncake_mpi.bench import startup

        return startup.main(arguments[1:])
    try:
        command, options = parse_options(arguments)
        from mpi4py import MPI

        run_command(MPI.COMM_WORLD, command, options)
    except OptionError as error:
        from mpi4py import MPI

        if MPI.COMM_WORLD.Get_rank() == 0:
            print(f"mooncake_mpi bench: {error}", file=sys.stderr, flush=True)
        # The launcher ends the job at the first rank that leaves with an error: print first.
        MPI.COMM_WORLD.Barrier()
        return 2
    except Exception:
        from mpi4py import MPI

        # The other ranks may be waiting for a message of this one.
        traceback.print_exc()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(1)
        raise
    return 0
