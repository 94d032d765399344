"""The figures of scripts/gpu: messages of GPU arrays beside the bare copy engine and NCCL.

Every figure is shown and written as soon as it is there: what comes to its end early keeps them.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time

faulthandler.enable()
faulthandler.dump_traceback_later(
    float(os.environ.get("MOONCAKE_MPI_GPU_SECONDS", "100")), exit=True
)
os.environ.setdefault("MOONCAKE_MPI_TIMEOUT_S", "10")
os.environ.setdefault("MOONCAKE_MPI_FINALIZE_TIMEOUT_S", "3")
STARTED = time.monotonic()

import argparse
import json
import traceback
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from mpi4py import MPI as library  # noqa: N811

import mooncake_mpi
from mooncake_mpi.bench import methods
from mooncake_mpi.bench.memories import Memory
from mooncake_mpi.bench.options import BenchOptions, OptionError, size_name
from mooncake_mpi.bench.peers import Peer, open_peers

KIB, MIB = 1 << 10, 1 << 20
SAMPLES = 5
TURN_SECONDS = 0.04


class Figures:
    """What was measured, a line a figure."""

    def __init__(self, world: library.Intracomm, options: argparse.Namespace) -> None:
        self.world = world
        self.rank = world.Get_rank()
        self.options = options
        self.lines: list[str] = []
        self.values: list[dict[str, object]] = []

    def has_time(self) -> bool:
        """Whether another figure may begin; the same on all ranks."""
        left = self.options.seconds - (time.monotonic() - STARTED)
        return bool(self.world.bcast(left > 1))

    def say(self, text: str) -> None:
        """Show a line, and write down all so far."""
        if self.rank:
            return
        print(text, flush=True)
        self.lines.append(text)
        Path(f"{self.options.out}.txt").write_text("\n".join([*self.lines, ""]))
        content = json.dumps({"figures": self.values}, indent=1)
        Path(f"{self.options.out}.json").write_text(content + "\n")

    def add(self, what: str, unit: str, found: dict[str, list[float]]) -> None:
        """A figure: the medians, the fastest first named."""
        middle = {name: median(values) for name, values in found.items()}
        self.values.append({"what": what, "unit": unit, "median": middle, "samples": found})
        shown = "  ".join(f"{name} {value:,.4g}" for name, value in middle.items())
        self.say(f"{what:34} {unit:5} {shown}")

    def measure(self, what: str, unit: str, peers: tuple[Peer, ...], trial, quantity) -> None:
        """``trial(peer, count)`` gives seconds; peers take turns."""
        if not self.has_time():
            self.say(f"{what:34} left out: no time")
            return
        counts, found = {}, {peer.name: [] for peer in peers}
        for peer in peers:
            self.world.Barrier()
            trial(peer, 1)
            each = trial(peer, 1)
            counts[peer.name] = self.world.bcast(
                max(1, min(1000, int(TURN_SECONDS / max(each, 1e-7))))
            )
        for _ in range(SAMPLES):
            for peer in peers:
                self.world.Barrier()
                count = counts[peer.name]
                found[peer.name].append(quantity(trial(peer, count) / count))
        self.add(what, unit, found)


def buffers_of(peers: tuple[Peer, ...], size: int) -> dict[str, tuple[object, object]]:
    """A buffer to send and one to receive into, for each peer the same memory."""
    memory = peers[0].memory
    pair = memory.new(size), memory.new(size)
    return {peer.name: (peer.adapt(pair[0]), peer.adapt(pair[1])) for peer in peers}


def forget(peers: tuple[Peer, ...]) -> None:
    """Between sizes: the copy engine's targets."""
    for peer in peers:
        if hasattr(peer.comm, "forget"):
            peer.comm.forget()


def half_round_trips(figures: Figures, peers: tuple[Peer, ...]) -> None:
    """As a program sees it that waits for each message."""
    for size in (8, KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB):
        buffers = buffers_of(peers, size)

        def trial(peer: Peer, count: int, buffers=buffers) -> float:
            out, into = buffers[peer.name]
            return methods.ping_pong(
                peer.comm, out, into, 1 - figures.rank, figures.rank == 0, count
            )

        figures.measure(
            f"half round trip {size_name(size)}", "us", peers, trial, lambda s: s / 2 * 1e6
        )
        forget(peers)


def close_round_trips(figures: Figures, peers: tuple[Peer, ...]) -> None:
    """Small ones within gpu_latency(): ours alone have that."""
    ours = peers[:1]
    for size in (8, KIB, 64 * KIB):
        buffers = buffers_of(ours, size)[ours[0].name]

        def trial(peer: Peer, count: int, buffers=buffers) -> float:
            with mooncake_mpi.gpu_latency():
                return methods.ping_pong(
                    peer.comm, *buffers, 1 - figures.rank, figures.rank == 0, count
                )

        figures.measure(
            f"with gpu_latency(): {size_name(size)}", "us", ours, trial, lambda s: s / 2 * 1e6
        )


