"""The result as JSON: the numbers, and what is needed to compare them with another run's."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooncake_mpi.bench.sampling import Statistics
from mooncake_mpi.bench.table import Row, Table

if TYPE_CHECKING:
    from mooncake_mpi.bench.options import BenchOptions


@dataclass(frozen=True)
class Job:
    """Where the ranks ran."""

    #: The name of each rank's host.
    hosts: tuple[str, ...]
    #: What was done to keep them on their cores, in words.
    pinning: str


def versions() -> dict[str, str]:
    """The versions of what is measured and of what takes part."""
    found = {"python": platform.python_version()}
    for name in ("mooncake_mpi", "mpi4py", "numpy", "torch", "cupy"):
        module = sys.modules.get(name)
        if module is not None:
            found[name] = str(getattr(module, "__version__", "unknown"))
    return found


def processor_name() -> str:
    """The CPU's model name, or the architecture where /proc does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def machine() -> dict[str, Any]:
    """What the numbers depend on outside the program."""
    return {
        "processor": processor_name(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
    }


def document(
    command: str, options: BenchOptions, table: Table, library: str, job: Job
) -> dict[str, Any]:
    """Everything about one run, ready for JSON."""
    return {
        "benchmark": command,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine(),
        "versions": versions(),
        "ranks": len(job.hosts),
        "hosts": list(job.hosts),
        "pinning": job.pinning,
        "mpi_library": library,
        "options": asdict(options),
        "table": asdict(table),
    }


def table_of(content: dict[str, Any]) -> Table:
    """The table of a document that was read back from JSON."""
    fields = dict(content["table"])
    rows = tuple(
        Row(
            row["label"],
            tuple(Statistics(**each) for each in row["statistics"]),
            row["size_bytes"],
            row.get("path"),
        )
        for row in fields.pop("rows")
    )
    return Table(rows=rows, **{**fields, "peers": tuple(fields["peers"])})


def write(path: str, content: dict[str, Any]) -> None:
    """Write the document to ``path``.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False)
    Path(path).write_text(text + "\n", encoding="utf-8")
