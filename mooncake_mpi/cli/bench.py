"""``python -m mooncake_mpi bench``: measure against the MPI library that started the job."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mooncake_mpi.bench.options import (
    BenchOptions,
    OptionError,
    parse_counts,
    parse_non_negative,
    parse_positive,
    parse_sizes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpi4py import MPI

    from mooncake_mpi.bench.table import Table

DESCRIPTION = """\
Compare mooncake_mpi with the MPI library that started the job, in turn in one run, under mpirun.
"""


class OneLineParser(argparse.ArgumentParser):
    """Raises what is wrong with the options instead of printing it once per rank."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse with its one-line reason."""
        raise OptionError(message)


def option_type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` with its ValueError's text shown to the user."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def make_parser() -> argparse.ArgumentParser:
    """The options of every benchmark."""
    common = OneLineParser(add_help=False)
    add = common.add_argument
    add(
        "--iterations",
        type=option_type(parse_positive),
        metavar="N",
        help="operations per set (default: by size)",
    )
    add(
        "--warmup",
        type=option_type(parse_non_negative),
        metavar="N",
        help="uncounted operations before a set",
    )
    add(
        "--repeats",
        type=option_type(parse_positive),
        default=5,
        metavar="R",
        help="sets per side (default: 5)",
    )
    add(
        "--against",
        choices=("mpi", "none"),
        default="mpi",
        help="the other side (default: the MPI library)",
    )
    add(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="a core for each rank (default: if they fit)",
    )
    add("--json", dest="json_path", metavar="FILE", help="also write the result to FILE")
    sized = OneLineParser(add_help=False)
    sized.add_argument(
        "--sizes",
        type=option_type(parse_sizes),
        default=BenchOptions.sizes,
        metavar="LIST",
        help="bytes: 1,8,64K or 1:64M in powers of four (the default)",
    )

    parser = OneLineParser(prog="python -m mooncake_mpi bench", description=DESCRIPTION)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="latency|bandwidth|ring|matching"
    )
    commands.add_parser("latency", parents=[sized, common], help="half round trip of a ping-pong")
    bandwidth = commands.add_parser(
        "bandwidth", parents=[sized, common], help="one-way windows of messages"
    )
    bandwidth.add_argument(
        "--window",
        type=option_type(parse_positive),
        default=64,
        metavar="N",
        help="outstanding messages (default: 64)",
    )
    ring = commands.add_parser("ring", parents=[common], help="8 B through all ranks")
    ring.add_argument(
        "--messages",
        type=option_type(parse_positive),
        default=10_000,
        metavar="N",
        help="hops of the token (default: 10000)",
    )
    matching = commands.add_parser(
        "matching", parents=[common], help="8 B with other requests waiting"
    )
    matching.add_argument(
        "--outstanding",
        type=option_type(parse_counts),
        default=BenchOptions.outstanding,
        metavar="LIST",
        help="how many others (default: 1,100,10000)",
    )
    return parser


def parse_options(arguments: Sequence[str]) -> tuple[str, BenchOptions]:
    """Command and options.

    Raises:
        OptionError: an option makes no sense; the text says which.
        SystemExit: help was asked for.
    """
    chosen = vars(make_parser().parse_args(arguments))
    command = str(chosen.pop("command"))
    json_path = chosen.get("json_path")
    if json_path is not None and not Path(json_path).absolute().parent.is_dir():
        raise OptionError(f"argument --json: no directory for {json_path!r}")
    return command, BenchOptions(**chosen)


def tell(rank: int) -> Callable[[str], None]:
    """Progress on rank 0's standard error where that is a terminal; silence elsewhere."""
    if rank != 0 or not sys.stderr.isatty():
        return lambda _text: None
    return lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def run_command(world: MPI.Intracomm, command: str, options: BenchOptions) -> Table:
    """Measure, and show the table on rank 0; collective.

    Raises:
        OptionError: the job has the wrong number of ranks, or --pin cannot be done.
    """
    from mpi4py import MPI

    from mooncake_mpi.bench import pinning, plans, report, table
    from mooncake_mpi.bench.peers import library_name, make_peers

    rank, size = world.Get_rank(), world.Get_size()
    if command in plans.EXACTLY_TWO_RANKS and size != 2:
        raise OptionError(f"{command} needs 2 ranks and has {size}: mpirun -n 2 ...")
    pinned = "not pinned"
    if options.pin is not False:
        try:
            pinned = pinning.pin_ranks(world, required=options.pin is True)
        except ValueError as error:
            raise OptionError(f"argument --pin: {error}") from None
    progress = tell(rank)
    result = plans.PLANS[command](make_peers(options.against), options, progress)
    progress("")
    if rank == 0:
        library = library_name(MPI.Get_library_version())
        ranks = (
            f"{size} ranks, {pinned}; {library}; {report.processor_name()}, {os.cpu_count()} CPUs"
        )
        table.show(result, notes=[ranks])
        if options.json_path is not None:
            report.write(options.json_path, report.document(command, options, result, library))
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line on rank 0's standard error for impossible options."""
    try:
        command, options = parse_options(sys.argv[1:] if arguments is None else arguments)
        from mpi4py import MPI

        run_command(MPI.COMM_WORLD, command, options)
    except OptionError as error:
        from mpi4py import MPI

        if MPI.COMM_WORLD.Get_rank() == 0:
            print(f"mooncake_mpi bench: {error}", file=sys.stderr, flush=True)
        # The launcher ends the job at the first rank that leaves with an error: print first.
        MPI.COMM_WORLD.Barrier()
        return 2
    return 0