def windows(figures: Figures, peers: tuple[Peer, ...]) -> None:
    """One way, many at once."""
    for size, window in ((MIB, 64), (16 * MIB, 16), (256 * MIB, 4)):
        buffers = buffers_of(peers, size)

        def trial(peer: Peer, count: int, buffers=buffers, window=window) -> float:
            return methods.windowed_stream(
                peer, buffers[peer.name][figures.rank], window, 1 - figures.rank,
                figures.rank == 0, count,
            )  # fmt: skip

        figures.measure(
            f"one way {size_name(size)}, {window} at once", "GB/s", peers, trial,
            lambda s, moved=size * window: moved / s / 1e9,
        )  # fmt: skip
        forget(peers)


def both_ways(figures: Figures, peers: tuple[Peer, ...]) -> None:
    """Both directions at once, together."""
    size, window = 256 * MIB, 2
    buffers = buffers_of(peers, size)

    def trial(peer: Peer, count: int) -> float:
        out, into = buffers[peer.name]
        return methods.windowed_exchange(peer, out, into, window, 1 - figures.rank, count)

    figures.measure(
        f"both ways {size_name(size)}, {window} at once", "GB/s", peers, trial,
        lambda s: 2 * size * window / s / 1e9,
    )  # fmt: skip
    forget(peers)


def in_stream_order(figures: Figures, peers: tuple[Peer, ...]) -> None:
    """Messages that streams wait for, with no host in between; the peers that have such calls."""
    import cupy

    peers = tuple(peer for peer in peers if hasattr(peer.comm, "Send_enqueue"))
    stream = cupy.cuda.Stream(non_blocking=True)
    other, first = 1 - figures.rank, figures.rank == 0
    for size in (8, 64 * KIB, MIB):
        buffers = buffers_of(peers, size)

        def chain(peer: Peer, count: int, buffers=buffers) -> float:
            out, into = buffers[peer.name]
            count = min(count, 200)
            start = time.perf_counter()
            for _ in range(count):
                if first:
                    peer.comm.Send_enqueue(out, other, 1, stream=stream.ptr)
                    peer.comm.Recv_enqueue(into, other, 1, stream=stream.ptr)
                else:
                    peer.comm.Recv_enqueue(into, other, 1, stream=stream.ptr)
                    peer.comm.Send_enqueue(into, other, 1, stream=stream.ptr)
            stream.synchronize()
            return (time.perf_counter() - start) / count

        figures.measure(
            f"stream-ordered hop {size_name(size)}", "us", peers,
            lambda peer, count, chain=chain: chain(peer, count) * count,
            lambda s: s / 2 * 1e6,
        )  # fmt: skip
    for size, window in ((16 * MIB, 16), (256 * MIB, 4)):
        buffers = buffers_of(peers, size)

        def posted(peer: Peer, count: int, buffers=buffers, window=window) -> float:
            out, into = buffers[peer.name]
            took = 0.0
            for _ in range(min(count, 10)):
                if not first:
                    for _ in range(window):
                        peer.comm.Recv_enqueue(into, other, 1, stream=stream.ptr)
                figures.world.Barrier()
                start = time.perf_counter()
                if first:
                    for _ in range(window):
                        peer.comm.Send_enqueue(out, other, 1, stream=stream.ptr)
                stream.synchronize()
                figures.world.Barrier()
                took += time.perf_counter() - start
            return took / min(count, 10) * count

        figures.measure(
            f"stream-ordered {size_name(size)}, {window} at once", "GB/s", peers, posted,
            lambda s, moved=size * window: moved / s / 1e9,
        )  # fmt: skip


def many_small(figures: Figures, peers: tuple[Peer, ...]) -> None:
    """Ten thousand in flight; NCCL's in groups of a thousand."""
    for peer in peers:
        window = 10_000 if peer is peers[0] or not peer.carries else 1_000
        buffers = buffers_of((peer,), 4 * KIB)

        def trial(peer: Peer, count: int, buffers=buffers, window=window) -> float:
            return methods.windowed_stream(
                peer, buffers[peer.name][figures.rank], window, 1 - figures.rank,
                figures.rank == 0, count,
            )  # fmt: skip

        figures.measure(
            f"4 KiB, {window:,} at once", "us", (peer,), trial,
            lambda s, window=window: s / window * 1e6,
        )  # fmt: skip


