"""One of three processes is killed in the middle of copies both ways, again and again; the others
hear of it, and their GPUs and their messages go on.

    python tests/gpu/kills.py [TIMES] [AT ONCE]
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SECONDS = 60
MIB = 1 << 20


def play(rank, folder, seed):
    """One of the three."""
    import torch
    import torch.distributed as dist

    import mooncake_mpi.torch  # noqa: F401  (the backend)

    chance = random.Random(seed)
    victim, size, delay = (
        chance.randrange(3),
        chance.choice([1, 16, 64]) * MIB,
        chance.random() / 50,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"  # there to try the program itself
    if device == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())
    dist.init_process_group(
        "mooncake_mpi", init_method=f"file://{folder}/store", rank=rank, world_size=3
    )

    def exchange(*peers):
        """With each of them, both ways at once."""
        out = torch.full((size,), rank, dtype=torch.uint8, device=device)
        intos = [torch.full_like(out, 9) for _ in peers]
        works = [dist.irecv(into, peer) for into, peer in zip(intos, peers, strict=True)]
        works += [dist.isend(out, peer) for peer in peers]
        for work in works:
            work.wait()
        return all(bool((into == peer).all()) for into, peer in zip(intos, peers, strict=True))

    others = [peer for peer in range(3) if peer != rank]
    assert exchange(*others)
    until = time.monotonic() + SECONDS / 2
    if rank == victim:
        end = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
        end.daemon = True
        end.start()
        while time.monotonic() < until:
            exchange(*others)
    try:
        while time.monotonic() < until:
            # what fails after a stream has come to wait for it, is told by the next call
            if not exchange(victim):
                exchange(victim)
                sys.exit("wrong bytes, of which nobody heard")
    except RuntimeError as error:
        said = str(error)
    else:
        sys.exit("nobody heard of it")
    assert f"rank {victim}" in said, said
    for _ in range(3):
        assert exchange(*(peer for peer in others if peer != victim))
    print("survived:", said.splitlines()[0][:120], flush=True)
    time.sleep(0.5)  # the sender has yet to hear that a stream has taken its message
    os._exit(0)  # the victim cannot take part in the group's end


class Job:
    """Three processes of which one is killed."""

    def __init__(self, seed):
        self.folder = tempfile.TemporaryDirectory()
        command = [sys.executable, "-u", __file__, "--play"]
        self.logs = [Path(self.folder.name) / f"log{rank}" for rank in range(3)]
        self.processes = [
            subprocess.Popen(
                [*command, str(rank), self.folder.name, str(seed)],
                stdout=log.open("wb"),
                stderr=subprocess.STDOUT,
            )
            for rank, log in enumerate(self.logs)
        ]
        self.until = time.monotonic() + SECONDS
        self.victim = random.Random(seed).randrange(3)
        self.seed = seed

    def is_over(self):
        """Whether all have ended, or their time is over."""
        if any(process.poll() is None for process in self.processes):
            if time.monotonic() < self.until:
                return False
            for process in self.processes:
                process.kill()
                process.wait()
        return True

    def verdict(self):
        """What went wrong; nothing if the others went on."""
        found = []
        for rank, (process, log) in enumerate(zip(self.processes, self.logs, strict=True)):
            text = log.read_text(errors="replace")
            good = process.returncode == 0 and "survived" in text
            if rank == self.victim:
                good = process.returncode == -signal.SIGKILL
            if not good:
                found.append(f"seed {self.seed}, rank {rank}: {process.returncode}\n{text}")
        self.folder.cleanup()
        return "".join(found)


def main(times, at_once):
    """So many kills."""
    started, seeds, failures = time.monotonic(), iter(range(times)), []
    jobs = [Job(next(seeds)) for _ in range(min(at_once, times))]
    while jobs:
        time.sleep(0.02)
        for job in [job for job in jobs if job.is_over()]:
            jobs.remove(job)
            failures += filter(None, [job.verdict()])
            seed = next(seeds, None)
            if seed is not None:
                jobs.append(Job(seed))
    for failure in failures[:3]:
        print("FAILED", failure, flush=True)
    seconds = time.monotonic() - started
    print(f"== {times - len(failures)} of {times} went on, {seconds:.0f} s", flush=True)
    return int(bool(failures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        play(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        numbers = [int(word) for word in sys.argv[1:]]
        sys.exit(main(*(numbers + [20, 10][len(numbers) :])))
