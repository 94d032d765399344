"""The command line of the benchmarks.

Called in the benchmark's one thread, without a lock.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mooncake_mpi.bench import options as parsing
from mooncake_mpi.bench.options import BenchOptions, OptionError
from mooncake_mpi.bench.plans import PLANS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DESCRIPTION = """\
Compare mooncake_mpi with the MPI library that started the job, in turn in one run, under mpirun.
Alone, without mpirun: "bench startup --simulate 10000", what a job of many ranks costs to start.
"""

#: Command -> what it measures.
COMMANDS = {
    "latency": "half round trip of a ping-pong (2 ranks)",
    "bandwidth": "windows of messages one way (2 ranks)",
    "bibw": "windows of messages both ways at once (2 ranks)",
    "message-rate": "messages a second of all pairs of ranks together (even)",
    "multi-latency": "ping-pongs of all pairs of ranks at once (even)",
    "matching": "8 B ping-pong with other requests waiting (2 ranks)",
    "overlap": "how much of a transfer hides behind computation (2 ranks)",
    "ring": "8 B through all ranks (any number)",
}
SIZES = {
    "latency": parsing.DEFAULT_SIZES,
    "bandwidth": parsing.DEFAULT_SIZES,
    "bibw": parsing.DEFAULT_SIZES,
    "multi-latency": parsing.DEFAULT_SIZES,
    "message-rate": (8,),
    "overlap": parsing.OVERLAP_SIZES,
}
WINDOWED = ("bandwidth", "bibw", "message-rate")


class OneLineParser(argparse.ArgumentParser):
    """Raises what is wrong with the options instead of printing it once per rank."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse with its one-line reason."""
        raise OptionError(message)


def option_type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """``parse`` with its ValueError's text shown to the user."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


POSITIVE = option_type(parsing.parse_positive)


def make_common() -> OneLineParser:
    """The options of every benchmark."""
    common = OneLineParser(add_help=False)
    add = common.add_argument
    add("--iterations", type=POSITIVE, metavar="N", help="operations per turn (default: by size)")
    add(
        "--warmup",
        type=option_type(parsing.parse_non_negative),
        metavar="N",
        help="uncounted operations before a turn",
    )
    add("--repeats", type=POSITIVE, default=5, metavar="R", help="turns of a side (default: 5)")
    add(
        "--against",
        type=option_type(parsing.parse_against),
        metavar="LIST",
        help="the other sides: mpi (the default), gloo and nccl of torch.distributed, or none; of "
        "GPU memory nccl, cupy-nccl and copy, the bare copy engine (the default: those here)",
    )
    add(
        "--memory",
        choices=parsing.MEMORIES,
        help="what messages lie in; alloc: each library's own MPI.Alloc_mem (default: numpy; of a "
        "device cupy, or torch where there is no CuPy)",
    )
    add(
        "--device",
        type=option_type(parsing.parse_device),
        default=BenchOptions.device,
        help="cpu (the default), cuda for a GPU for each rank, or cuda:1",
    )
    add(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="a core for each rank, a share of them for overlap (default: if they fit)",
    )
    add(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="a bar on standard error (default: if it is a terminal)",
    )
    add(
        "--path",
        action="store_true",
        help="a column of the ways that our bytes took: push, pull, kernel and staged of GPUs; "
        "copy, rdma and stream; eager for small messages of the host",
    )
    add("--json", dest="json_path", metavar="FILE", help="also write the result to FILE")
    add("--plot", dest="plot_path", metavar="FILE", help="also draw the result: .png, .svg, .pdf")
    return common


def make_parser() -> argparse.ArgumentParser:
    """A sub-command for each benchmark."""
    common = make_common()
    parser = OneLineParser(prog="python -m mooncake_mpi bench", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="|".join(COMMANDS))
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, parents=[common], help=purpose, description=purpose)
        add = command.add_argument
        if name in SIZES:
            add(
                "--sizes",
                type=option_type(parsing.parse_sizes),
                default=SIZES[name],
                metavar="LIST",
                help="bytes: 1,8,64K, or 1:64M in powers of four",
            )
        if name in WINDOWED:
            add(
                "--window", type=POSITIVE, default=64, metavar="N", help="outstanding (default: 64)"
            )
        if name == "ring":
            add("--messages", type=POSITIVE, default=10_000, metavar="N", help="hops of the token")
        if name == "matching":
            add(
                "--outstanding",
                type=option_type(parsing.parse_counts),
                default=BenchOptions.outstanding,
                metavar="LIST",
                help="how many others (default: 1,100,10000)",
            )
        if name == "overlap":
            add(
                "--compute",
                type=option_type(parsing.parse_compute),
                default=BenchOptions.compute,
                metavar="LIST",
                help="numpy, which releases the GIL, and python, which holds it (default: both)",
            )
    return parser


def choose_for_device(command: str, chosen: dict[str, Any]) -> None:
    """Memory, and whom it is compared with, where the command line leaves them to the device."""
    on_gpu = chosen["device"] != "cpu" or chosen["memory"] == "cupy"
    if chosen["memory"] is None:
        chosen["memory"] = BenchOptions.memory
        if on_gpu:
            chosen["memory"] = "cupy" if find_spec("cupy") else "torch"
    if chosen["against"] is None:
        unable = dict(PLANS[command].without)
        here = tuple(name for name in gpu_peers_here() if name not in unable)
        chosen["against"] = here if on_gpu else BenchOptions.against


def gpu_peers_here() -> tuple[str, ...]:
    """What GPU memory can be compared with; an MPI library that does not know CUDA would crash."""
    parts = {"cupy-nccl": "cupy", "nccl": "torch", "copy": "cupy"}
    return tuple(name for name, module in parts.items() if find_spec(module))


def parse_options(arguments: Sequence[str]) -> tuple[str, BenchOptions]:
    """Command and options.

    Raises:
        OptionError: an option makes no sense; the text says which.
        SystemExit: help was asked for.
    """
    chosen = vars(make_parser().parse_args(arguments))
    command = str(chosen.pop("command"))
    choose_for_device(command, chosen)
    for option, name in (("--json", "json_path"), ("--plot", "plot_path")):
        path = chosen[name]
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise OptionError(f"argument {option}: no directory for {path!r}")
    return command, BenchOptions(**chosen)
