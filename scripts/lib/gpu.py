"""What scripts/gpu does: steps with a deadline each, a log each, and a table of how they ended."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from gpu_steps import STEPS, Step

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / "tests" / "gpu"
SECONDS = {"quick": 190, "test": 460, "bench": 460}
PR_SET_CHILD_SUBREAPER = 36
#: What a program gets to show its stacks and leave before it is killed.
GRACE_SECONDS = 4

LOOK = """
import importlib, platform, sys
print(sys.executable, platform.python_version(), flush=True)
for name in ("numpy", "mpi4py", "cupy", "torch", "nanobind", "scikit_build_core", "pytest"):
    try:
        found = importlib.import_module(name)
        print(name, getattr(found, "__version__", "?"), flush=True)
        if name == "torch":
            cuda = found.cuda
            print("  torch:", cuda.is_available(), found.version.cuda, cuda.device_count())
        if name == "cupy":
            runtime = found.cuda.runtime
            print("  cupy:", runtime.getDeviceCount(), runtime.driverGetVersion(), flush=True)
    except BaseException as error:
        print(name, repr(error), flush=True)
"""


@dataclass
class Outcome:
    """How a step ended; ``detail`` is the last line in which it says so."""

    name: str
    result: str
    seconds: float
    detail: str
    log: str


def children() -> list[int]:
    """All processes below this one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    frontier = {os.getpid()}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found += frontier
    return found