def host_and_gpu(figures: Figures, peers: tuple[Peer, ...]) -> None:
    """From the host's memory into a GPU's and back."""
    size, ours = 64 * MIB, peers[:1]
    gpu, host = ours[0].memory.new(size), Memory().new(size)
    for what, pair in (("host -> GPU", (host, gpu)), ("GPU -> host", (gpu, host))):

        def trial(peer: Peer, count: int, pair=pair) -> float:
            return methods.windowed_stream(
                peer, pair[figures.rank], 4, 1 - figures.rank, figures.rank == 0, count
            )

        figures.measure(
            f"{what} {size_name(size)}, 4 at once", "GB/s", ours, trial,
            lambda s: size * 4 / s / 1e9,
        )  # fmt: skip


def products(figures: Figures, peers: tuple[Peer, ...]) -> None:
    """How much longer a matrix product takes while messages of 256 MiB come and go."""
    import cupy

    size, edge = 256 * MIB, 8192 if cupy.__version__ != "stand-in" else 512
    if not figures.has_time():
        figures.say("matrix product beside messages: left out: no time")
        return
    some = np.random.default_rng(1).standard_normal((64, edge)).astype(np.float16)
    left, right, result = (cupy.empty((edge, edge), cupy.float16) for _ in range(3))
    for array in (left, right):
        array.set(np.tile(some, (edge // 64, 1)))
    cupy.cuda.get_current_stream().synchronize()
    working, talking = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)

    def multiply(count: int, beside) -> tuple[float, float]:
        """Milliseconds of a product, and seconds of what goes on beside them."""
        first, last = cupy.cuda.Event(), cupy.cuda.Event()
        figures.world.Barrier()
        with working:
            first.record()
            for _ in range(count):
                cupy.matmul(left, right, out=result)
            last.record()
        start = time.perf_counter()
        beside()
        took = time.perf_counter() - start
        last.synchronize()
        return cupy.cuda.get_elapsed_time(first, last) / count, took

    multiply(3, lambda: None)
    count = 40
    alone = median(multiply(count, lambda: None)[0] for _ in range(3))
    found = {"alone": [alone]}
    for peer in peers:
        buffers = buffers_of((peer,), size)[peer.name]

        def talk(messages: int, peer=peer, buffers=buffers) -> None:
            with talking:
                methods.windowed_exchange(peer, *buffers, 1, 1 - figures.rank, messages)

        talk(1)
        start = time.perf_counter()
        talk(3)
        each = (time.perf_counter() - start) / 3
        messages = figures.world.bcast(max(2, min(200, int(alone * 1e-3 * count * 1.2 / each))))
        samples = [multiply(count, lambda m=messages, t=talk: t(m)) for _ in range(3)]
        found[f"beside {peer.name}"] = [product for product, _ in samples]
        moved = median(2 * size * messages / took / 1e9 for _, took in samples)
        figures.say(f"  {messages} messages each way of {peer.name}: {moved:,.4g} GB/s both ways")
        forget(peers)
    figures.add(f"product of {edge} x {edge} fp16", "ms", found)


PLANS = (
    half_round_trips,
    close_round_trips,
    windows,
    in_stream_order,
    both_ways,
    host_and_gpu,
    many_small,
    products,
)


def main() -> int:
    """All figures that there is time for; 0 if none failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True, help="where, without .txt and .json")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--nccl", action="store_true", help="beside NCCL, not the copy engine")
    options = parser.parse_args()
    world = library.COMM_WORLD
    figures = Figures(world, options)
    nccl = ("cupy-nccl", "nccl") if find_spec("torch") else ("cupy-nccl",)
    against = nccl if options.nccl else ("copy",)
    failed = 0
    with open_peers(world, BenchOptions(memory="cupy", device="cuda", against=against)) as peers:
        figures.say(f"{', '.join(peer.name for peer in peers)}")
        if options.nccl and len(peers) == 1:
            figures.say("no NCCL to compare with")
            return 0
        for plan in PLANS:
            if options.nccl and plan is host_and_gpu:
                continue
            try:
                plan(figures, peers)
            except Exception:
                print(f"FAILED    {plan.__name__}, on rank {figures.rank}:", flush=True)
                traceback.print_exc(file=sys.stdout)
                failed += 1
            # a rank that failed must not meet others in the next figure
            failed = int(world.allreduce(failed, library.MAX))
            if failed:
                break
    if world.Get_rank() == 0:
        print(f"== {len(figures.values)} figures, {failed} failed", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    try:
        status = main()
    except OptionError as error:
        print(f"== {error}", flush=True)
        status = 1
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        status = 1
    sys.stdout.flush()
    if status:
        os._exit(1)
    faulthandler.cancel_dump_traceback_later()
    faulthandler.dump_traceback_later(10, exit=True)
