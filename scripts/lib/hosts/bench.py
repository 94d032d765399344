"""Messages between two hosts: this library, others, and what the sockets give; they take turns.

    python bench.py --launcher openmpi=PYTHON:MPIRUN ... [--rounds 5] [--only ours,gloo] [network]

Each peer is a job of its own, in one bed; a round has a job of each. Of a round a peer's own median
counts, and the table shows the medians of the rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import launchers
import main as command_line
from bed import Bed, BedError

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
SECONDS_PER_JOB = 120
IPERF_SECONDS = 2


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library: how the table calls it, what starts it, and the variables that choose its TCP."""

    name: str
    title: str
    launcher: str | None
    program: str
    variables: dict[str, str]


PEERS = (
    Peer("ours", "mooncake_mpi", "openmpi", "ours", {}),
    Peer(
        "openmpi",
        "Open MPI, btl tcp",
        "openmpi",
        "mpi",
        {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self,tcp"},
    ),
    Peer(
        "mpich",
        "MPICH, ofi tcp",
        "mpich",
        "mpi",
        {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"},
    ),
    Peer(
        "ucx",
        "Open MPI, UCX tcp",
        "openmpi",
        "mpi",
        {"OMPI_MCA_pml": "ucx", "OMPI_MCA_pml_ucx_tls": "any", "UCX_TLS": "tcp,self"},
    ),
    Peer("gloo", "torch gloo", None, "gloo", {"GLOO_SOCKET_IFNAME": "eth0"}),
)
LIMIT = "sockets"  # pingpong.c and iperf3


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A row of the table: what is measured, in which unit, and which way is better."""

    name: str
    title: str
    unit: str
    more_is_better: bool
    scale: float = 1.0


QUANTITIES = (
    Quantity("latency_us", "8 B, half round trip", "us", more_is_better=False),
    Quantity("large_us", "64 MiB, one way", "ms", more_is_better=False, scale=1e-3),
    Quantity("windowed_mib_s", "1 MiB, 64 under way", "MiB/s", more_is_better=True),
    Quantity("rate", "8 B, 64 under way", "messages/s", more_is_better=True),
    Quantity("first_us", "8 B, first round trip", "us", more_is_better=False),
)


class Bench:
    """Two hosts, and a job of each peer in turn."""

    def __init__(self, made: Bed, launcher_of: dict[str, tuple[str, str]], folder: Path) -> None:
        self.made = made
        self.launcher_of = launcher_of
        self.folder = folder

    def run_peer(self, peer: Peer) -> dict[str, float]:
        """The numbers of one job.

        Raises:
            RuntimeError: it failed, with its last line.
        """
        python, mpirun = self.launcher_of[peer.launcher or "openmpi"]
        program = [python, str(HERE / "measure_pair.py"), peer.program]
        with (self.folder / "output").open("w+") as output:
            descriptors = (output.fileno(), output.fileno(), output.fileno())
            chosen = mpirun if peer.launcher else None
            variables = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **peer.variables}
            job = launchers.Job(
                self.made, chosen, 2, program, descriptors=descriptors, variables=variables
            )
            ended = job.ended(SECONDS_PER_JOB)
            self.made.clear()
            output.seek(0)
            text = output.read()
        for line in text.splitlines():
            if ended and job.returncode == 0 and line.startswith("measured "):
                numbers: dict[str, float] = json.loads(line.partition(" ")[2])
                return numbers
        raise RuntimeError(last_reason(text) if ended else f"not done in {SECONDS_PER_JOB} s")

    def run_sockets(self, pingpong: Path) -> dict[str, float]:
        """The numbers of C programs on the same cores."""
        address = self.made.hosts[1].ipv4
        first, second = cores_of_two()
        server = ["taskset", "-c", second, str(pingpong), "serve"]
        numbers = json.loads(
            self.beside(server, ["taskset", "-c", first, str(pingpong), "ask", address])
        )
        # iperf3 sends for a time: what it moves of 64 MiB in that is what it would need for them
        for streams, name in ((1, "one"), (4, "four")):
            server = ["taskset", "-c", second, "iperf3", "-s", "-1"]
            client = ["taskset", "-c", first, "iperf3", "-c", address, "-J", "-P", str(streams)]
            text = self.beside(server, [*client, "-t", str(IPERF_SECONDS)])
            bits = json.loads(text)["end"]["sum_received"]["bits_per_second"]
            numbers[name] = bits / 8
        return {
            "latency_us": min(numbers["latency_us"], numbers["latency_sleeping_us"]),
            "large_us": (64 << 20) / numbers["one"] * 1e6,
            "windowed_mib_s": numbers["four"] / (1 << 20),
            "rate": numbers["rate"],
            "first_us": numbers["first_us"],
        }

    def beside(self, server: list[str], client: list[str]) -> str:
        """What a client in host0 prints, with its server in host1."""
        with (self.folder / "server").open("w") as output:
            descriptors = (output.fileno(), output.fileno(), output.fileno())
            started = self.made.start("host1", server, descriptors)
            for _ in range(100):
                ended = self.made.run("host0", client, check=False)
                # iperf3 may end with 0 after an error, which it tells
                if ended.returncode == 0 and '"error"' not in ended.stdout:
                    break
                time.sleep(0.05)
            else:
                raise RuntimeError(last_reason(ended.stdout))
            started.hang_up()
        return ended.stdout


def cores_of_two() -> tuple[str, str]:
    """A core for each side, the same if there is one."""
    cores = sorted(os.sched_getaffinity(0))
    return str(cores[0]), str(cores[1 % len(cores)])


def last_reason(text: str) -> str:
    """The line of a failed job that says most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line]
    return (errors or lines or ["it said nothing"])[-1][:200]


def compile_pingpong(folder: Path) -> Path:
    """The C program.

    Raises:
        BedError: there is no compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BedError("no C compiler for pingpong.c: apt-get install gcc")
    program = folder / "pingpong"
    command = [compiler, "-O2", "-o", str(program), str(HERE / "pingpong.c")]
    subprocess.run(command, check=True)
    return program


def collect(turns: dict[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, Any]:
    """The samples of all peers, who take turns; a peer that fails is left out of the rest."""
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in turns}
    for turn in range(rounds):
        for name, measure in turns.items():
            if len(samples[name]) != turn:
                continue  # it failed before
            try:
                samples[name].append(measure())
            except (RuntimeError, OSError, ValueError) as error:
                print(f"{name}: left out: {error}", file=sys.stderr, flush=True)
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    return {name: taken for name, taken in samples.items() if len(taken) == rounds}


def markdown(samples: dict[str, list[dict[str, float]]], titles: dict[str, str]) -> str:
    """The table: medians, smallest and largest; how the first compares with each other."""
    names = list(samples)
    head = ["", *(titles[name] for name in names)]
    lines = [head, ["---", *["---:"] * len(names)]]
    for quantity in QUANTITIES:
        medians = {name: median_of(samples[name], quantity) for name in names}
        cells = [f"{quantity.title}, {quantity.unit}"]
        for name in names:
            values = [taken[quantity.name] * quantity.scale for taken in samples[name]]
            cell = f"{quantity_text(medians[name])} ({spread_text(values)})"
            if name != names[0]:
                cell += f"; {medians[names[0]] / medians[name]:.2f}"
            cells.append(cell)
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def median_of(taken: list[dict[str, float]], quantity: Quantity) -> float:
    """Of one quantity, in its unit."""
    return statistics.median(each[quantity.name] * quantity.scale for each in taken)


def spread_text(values: list[float]) -> str:
    """The smallest and the largest."""
    return f"{quantity_text(min(values))} - {quantity_text(max(values))}"


def quantity_text(value: float) -> str:
    """Three significant digits, whole numbers from 100 on."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def parse(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="hosts bench", allow_abbrev=False)
    parser.add_argument("--launcher", action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    names = [*(peer.name for peer in PEERS), LIMIT]
    parser.add_argument("--only", default=",".join(names), help="of " + ",".join(names))
    parser.add_argument("--json", type=Path)
    command_line.options_of_network(parser)
    chosen = parser.parse_args(words)
    chosen.only = chosen.only.split(",")
    for name in chosen.only:
        if name not in names:
            parser.error(f"--only: {name!r} is none of {', '.join(names)}")
    return chosen


def main(words: list[str]) -> int:
    """0, or 1 when nobody could be measured."""
    chosen = parse(words)
    launcher_of = {}
    for word in chosen.launcher:
        name, _, paths = word.partition("=")
        python, _, mpirun = paths.partition(":")
        launcher_of[name] = (python, mpirun)
    network = command_line.network_of(chosen)
    with (
        tempfile.TemporaryDirectory() as name,
        Bed(2, network, launchers.agent_variables()) as made,
    ):
        bench = Bench(made, launcher_of, Path(name))
        turns: dict[str, Callable[[], dict[str, float]]] = {}
        for peer in PEERS:
            if peer.name in chosen.only:
                turns[peer.name] = lambda peer=peer: bench.run_peer(peer)
        if LIMIT in chosen.only:
            pingpong = compile_pingpong(Path(name))
            turns[LIMIT] = lambda: bench.run_sockets(pingpong)
        samples = collect(turns, chosen.rounds)
    if not samples:
        return 1
    titles = {peer.name: peer.title for peer in PEERS} | {LIMIT: "C and iperf3"}
    print(markdown(samples, titles))
    print()
    first = titles[next(iter(samples))]
    print(f"Median of {chosen.rounds} rounds (smallest - largest); {first} / other.")
    machine = f"{processor()}, {os.cpu_count()} CPUs, Linux {platform.release()}"
    print(f"{machine}, {dt.datetime.now(tz=dt.timezone.utc):%Y-%m-%d}.")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(samples, indent=1), encoding="utf-8")
    return 0


def processor() -> str:
    """Its name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
