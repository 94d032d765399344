"""The steps of scripts/gpu: what each of its modes runs, in which order, for how long."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu import Run

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "tests" / "gpu"


@dataclass
class Step:
    """One program: what it is called, its command, and how long it may take."""

    name: str
    command: list[str]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)
    needed: bool = False


def checks(
    run: Run, name: str, seconds: float, program: str, *words: str, **environment: str
) -> Step:
    """A program of tests/gpu on two ranks."""
    return Step(name, run.ranks(str(GPU / program), *words), seconds, environment)


def figures(run: Run, name: str, seconds: float, *options: str) -> Step:
    """The figures, which are also written beside the log."""
    program = [
        str(ROOT / "scripts" / "lib" / "gpu_figures.py"),
        "--out",
        str(run.out / name),
        *options,
    ]
    return Step(name, run.ranks(*program), seconds)


def tables(run: Run, seconds: float) -> Step:
    """The tests of tests/p2p/device on arrays of CuPy."""
    plugin = (
        ["-p", "without_pytest_mpi"] if find_spec("pytest_mpi") is None else ["-p", "pytest_mpi"]
    )
    launcher = [sys.executable, "-u", str(ROOT / "tests" / "launch.py"), "-n", "2"]
    launcher += ["--mpirun", run.mpirun, "--timeout", f"{seconds - 10:.0f}", "--stall", "30"]
    pytest = ["-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *plugin, "--with-mpi", "-q"]
    pytest += ["-p", "no:cacheprovider", "-W", "default", "--tb=short", "--maxfail=5"]
    pytest += [str(ROOT / "tests" / "p2p" / "device")]
    paths = os.pathsep.join([str(GPU), run.environment()["PYTHONPATH"]])
    environment = {"MOONCAKE_MPI_TEST_ARRAYS": "cupy", "PYTHONPATH": paths}
    environment["MOONCAKE_MPI_TIMEOUT_S"] = "10"
    return Step("tables of calls", [*launcher, "--", *pytest], seconds, environment)


TORCH = {"MOONCAKE_MPI_GPU_ARRAYS": "torch"}
SENDS = {"MOONCAKE_MPI_TORCH_STREAM_SENDS": "1"}
SEGMENTS = {
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}


def quick_steps(run: Run) -> list[Step]:
    """What matters most comes first."""
    return [
        checks(run, "essential cupy", 28, "essential.py"),
        checks(run, "stream order", 40, "stream_order.py"),
        checks(run, "torch types", 22, "torch_types.py"),
        figures(run, "figures-ours", 32, "--seconds", "22"),
        figures(run, "figures-nccl", 34, "--seconds", "22", "--nccl"),
        checks(run, "essential torch", 20, "essential.py", **TORCH),
        checks(run, "torch segments", 15, "essential.py", "one_", "sizes", "every_call", "order",
               "thousands", "waits", **TORCH, **SEGMENTS),
    ]  # fmt: skip


def test_steps(run: Run) -> list[Step]:
    """All that tests."""
    return [
        checks(run, "essential cupy", 90, "essential.py"),
        checks(run, "stream order", 40, "stream_order.py"),
        checks(run, "torch types", 60, "torch_types.py"),
        checks(run, "torch collectives", 60, "torch_collectives.py", **TORCH),
        checks(run, "torch waits", 60, "torch_waits.py", **TORCH),
        checks(run, "torch waits of sends", 60, "torch_waits.py", **TORCH, **SENDS),
        checks(run, "essential torch", 60, "essential.py", **TORCH),
        checks(run, "torch segments", 60, "essential.py", **TORCH, **SEGMENTS),
        tables(run, 150),
        checks(run, "staged only", 60, "essential.py", "one_", "sizes", "offsets", "every_call",
               "order", "thousands", "truncation", "waits", MOONCAKE_MPI_LANES="self,shm"),
        Step("kills", [sys.executable, "-u", str(GPU / "kills.py"), "20", "10"], 60),
        checks(run, "no progress thread", 60, "essential.py", MOONCAKE_MPI_PROGRESS_THREAD="0"),
    ]  # fmt: skip


def bench_steps(run: Run) -> list[Step]:
    """All figures, and the benchmark's own command."""
    options = ["--device", "cuda", "--repeats", "2", "--sizes", "8,64K,1M,16M", "--json"]
    tables = {
        command: [
            "-m",
            "mooncake_mpi",
            "bench",
            command,
            *options,
            str(run.out / f"{command}.json"),
        ]
        for command in ("latency", "bandwidth", "bibw")
    }
    return [
        figures(run, "figures-ours", 100, "--seconds", "60"),
        figures(run, "figures-nccl", 100, "--seconds", "60", "--nccl"),
        *(Step(f"bench {name}", run.ranks(*program), 80) for name, program in tables.items()),
    ]


def pairs_steps(run: Run) -> list[Step]:
    """All GPUs of the machine at once."""
    program = [
        str(ROOT / "scripts" / "lib" / "gpu_pairs.py"),
        "--out",
        str(run.out / "figures-pairs"),
    ]
    return [Step("figures-pairs", run.ranks(*program, count=run.gpus()), 300)]


STEPS = {"quick": quick_steps, "test": test_steps, "bench": bench_steps, "pairs": pairs_steps}
