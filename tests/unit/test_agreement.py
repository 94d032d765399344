"""Agreement, with every process in one thread and deaths wherever chance puts them."""

from __future__ import annotations

import random
from collections import deque

import pytest

from mooncake_mpi.failures.agreement import Agreement, Value


class World:
    """Processes, and the channels between them: in order, and without loss but by a death."""

    def __init__(self, size, seed, deaths, known_dead=()):
        self.chance = random.Random(seed)
        self.living = set(range(size)) - set(known_dead)
        self.deaths = deaths
        self.channels = {(a, b): deque() for a in range(size) for b in range(size)}
        self.unaware = {}
        self.returned = {}
        self.processes = {
            rank: Agreement(
                rank,
                size,
                Value(
                    self.chance.getrandbits(8) | 256,
                    frozenset(known_dead),
                    frozenset(known_dead),
                    {rank: bytes([rank])},
                ),
            )
            for rank in self.living
        }
        self.not_started = set(self.living)

    def kill(self, rank):
        self.living.discard(rank)
        self.unaware[rank] = set(self.living)
        # A large message is lost when its sender dies before it was fetched.
        for dest in self.living:
            channel = self.channels[rank, dest]
            for _ in range(self.chance.randint(0, len(channel))):
                channel.pop()

    def send(self, rank, outgoing):
        """Somebody may die in the middle of telling everybody."""
        for dest, message in outgoing:
            if self.deaths and len(self.living) > 1 and self.chance.random() < 0.15:
                self.deaths -= 1
                self.kill(rank)
                return
            self.channels[rank, dest].append(message)
        if self.processes[rank].decision is not None and rank in self.living:
            self.returned.setdefault(rank, self.processes[rank].decision)

    def choices(self):
        for (source, dest), channel in self.channels.items():
            if channel and dest in self.living and dest not in self.not_started:
                yield "message", source, dest
        for dead, unaware in self.unaware.items():
            for rank in unaware & self.living - self.not_started:
                # What the dead one had sent arrives first.
                if not self.channels[dead, rank]:
                    yield "death", dead, rank
        for rank in self.not_started & self.living:
            yield "start", rank, rank

    def run(self):
        while choices := list(self.choices()):
            what, source, rank = self.chance.choice(choices)
            if self.deaths and len(self.living) > 1 and self.chance.random() < 0.03:
                self.deaths -= 1
                self.kill(self.chance.choice(sorted(self.living)))
                continue
            process = self.processes[rank]
            if what == "start":
                self.not_started.discard(rank)
                self.send(rank, process.start())
            elif what == "death":
                self.unaware[source].discard(rank)
                self.send(rank, process.fail(source))
            else:
                message = self.channels[source, rank].popleft()
                if rank not in self.returned:
                    self.send(rank, process.receive(source, message))


def check(world):
    # Uniform: those that died after they had decided, before they could tell anybody, included.
    decided = [process.decision for process in world.processes.values()]
    decisions = [decision for decision in decided if decision is not None]
    assert world.living <= world.returned.keys(), "a survivor did not decide"
    assert all(decision == decisions[0] for decision in decisions)
    value = decisions[0]
    flags = {rank: process._own.flag for rank, process in world.processes.items()}
    together = -1
    for rank in value.data:
        together &= flags[rank]
    assert value.flag == together, "the flag is the sum of what was brought"
    assert not value.failed & world.living, "a survivor was said to have failed"
    assert world.living <= value.data.keys()
    assert all(value.data[rank] == bytes([rank]) for rank in value.data)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_without_deaths_all_agree_on_the_sum(size):
    for seed in range(20):
        world = World(size, seed, deaths=0)
        world.run()
        check(world)
        assert world.returned.keys() == set(range(size))
        assert world.returned[0].failed == frozenset()
        assert world.returned[0].data.keys() == set(range(size))


@pytest.mark.parametrize("size", [2, 3, 4, 6, 9])
def test_survivors_agree_wherever_others_die_and_with_those_that_die_later(size):
    for seed in range(400):
        world = World(size, seed, deaths=seed % size)
        world.run()
        check(world)


def test_those_known_to_be_dead_are_not_waited_for():
    world = World(5, 1, deaths=0, known_dead=(0, 3))
    world.run()
    check(world)
    assert world.returned[1].failed == {0, 3}
    assert world.returned[1].acknowledged == {0, 3}


def test_ranks_that_know_of_different_deaths_agree_on_all_of_them():
    processes = {
        rank: Agreement(rank, 4, Value(-1, frozenset(failed)))
        for rank, failed in {0: {3}, 1: set(), 2: set()}.items()
    }
    channel = deque()
    for rank, process in processes.items():
        channel.extend((rank, *outgoing) for outgoing in process.start())
    while channel:
        source, dest, message = channel.popleft()
        if dest != 3:
            answers = processes[dest].receive(source, message)
            channel.extend((dest, *answer) for answer in answers)
    assert all(process.decision.failed == {3} for process in processes.values())
