"""Random messages between hosts that only RDMA connects, while one rail after the other comes and goes.

In the lab, for ten minutes (rails are pulled by rank 0, at least one is up at any time):

    scripts/rdma-lab --limit 900 run python tests/launch.py -n 2 --timeout 840 --stall 840 --no-tests \\
        -- tests/rdma/soak_rails.py --seconds 600

Every byte is compared, and a process's memory may not grow once it has warmed up. Other options are
those of tests/soak/soak.py, which this is but for the rails.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "soak")]

from hosts import IN_LAB, RAILS, RANK, become_a_host, change_rail  # noqa: E402

become_a_host()

SLACK = 16 << 20  # bytes that a process may grow


def resident_bytes() -> int:
    """This process's memory that is not shared."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) << 10


class Background(threading.Thread):
    """Calls ``step`` again and again until it is stopped."""

    def __init__(self, step):
        super().__init__(daemon=True)
        self.step, self.over, self.failure = step, threading.Event(), None

    def run(self):
        try:
            while not self.over.is_set():
                self.step(self.over.wait)
        except Exception as failure:  # noqa: BLE001  # stop() raises it
            self.failure = failure

    def stop(self):
        self.over.set()
        self.join()
        if self.failure is not None:
            raise self.failure


class Flapping:
    """Takes one rail down for a while, then up, then the next."""

    def __init__(self, down, up):
        self.down, self.up, self.count = down, up, 0

    def __call__(self, wait):
        rail = RAILS[self.count % len(RAILS)]
        change_rail("down", rail)
        wait(self.down)
        change_rail("up", rail)
        self.count += 1
        wait(self.up)


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--down", type=float, default=2, help="seconds that a rail is down")
    parser.add_argument("--up", type=float, default=4, help="seconds that all rails are up")
    options, others = parser.parse_known_args()
    import soak
    from mpi4py import MPI

    flapping, memory = Flapping(options.down, options.up), []

    def measure(wait):
        memory.append((time.monotonic(), resident_bytes()))
        wait(1)

    started = time.monotonic()
    threads = [Background(measure)]
    if RANK == 0 and IN_LAB:
        threads.append(Background(flapping))
    for thread in threads:
        thread.start()
    soak.main(["--seconds", str(options.seconds), "--stall", "150", *others])
    for thread in threads:
        thread.stop()
    length = time.monotonic() - started
    early = [used for at, used in memory if 0.3 < (at - started) / length < 0.5]
    late = [used for at, used in memory if (at - started) / length > 0.8]
    first, last = (statistics.median(part) if part else 0 for part in (early, late))
    everyone = MPI.COMM_WORLD.allgather((first, last))
    if RANK == 0:
        sizes = ", ".join(f"{one / 1e6:.1f} -> {two / 1e6:.1f} MB" for one, two in everyone)
        print(f"soak: rails went down {flapping.count} times; memory {sizes}", flush=True)
    assert all(two <= one + SLACK for one, two in everyone), "memory grows"


if __name__ == "__main__":
    main()
