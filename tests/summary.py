"""Add up the results of all stages; name what failed, and the tests that were skipped at every size.

What failed stands once more at the very end, where somebody who reads only the end finds it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

TEXT_LINES = 30


class Failure(NamedTuple):
    """What failed, and what it said."""

    what: str
    text: str


def read_junit(path: Path) -> tuple[Counter[str], list[Failure]]:
    """Outcomes and failures in a JUnit file, as pytest and ctest write it."""
    counts: Counter[str] = Counter()
    failures = []
    for case in ET.parse(path).getroot().iter("testcase"):
        children = {child.tag for child in case}
        if children & {"failure", "error"}:
            counts["failed"] += 1
            name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
            failures.append(Failure(name, "\n".join(filter(None, case.itertext()))))
        elif "skipped" in children or case.get("status") == "notrun":
            counts["skipped"] += 1
        else:
            counts["passed"] += 1
    return counts, failures


def read_report(report: dict[str, Any]) -> tuple[Counter[str], list[Failure]]:
    """Outcomes and failures in a report of tests/launch.py."""
    counts = Counter(report["tests"].values())
    failed = [test for test, outcome in report["tests"].items() if outcome == "failed"]
    failures = [Failure(test, report["texts"].get(test, "")) for test in failed]
    if report["failed"]:
        failures.append(Failure("the job", "\n".join(report["failed"])))
        counts["failed"] = max(counts["failed"], 1)
    return counts, failures


def in_words(counts: Counter[str]) -> str:
    """The one line that test runners end with."""
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))


def last_lines(text: str) -> str:
    """The end of a failure's text, which says most."""
    return "\n".join(text.strip().splitlines()[-TEXT_LINES:])


def main(folder: Path) -> int:
    """Print a line for each result file and the total; 1 when something failed or never ran."""
    total: Counter[str] = Counter()
    seen: dict[str, set[str]] = {}
    failures: list[tuple[str, Failure]] = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".xml":
            counts, failed = read_junit(path)
        else:
            report = json.loads(path.read_text())
            counts, failed = read_report(report)
            if path.stem.startswith("p2p"):
                for test, outcome in report["tests"].items():
                    seen.setdefault(test, set()).add(outcome)
        total += counts
        failures += [(path.stem, failure) for failure in failed]
        print(f"   {path.stem:<24} {in_words(counts)}")
    for stem, failure in failures:
        print(f"---- {stem}: {failure.what}\n{last_lines(failure.text)}")
    never = sorted(test for test, outcomes in seen.items() if outcomes == {"skipped"})
    for test in never:
        print(f"   never ran, at no number of ranks: {test}")
    print(in_words(total), flush=True)
    return 1 if total["failed"] or never else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
