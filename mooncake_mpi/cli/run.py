"""``python -m mooncake_mpi run``: an unmodified mpi4py program on this engine.

It behaves as ``python -m mpi4py`` does: an exception that nobody handles, and a non-zero
``sys.exit``, end the whole job.
"""

from __future__ import annotations

import argparse
import os
import runpy
import signal
import sys
from ast import literal_eval
from typing import TYPE_CHECKING, Any

import mpi4py

from mooncake_mpi import numpy_memory
from mooncake_mpi.cli import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """\
python -m mooncake_mpi run [--rc KEY=VALUE,...] PROGRAM [ARGUMENT ...]

PROGRAM is one of
  script.py    a Python file, a directory or a zip file with a __main__.py
  -m MODULE    a library module
  -c COMMAND   the text of a program
  -            a program read from standard input\
"""


def main(arguments: Sequence[str]) -> int:
    """Run the program that ``arguments`` name.

    Returns:
        0 when the program ran to its end.

    Raises:
        SystemExit: the arguments are wrong, or the program raised it.
        BaseException: what the program raised; the job is aborted when this process exits.
    """
    program = _parse(list(arguments))
    replace.install()
    numpy_memory.install_if_set()
    try:
        _run(program)
    except SystemExit as end:
        _abort_job_at_exit(end.code)
        raise
    except KeyboardInterrupt:
        _abort_job_at_exit(signal.SIGINT + 128)
        raise
    except BaseException:
        _abort_job_at_exit(1)
        raise
    return 0


def _parse(arguments: list[str]) -> list[str]:
    """Apply the mpi4py.rc settings; gives the program with its arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m mooncake_mpi run", usage=USAGE, allow_abbrev=False
    )
    parser.add_argument("--rc", "-rc", action="append", default=[], help="set mpi4py.rc.KEY")
    options: list[str] = []
    while arguments and arguments[0].startswith("-") and arguments[0] not in {"-", "-m", "-c"}:
        options.append(arguments.pop(0))
        if options[-1] in {"--rc", "-rc"} and arguments:
            options.append(arguments.pop(0))
    parsed = parser.parse_args(options)
    if not arguments:
        parser.error("no program to run")
    if arguments[0] in {"-m", "-c"} and len(arguments) < 2:
        parser.error(f"{arguments[0]} needs an argument")
    settings: dict[str, Any] = {}
    for entry in ",".join(parsed.rc).split(",") if parsed.rc else []:
        key, _, value = entry.partition("=")
        if not key or not value:
            parser.error(f"--rc: {entry!r} is not KEY=VALUE")
        settings[key] = _literal(value)
    try:
        mpi4py.rc(**settings)
    except TypeError as error:
        parser.error(f"--rc: {error}")
    return arguments


def _literal(text: str) -> Any:
    try:
        return literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _run(program: list[str]) -> None:
    """Run a program as the interpreter would, with ``sys.argv`` of its own."""
    sys.argv[:] = program
    if program[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif program[0] == "-c":
        del sys.argv[1]
        _run_text(program[1], "<string>")
    elif program[0] == "-":
        _run_text(sys.stdin.read(), "<stdin>")
    else:
        if not sys.flags.isolated:
            sys.path[0] = os.path.realpath(os.path.dirname(program[0]))  # noqa: PTH120 - as python
        runpy.run_path(program[0], run_name="__main__")


def _run_text(text: str, filename: str) -> None:
    """Run a program given as text in a ``__main__`` module of its own."""
    namespace = type(sys)("__main__")
    namespace.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = namespace
    exec(compile(text, filename, "exec", dont_inherit=True), namespace.__dict__)  # noqa: S102


def _abort_job_at_exit(code: object) -> None:
    """If ``code`` says failure and MPI was used, have mpi4py abort the job when this one exits."""
    status = code if isinstance(code, int) else int(code is not None)
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and status:
        mpi._set_abort_status(status)
