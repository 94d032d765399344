"""What the launcher knows of each rank: the events that the rank writes into the job's folder."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path

LOG_TAIL_LINES = 40
SEVERITY = {"skipped": 0, "passed": 1, "failed": 2}


def process_here(pid: int, namespace: int) -> int | None:
    """The process that has this id in this process namespace, by its id in ours."""
    if Path("/proc/self/ns/pid").stat().st_ino == namespace:
        return pid
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns/pid").stat().st_ino != namespace:
                continue
            ids = re.search(r"^NSpid:.*\t(\d+)$", (process / "status").read_text(), re.MULTILINE)
            if ids and int(ids.group(1)) == pid:
                return int(process.name)
    return None


class RankState:
    """The tests of one rank so far."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.rank = rank
        self._folder = folder
        self._offset = 0
        self.changed_at = time.monotonic()
        self.current: str | None = None
        self.outcomes: dict[str, str] = {}
        self.failures: list[tuple[str, str]] = []
        self.failed_at: dict[str, float] = {}
        self.result: int | None = None

    def read(self) -> None:
        """Take in what the rank has written since the last call; a line is an event."""
        path = self._folder / f"rank-{self.rank}.events"
        if not path.exists():
            return
        with path.open("rb") as events:
            events.seek(self._offset)
            for line in events:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._take(json.loads(line))
                self.changed_at = time.monotonic()

    def _take(self, event: dict[str, str | int]) -> None:
        test = str(event.get("test", ""))
        if event["event"] == "start":
            self.current = test
        elif event["event"] == "failed":
            self.failures.append((test, str(event["text"])))
            self.failed_at.setdefault(test, time.monotonic())
            self.outcomes[test] = "failed"
        elif event["event"] == "end":
            self.current = None
            self.outcomes.setdefault(test, str(event["outcome"]))
        elif event["event"] == "result":
            self.result = int(event["code"])

    def has_left(self, test: str) -> bool:
        """Whether this rank is no more in `test`, or does not run it at all."""
        return self.current != test or self.result is not None

    def whereabouts(self) -> str:
        """Where the rank is, in words."""
        if self.result is not None:
            return f"ended with {self.result}"
        if self.current is not None:
            return f"is in {self.current}"
        return f"is in no test, after {len(self.outcomes)}"

    def pid(self) -> int | None:
        """The rank's process, once it has said so."""
        path = self._folder / f"rank-{self.rank}.pid"
        words = path.read_text().split() if path.exists() else []
        return process_here(int(words[0]), int(words[1])) if words else None

    def log_tail(self) -> str:
        """The last lines that a rank other than 0 has printed."""
        path = self._folder / f"rank-{self.rank}.log"
        if not path.exists():
            return ""
        return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def write_report(path: Path, ranks: list[RankState], reasons: list[str]) -> None:
    """One outcome a test: failed when it failed on any rank, skipped when on all; and why."""
    tests: dict[str, str] = {}
    texts: dict[str, str] = {}
    for rank in ranks:
        for test, text in rank.failures:
            texts.setdefault(test, f"on rank {rank.rank}: {text}")
        outcomes = dict(rank.outcomes)
        if reasons and rank.current is not None:
            outcomes[rank.current] = "failed"
        for test, outcome in outcomes.items():
            if SEVERITY[outcome] >= SEVERITY[tests.get(test, "skipped")]:
                tests[test] = outcome
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"ranks": len(ranks), "failed": reasons, "tests": tests, "texts": texts}
    path.write_text(json.dumps(report, indent=1))
