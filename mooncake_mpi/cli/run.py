"""``python -m mooncake_mpi run``: an unmodified mpi4py program on this engine.

Called in the command's one thread, without a lock.

It behaves as ``python -m mpi4py`` does: an exception that nobody handles, and a non-zero
``sys.exit``, end the whole job.
"""

from __future__ import annotations

import argparse
import builtins
import os
import runpy
import signal
import sys
from ast import literal_eval
from importlib.machinery import SourceFileLoader
from io import open_code
from pkgutil import get_importer
from typing import TYPE_CHECKING, Any

import mpi4py

from mooncake_mpi.cli import replace
from mooncake_mpi.memory import numpy_memory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

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
        0 when the program ran to its end; 1 when it raised an exception, which is shown, and the
        job is aborted when this process exits.

    Raises:
        SystemExit: the arguments are wrong, or the program raised it.
        KeyboardInterrupt: the program did not handle it.
    """
    program = _parse(list(arguments))
    replace.install()
    numpy_memory.install_if_set()
    try:
        _run(program)
    except SystemExit as end:
        _abort_job_at_exit(end.code)
        raise
    except KeyboardInterrupt as error:
        _abort_job_at_exit(signal.SIGINT + 128)
        _show_without_own_frames(error)
        raise
    except BaseException as error:  # noqa: BLE001 - shown as the interpreter would
        _abort_job_at_exit(1)
        error.__traceback__ = _without_own_frames(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
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
    if not arguments[0].startswith("-") and not os.path.exists(arguments[0]):  # noqa: PTH110
        sys.stderr.write(f"mooncake_mpi run: there is no {arguments[0]}\n")
        raise SystemExit(2)  # as the interpreter's
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
        _run_path(program[0])


def _run_path(path: str) -> None:
    """Run a file, a directory or a zip file; ``__file__`` is absolute, as the interpreter's."""
    if not os.path.isfile(path) or get_importer(path) is not None:  # noqa: PTH113
        runpy.run_path(path, run_name="__main__")
        return
    absolute = os.path.abspath(path)  # noqa: PTH100 - links stay what they are
    with open_code(absolute) as file:
        code = compile(file.read(), absolute, "exec", dont_inherit=True)
    namespace = _new_main()
    namespace.update(__file__=absolute, __cached__=None)
    namespace["__loader__"] = SourceFileLoader("__main__", absolute)
    exec(code, namespace)  # noqa: S102


def _run_text(text: str, filename: str) -> None:
    """Run a program given as text in a ``__main__`` module of its own."""
    exec(compile(text, filename, "exec", dont_inherit=True), _new_main())  # noqa: S102


def _new_main() -> dict[str, Any]:
    """The namespace of a ``__main__`` module that takes the place of this program's."""
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = builtins  # the module, as in a program of the interpreter's
    sys.modules["__main__"] = module
    return module.__dict__


def _without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    """What the interpreter would show: the program's frames alone."""
    own = (os.path.dirname(__file__), runpy.__file__, "<frozen runpy>")  # noqa: PTH120
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(own):
        traceback = traceback.tb_next
    return traceback


def _show_without_own_frames(error: BaseException) -> None:
    """The same of an exception that ends the interpreter, which adds the frames on its way."""
    show, traceback = sys.excepthook, _without_own_frames(error.__traceback__)

    def show_program(kind: type[BaseException], raised: BaseException, place: Any) -> None:
        if raised is error:
            raised.__traceback__ = place = traceback
        show(kind, raised, place)

    sys.excepthook = show_program


def _abort_job_at_exit(code: object) -> None:
    """If ``code`` says failure and MPI was used, have mpi4py abort the job when this one exits."""
    status = code if isinstance(code, int) else int(code is not None)
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and status:
        mpi._set_abort_status(status)