class Run:
    """The steps of one mode."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.started = time.monotonic()
        self.deadline = self.started + SECONDS[options.mode]
        self.out = Path(options.out or ROOT / "build" / "gpu" / options.mode).resolve()
        self.work = ROOT / "build" / "gpu" / "work"
        self.site = ROOT / "build" / "gpu" / "site"
        self.outcomes: list[Outcome] = []
        for folder in (self.out, self.work):
            folder.mkdir(parents=True, exist_ok=True)
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        beside = Path(sys.executable).with_name("mpirun")
        found = str(beside) if beside.exists() else (shutil.which("mpirun") or "mpirun")
        self.mpirun = os.environ.get("MPIRUN", found)

    def environment(self) -> dict[str, str]:
        """What every program gets."""
        paths = [] if self.options.installed else [str(self.site)]
        if self.options.stand_in:
            paths.append(str(GPU / "stand_in"))
        # beside these: what the machine's own PYTHONPATH says
        paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONFAULTHANDLER": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            # MPI's own messages are few: no network, no other driver of GPUs
            "OMPI_MCA_pml": "ob1",
            "OMPI_MCA_btl": "self,vader" if self.is_open_mpi_4() else "self,sm",
            "OMPI_MCA_hwloc_base_binding_policy": "none",
            "OMPI_MCA_rmaps_base_oversubscribe": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "PRTE_MCA_hwloc_default_binding_policy": "none",
            "NCCL_NVLS_ENABLE": os.environ.get("NCCL_NVLS_ENABLE", "0"),
        }
        if self.options.stand_in:
            environment |= {
                "MOONCAKE_MPI_GPU_STAND_IN": "1",
                "MOONCAKE_MPI_CUDA_LIBRARY": self.stand_in_library(),
            }
        return environment

    def is_open_mpi_4(self) -> bool:
        """Whether mpirun is of Open MPI 4, which names some things otherwise."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            shown = subprocess.run(
                [self.mpirun, "--version"], capture_output=True, text=True, timeout=10, check=False
            )
            return "(Open MPI) 4." in shown.stdout
        return True

    def stand_in_library(self) -> str:
        """The libcuda that needs no GPU."""
        sys.path.insert(0, str(ROOT / "tests"))
        import fake_cuda

        return str(fake_cuda.path())

    def ranks(self, *program: str, count: int = 2) -> list[str]:
        """A program on two ranks, or more."""
        return [self.mpirun, "-n", str(count), sys.executable, "-u", *program]

    def gpus(self) -> int:
        """Those of the machine, and two where there is one or none: they share it."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            shown = subprocess.run(
                ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False
            )
            return max(2, sum(line.startswith("GPU ") for line in shown.stdout.splitlines()))
        return 2

    def left(self) -> float:
        """Seconds until the end."""
        return self.deadline - time.monotonic()

    def make(self, step: Step, environment: dict[str, str]) -> Outcome:
        """Run a step, in its own session, until it ends or its time is over."""
        log = self.out / f"{step.name.replace(' ', '-').replace(',', '')}.log"
        limit = min(step.seconds, self.left() - 2)
        if limit < GRACE_SECONDS + 3:
            return self.note(Outcome(step.name, "no time", 0.0, "", log.name))
        environment = {
            **environment,
            "MOONCAKE_MPI_GPU_SECONDS": f"{limit - GRACE_SECONDS:.1f}",
            **step.environment,
        }
        print(f"== {step.name} ... ", end="", flush=True)
        started = time.monotonic()
        with log.open("wb") as output:
            output.write(f"$ {' '.join(step.command)}\n{step.environment}\n".encode())
            output.flush()
            try:
                process = subprocess.Popen(
                    step.command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.work,
                    env=environment,
                    start_new_session=True,
                )
                result = self.wait_for(process, limit)
            except OSError as error:
                output.write(f"{error}\n".encode())
                result = "FAILED"
        seconds = time.monotonic() - started
        outcome = Outcome(step.name, result, seconds, self.last_line(log), log.name)
        print(f"{result}, {seconds:.1f} s", flush=True)
        return self.note(outcome)

    def wait_for(self, process: subprocess.Popen[bytes], limit: float) -> str:
        """How it ended; nothing of it is left afterwards."""
        try:
            status = process.wait(limit)
            result = "ok" if status == 0 else f"FAILED ({status})"
        except subprocess.TimeoutExpired:
            result = "TIMEOUT"
            process.send_signal(signal.SIGTERM)  # mpirun ends its ranks
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        others = {background.pid for background in self.background}  # in sessions of their own
        for pid in children():
            with contextlib.suppress(OSError):
                if os.getsid(pid) not in others:
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return result

    background: tuple[subprocess.Popen[bytes], ...] = ()

    def last_line(self, log: Path) -> str:
        """The last line that begins with ==, or the last one at all."""
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if line.startswith(("== ", "launch: "))]
        return (said or lines or [""])[-1].removeprefix("== ")[:110]

    def note(self, outcome: Outcome) -> Outcome:
        """Keep it, and write down all so far."""
        self.outcomes.append(outcome)
        results = {
            "mode": self.options.mode,
            "stand_in": self.options.stand_in,
            "steps": [asdict(each) for each in self.outcomes],
        }
        (self.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        if self.options.pack:
            unfinished = Path(self.options.pack + ".unfinished")
            with tarfile.open(unfinished, "w:gz") as archive:
                archive.add(self.out, "gpu")
            unfinished.rename(self.options.pack)
        return outcome

    def look_around(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Log what this machine is, beside the build; it loads the libraries from disk, too."""
        names = ("MOONCAKE", "OMPI", "PRTE", "NCCL", "CUDA", "PYTHON", "TORCH", "LD_LIB")
        lines = [f"{k}={v}" for k, v in sorted(environment.items()) if k.startswith(names)]
        program = self.work / "look.py"
        program.write_text(LOOK)
        tools = (
            *("nvidia-smi -L", "nvidia-smi", "nvidia-smi topo -m"),
            *("cat /proc/driver/nvidia/version", "uname -a", "nproc", "free -g", "ulimit -a"),
            *("nvcc --version", f"{self.mpirun} --version"),
        )
        script = "".join(f"echo '$ {tool}'; timeout 15 {tool} 2>&1\n" for tool in tools)
        script = script.replace("timeout 15 ulimit", "ulimit")
        script += f"timeout 60 '{sys.executable}' -u '{program}' 2>&1\n"
        log = (self.out / "machine.log").open("wb")
        log.write("\n".join([*lines, ""]).encode())
        log.flush()
        return subprocess.Popen(
            ["bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.work,
            env=environment,
            start_new_session=True,
        )

    def build(self) -> Step:
        """The package, installed into a folder of its own."""
        shutil.rmtree(self.site, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps"]
        pip += ["--no-index", "--disable-pip-version-check", "--root-user-action=ignore"]
        pip += ["--config-settings=install.strip=false", "--target", str(self.site), str(ROOT)]
        jobs = {"CMAKE_BUILD_PARALLEL_LEVEL": str(len(os.sched_getaffinity(0))), "PYTHONPATH": ""}
        # CMake and ninja may be those of the environment
        jobs["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        limit = 400 if self.options.stand_in else 60
        return Step("build", pip, limit, jobs, needed=True)

    def main(self) -> int:
        """All steps; 0 if all passed."""
        if self.options.stand_in:
            self.deadline += 600
            print("STAND-IN: there is no GPU in any of this", flush=True)
        environment = self.environment()
        looking = self.look_around(environment)
        self.background = (looking,)
        go_on = True
        if not self.options.installed:
            go_on = self.make(self.build(), environment).result == "ok"
        with contextlib.suppress(subprocess.TimeoutExpired):
            looking.wait(12 if self.options.mode == "quick" else 60)
        if go_on:
            mode = "pairs" if self.options.all_pairs else self.options.mode
            for step in STEPS[mode](self):
                self.make(step, environment)
        self.report()
        return int(any(outcome.result != "ok" for outcome in self.outcomes))

    def report(self) -> None:
        """What failed in its own words, the figures, and the table of all."""
        for outcome in self.outcomes:
            if outcome.result not in {"ok", "no time"}:
                lines = (self.out / outcome.log).read_text(errors="replace").splitlines()
                wanted = [n for n, line in enumerate(lines) if line.startswith("FAILED")]
                first = wanted[0] if wanted else max(0, len(lines) - 20)
                print(f"---- {outcome.log}, from line {first + 1}")
                print("\n".join(line[:160] for line in lines[first : first + 20]))
        for figures in sorted(self.out.glob("figures*.txt")):
            print(f"---- {figures.name}\n{figures.read_text()}", end="")
        title = " (STAND-IN, NO GPU)" if self.options.stand_in else ""
        print(
            f"---- scripts/gpu {self.options.mode}{title}: {time.monotonic() - self.started:.0f} s"
        )
        for outcome in self.outcomes:
            seconds = f"{outcome.seconds:6.1f} s"
            print(f"{outcome.name:22} {outcome.result:12} {seconds}  {outcome.detail}")
        print(f"all of it: {self.out}", flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of scripts/gpu."""
    parser = argparse.ArgumentParser(prog="scripts/gpu", description=__doc__)
    parser.add_argument("mode", choices=SECONDS)
    parser.add_argument("--out", help="folder for logs and figures")
    parser.add_argument("--pack", help="a .tar.gz of that folder, renewed after each step")
    parser.add_argument("--all-pairs", action="store_true", help="of all GPUs at once, for bench")
    parser.add_argument("--installed", action="store_true", help="do not build")
    parser.add_argument("--stand-in", action="store_true", help="without a GPU")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(Run(parse(sys.argv[1:])).main())
