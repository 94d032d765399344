"""The command line: ``mooncake-mpi {run,info,doctor,bench}``, or ``python -m mooncake_mpi``."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Command -> what it is for. Each has a module of its name with ``main(arguments) -> int``, so that
#: ``run`` loads nothing that the program does not.
COMMANDS = {
    "run": "run a Python program with mpi4py.MPI replaced",
    "info": "show versions, the MPI library, lanes and settings",
    "doctor": "check that messages travel, or say what a job that hangs waits for",
    "bench": "measure latency and bandwidth against the MPI library",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with its status.

    Raises:
        SystemExit: always, with one line where the package is not whole or a setting is wrong;
            whatever else the user's program raises under ``run`` passes through.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments[:1])
    if options.command is None:
        _parser().error("a command is needed: " + ", ".join(COMMANDS))
    _look()
    command = import_module(f"mooncake_mpi.cli.{options.command}")
    sys.exit(command.main(arguments[1:]))


def _look() -> None:
    """End with one line where nothing could go right."""
    try:
        from mooncake_mpi import config

        config.load()
    except (ImportError, ValueError) as error:
        sys.exit(f"mooncake_mpi: {error}")


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:<8}{purpose}" for name, purpose in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="mooncake-mpi",
        usage="mpirun -n N mooncake-mpi COMMAND [ARGUMENT ...]\n"
        "       (or python -m mooncake_mpi in its place)",
        description="Messages between the processes of an MPI job.",
        epilog="\n".join(["commands (each has its own --help):", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_argument("command", nargs="?", choices=tuple(COMMANDS), metavar="COMMAND")
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from mooncake_mpi import __version__

        sys.stdout.write(f"mooncake_mpi {__version__}\n")
        parser.exit()
