"""What tests/launch.py starts on every rank: it reports each test; only rank 0 prints."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import runpy
import signal
import sys
import traceback
import unittest
from pathlib import Path
from typing import Any

#: Of MPI launchers, and torchrun's.
RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MPI_LOCALRANKID", "RANK")


def own_rank() -> int:
    """The rank that the launcher gave this process, known before MPI starts."""
    for name in RANK_VARIABLES:
        if name in os.environ:
            return int(os.environ[name])
    sys.exit(f"no rank in {', '.join(RANK_VARIABLES)}: start this through tests/launch.py")


class Events:
    """One line of JSON for each event; a line is written at once or not at all."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, **fields: object) -> None:
        """Append one event."""
        os.write(self._descriptor, (json.dumps({"event": event, **fields}) + "\n").encode())


class PytestEvents:
    """A pytest plugin that reports through `Events`."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._outcomes: dict[str, str] = {}

    def pytest_collectreport(self, report: Any) -> None:
        """A file that cannot be collected is a failed test."""
        if report.failed:
            self._events.write("failed", test=report.nodeid, text=report.longreprtext)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._outcomes[nodeid] = "passed"
        self._events.write("start", test=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Setup, call or teardown of a test is over."""
        if report.failed:
            self._events.write("failed", test=report.nodeid, text=report.longreprtext)
        if report.outcome != "passed":
            self._outcomes[report.nodeid] = report.outcome

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over."""
        self._events.write("end", test=nodeid, outcome=self._outcomes[nodeid])


def known_deviations() -> list[re.Pattern[str]]:
    """Tests of other projects that ask for what this one does differently on purpose."""
    lines = (Path(__file__).parent / "deviations.txt").read_text().splitlines()
    return [re.compile(line) for line in lines if line and not line.startswith("#")]


def report_unittest(events: Events) -> None:
    """Make unittest report through `events`: its result class has a method for each outcome."""
    deviations = known_deviations()
    result = unittest.TestResult
    outcomes: dict[str, str] = {}

    def wrap(name: str, report: Any) -> None:
        method = getattr(result, name)

        def wrapped(self: unittest.TestResult, test: unittest.TestCase, *rest: Any) -> Any:
            report(test.id(), *rest)
            return method(self, test, *rest)

        setattr(result, name, wrapped)

    def deviates(name: str) -> None:
        method = getattr(result, name)

        def wrapped(self: unittest.TestResult, test: unittest.TestCase, error: Any) -> None:
            if any(deviation.search(test.id()) for deviation in deviations):
                outcomes[test.id()] = "skipped"
            else:
                method(self, test, error)

        setattr(result, name, wrapped)

    def failed(test: str, error: Any) -> None:
        outcomes[test] = "failed"
        events.write("failed", test=test, text="".join(traceback.format_exception(*error)))

    def started(test: str) -> None:
        outcomes[test] = "passed"
        events.write("start", test=test)

    wrap("startTest", started)
    wrap("addError", failed)
    wrap("addFailure", failed)
    wrap("addSkip", lambda test, _reason: outcomes.update({test: "skipped"}))
    deviates("addError")
    deviates("addFailure")
    wrap("stopTest", lambda test: events.write("end", test=test, outcome=outcomes[test]))


def start_coverage(folder: str, rank: int) -> Any:
    """Measure this process; the files of all ranks are combined later."""
    import coverage

    measuring = coverage.Coverage(
        data_file=str(Path(folder) / ".coverage"),
        data_suffix=f"rank{rank}-{os.getpid()}",
        config_file=str(Path(__file__).resolve().parent.parent / "pyproject.toml"),
    )
    measuring.start()
    return measuring


def run_program(program: list[str], events: Events) -> int:
    """Do what ``python PROGRAM...`` does, in this process; return its exit status."""
    if program[:2] == ["-m", "pytest"]:
        import pytest

        return int(pytest.main(program[2:], plugins=[PytestEvents(events)]))
    try:
        if program[0] == "-m":
            sys.argv = program[1:]
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = program
            sys.path.insert(0, str(Path(program[0]).resolve().parent))
            runpy.run_path(program[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def main() -> None:
    """Report to the job's folder while the program runs."""
    rank = own_rank()
    folder = Path(os.environ["MOONCAKE_MPI_LAUNCH_FOLDER"])
    options = json.loads((folder / "options.json").read_text())
    # a process id means something in its namespace only
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    (folder / f"rank-{rank}.pid").write_text(f"{os.getpid()} {namespace}")
    if rank:
        log = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
    # of its own: pytests of several processes remove each other's old folders
    temporary = folder / f"rank-{rank}.tmp"
    temporary.mkdir()
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(temporary)
    stacks = (folder / f"rank-{rank}.stacks").open("w")
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True, chain=False)
    events = Events(folder / f"rank-{rank}.events")
    if options["unittest"]:
        report_unittest(events)
    del sys.path[0]  # this folder, which the program has not asked for
    measuring = start_coverage(options["coverage"], rank) if options["coverage"] else None
    code = run_program(sys.argv[1:], events)
    if measuring is not None:
        measuring.stop()
        measuring.save()
    events.write("result", code=code)
    # The launcher judges by the event; a status other than 0 would make mpirun kill other ranks.


if __name__ == "__main__":
    main()
