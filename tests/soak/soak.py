"""Random messages between all ranks, from several threads, every byte compared.

    mpirun -n 3 python tests/soak/soak.py --seconds 60 [--seed S] [--threads T]

A failure prints what repeats its round: ``--seed S --round THREAD:NUMBER``, again and again for
the given seconds.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from plan import make_round
from worker import Worker

from mooncake_mpi import MPI

GO_TAG, DONE_TAG = 1, 2


def parse(words):
    parser = argparse.ArgumentParser(description="soak test: random messages, checked")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stall", type=float, default=60, help="seconds without a round: a hang")
    parser.add_argument("--round", default=None, metavar="THREAD:NUMBER", help="only this one")
    return parser.parse_args(words)


class Conductor(threading.Thread):
    """One thread of this rank: rounds until rank 0 says that the time is over."""

    def __init__(self, options, number, comm, control, deadline):
        super().__init__(name=f"soak {number}", daemon=True)
        self.options, self.number, self.deadline = options, number, deadline
        self.control = control
        self.worker = Worker(comm, options.seed)
        self.rounds = 0
        self.now = "start"
        self.moved = time.monotonic()
        self.failure = None

    def run(self):
        try:
            while self.goes_on():
                thread, number = self.number, self.rounds
                if self.options.round is not None:
                    thread, number = map(int, self.options.round.split(":"))
                plan = make_round(self.options.seed, thread, number, self.control.Get_size())
                self.now = plan.name
                self.worker.run(plan)
                if plan.has_wildcards:
                    self.meet()
                self.rounds += 1
                self.moved = time.monotonic()
        except BaseException:  # noqa: BLE001  # the main thread tells and ends the job
            self.failure = traceback.format_exc()

    def goes_on(self):
        """Rank 0's word whether there is another round."""
        word = np.array([time.monotonic() < self.deadline], np.uint8)
        if self.control.Get_rank() == 0:
            for rank in range(1, self.control.Get_size()):
                self.control.Send(word, rank, GO_TAG)
        else:
            self.control.Recv(word, 0, GO_TAG)
        return bool(word[0])

    def meet(self):
        """A wildcard must not take a message of the next round: rank 0 waits for all."""
        token = np.zeros(0, np.uint8)
        if self.control.Get_rank() == 0:
            for rank in range(1, self.control.Get_size()):
                self.control.Recv(token, rank, DONE_TAG)
        else:
            self.control.Send(token, 0, DONE_TAG)


def fail(options, conductor, reason):
    rank = MPI.COMM_WORLD.Get_rank()
    print(
        f"soak: rank {rank}, round {conductor.now}, at {conductor.worker.now}: {reason}\nsoak: repeat with -n "
        f"{MPI.COMM_WORLD.Get_size()}: soak.py --seed {options.seed} --round {conductor.now}",
        file=sys.stderr,
        flush=True,
    )
    MPI.COMM_WORLD.Abort(1)
    os._exit(1)


def watch(options, conductors):
    """Until all threads have ended; a failure or a hang ends the job with what repeats it."""
    while any(conductor.is_alive() for conductor in conductors):
        time.sleep(0.05)
        for conductor in conductors:
            if conductor.failure is not None:
                fail(options, conductor, conductor.failure)
            if conductor.is_alive() and time.monotonic() - conductor.moved > options.stall:
                faulthandler.dump_traceback(all_threads=True)
                fail(options, conductor, f"nothing moved for {options.stall} s")
    for conductor in conductors:
        if conductor.failure is not None:
            fail(options, conductor, conductor.failure)


def main(words=None):
    options = parse(words)
    world = MPI.COMM_WORLD
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    options.seed = world.bcast(seed)
    if world.Get_rank() == 0:
        print(f"soak: seed {options.seed}, {world.Get_size()} ranks", flush=True)
    if options.round is not None:
        options.threads = 1
    deadline = time.monotonic() + options.seconds
    comms = [(world.Dup(), world.Dup()) for _ in range(options.threads)]
    conductors = [
        Conductor(options, number, comm, control, deadline)
        for number, (comm, control) in enumerate(comms)
    ]
    for conductor in conductors:
        conductor.start()
    watch(options, conductors)
    for pair in comms:
        for comm in pair:
            comm.Free()
    totals = [0, 0, 0]
    for conductor in conductors:
        totals[0] += conductor.rounds
        totals[1] += conductor.worker.messages
        totals[2] += conductor.worker.bytes
    everywhere = world.allgather(totals)
    if world.Get_rank() == 0:
        messages, size = (sum(part[place] for part in everywhere) for place in (1, 2))
        if not messages and options.round is None:
            raise SystemExit("soak: no message was checked")
        print(
            f"soak: {totals[0]} rounds, {messages} messages, {size / 1e6:.0f} MB, every byte right",
            flush=True,
        )


if __name__ == "__main__":
    main()
