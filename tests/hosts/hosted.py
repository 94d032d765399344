"""Jobs over several hosts from a test: what tests/jobs.py is on one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faults
import launchers
from bed import Bed
from jobs import REPOSITORY, Outcome, mpirun

TALK = str(Path(__file__).with_name("talk.py"))


class Hosts(Bed):
    """A bed with jobs, and what can happen to it as methods."""

    def __init__(self, count, network=None):
        super().__init__(count, network, launchers.agent_variables())
        self.belongings = contextlib.ExitStack()  # of the test that uses them now

    def close(self):
        self.belongings.close()
        super().close()

    def start_job(
        self,
        ranks,
        *arguments,
        per_host=1,
        environment=None,
        python=(sys.executable,),
        mpi=True,
        options=(),
    ):
        """A job of Python processes, and the file with all of its output."""
        output = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115
        with open("/dev/null") as nothing:  # noqa: PTH123
            job = launchers.Job(
                self,
                mpirun() if mpi else None,
                ranks,
                [*options, *python, *map(str, arguments)],
                per_host=per_host,
                descriptors=(nothing.fileno(), output.fileno(), output.fileno()),
                variables=dict(environment or {}),
                cwd=str(REPOSITORY),
            )
        self.belongings.enter_context(output)
        return job, output

    def run_job(self, ranks, *arguments, timeout=60, **options):
        """Run a job to its end; end it and fail after ``timeout`` seconds."""
        started = time.monotonic()
        job, output = self.start_job(ranks, *arguments, **options)
        with output:
            try:
                job.wait(timeout)
            except subprocess.TimeoutExpired:
                self.clear()
                output.seek(0)
                raise AssertionError(
                    f"the job did not end in {timeout} s:\n{output.read()}"
                ) from None
            output.seek(0)
            return Outcome(job.returncode, output.read(), time.monotonic() - started)

    def python(self, host, text, *arguments, **options):
        """Run a Python program in a host; what it printed."""
        return self.run(host, [sys.executable, "-c", text, *arguments], **options).stdout

    def restore(self):
        """End what runs in the hosts, and undo cuts."""
        self.clear()
        self.belongings.close()
        for name in self.names:
            self.plug(name)
            self.run(name, ["nft", "flush", "ruleset"])

    def cut(self, first, second=None, *, one_way=False):
        faults.cut(self.folder, first, second, one_way=one_way)

    def heal(self, first, second=None):
        faults.heal(self.folder, first, second)

    def unplug(self, host):
        faults.unplug(self.folder, host)

    def plug(self, host):
        faults.plug(self.folder, host)

    def lose(self, host, part):
        faults.lose(self.folder, host, part)

    def swallow(self, host, longer_than):
        faults.swallow(self.folder, host, longer_than)

    def refuse(self, host, how="drop", ports=(20000, 20050)):
        faults.refuse(self.folder, host, *ports, how)

    def reset_connections(self, host, *condition):
        return faults.reset_connections(self.folder, host, *condition)


class Server:
    """A role of talk.py, or another program, that runs in a host and has said its first line."""

    def __init__(self, hosts, host, *words, program=TALK):
        reading, writing = os.pipe()
        with open("/dev/null") as nothing:  # noqa: PTH123
            self.process = hosts.start(
                host,
                [sys.executable, *filter(None, [program]), *words],
                (nothing.fileno(), writing, 2),
            )
        os.close(writing)
        self.lines = hosts.belongings.enter_context(os.fdopen(reading))
        self.first = self.lines.readline().strip()
