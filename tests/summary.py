"""Add up the results of all stages, and name the tests that were skipped at every size."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET


def junit_counts(path: Path) -> Counter[str]:
    """Outcomes in a JUnit file, as pytest and ctest write it."""
    counts: Counter[str] = Counter()
    for case in ET.parse(path).getroot().iter("testcase"):
        children = {child.tag for child in case}
        if children & {"failure", "error"}:
            counts["failed"] += 1
        elif "skipped" in children or case.get("status") == "notrun":
            counts["skipped"] += 1
        else:
            counts["passed"] += 1
    return counts


def in_words(counts: Counter[str]) -> str:
    """The one line that test runners end with."""
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))


def main(folder: Path) -> int:
    """Print a line for each result file and the total; 1 when something failed or never ran."""
    total: Counter[str] = Counter()
    seen: dict[str, set[str]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".xml":
            counts = junit_counts(path)
        else:
            report = json.loads(path.read_text())
            counts = Counter(report["tests"].values())
            if report["failed"] and not counts["failed"]:
                counts["failed"] += 1
            for test, outcome in report["tests"].items():
                if path.stem.startswith("p2p"):
                    seen.setdefault(test, set()).add(outcome)
        total += counts
        print(f"   {path.stem:<24} {in_words(counts)}")
    never = sorted(test for test, outcomes in seen.items() if outcomes == {"skipped"})
    for test in never:
        print(f"   never ran, at no number of ranks: {test}")
    print(in_words(total), flush=True)
    return 1 if total["failed"] or never else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
