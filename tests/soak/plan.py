"""What a round of the soak does: a list of messages that every rank derives from the seed alone.

All ranks work through the list in its order. A message's two ends are chosen independently; the
order makes any mix of blocking and non-blocking ends free of deadlock: the first message that
somebody waits for has an other end that nothing holds up. Where receives have wildcards, they may
take each other's messages, and all sends are non-blocking instead.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

LARGEST_BYTES = 4 << 20
HEADER_BYTES = 8
TAGS = (0, 1, 2, 32767)

BLOCKING_SENDS = ("Send", "Ssend")
NONBLOCKING_SENDS = ("Isend", "Issend", "Send_init", "Ssend_init")
RECEIVES = ("Recv", "Irecv", "Recv_init", "Probe", "Mprobe", "Improbe")
OBJECT_BLOCKING_SENDS = ("send", "ssend")
OBJECT_NONBLOCKING_SENDS = ("isend", "issend")
OBJECT_RECEIVES = ("recv", "mprobe", "improbe")
WILDCARDS = ("none", "source", "tag", "both")
FINISHES = ("Waitall", "Waitany", "Waitsome", "Testall", "Testsome", "Wait")


@dataclass(frozen=True)
class Message:
    """One message of a round; ``index`` is its place in the list."""

    index: int
    source: int
    dest: int
    tag: int
    size_bytes: int
    offset: int
    is_object: bool
    send: str
    receive: str


@dataclass(frozen=True)
class Round:
    """``wildcards[rank]`` is the kind of wildcard of all receives on that rank."""

    name: str
    messages: tuple[Message, ...]
    wildcards: tuple[str, ...]
    finish: str

    @property
    def has_wildcards(self) -> bool:
        return any(kind != "none" for kind in self.wildcards)


def random_size(generator: random.Random) -> int:
    """Log-uniform up to the largest; sometimes nothing, or a power of two and its neighbours."""
    if generator.random() < 0.1:
        return 0
    size = int(2 ** generator.uniform(0, LARGEST_BYTES.bit_length() - 1))
    if generator.random() < 0.3:
        size = (1 << (size.bit_length() - 1)) + generator.choice((-1, 0, 1))
    return min(size, LARGEST_BYTES)


def make_round(seed: int, thread: int, number: int, ranks: int) -> Round:
    """The same on every rank."""
    generator = random.Random(f"{seed}/{thread}/{number}")
    is_wild = generator.random() < 0.4
    wildcards = tuple(generator.choice(WILDCARDS) if is_wild else "none" for _ in range(ranks))
    # a receive with a wildcard cannot know whether an object comes: one kind for each rank
    objects = [generator.random() < 0.4 for _ in range(ranks)]
    count = generator.choice((1, 3, 10, 30, 100))
    largest = max(1, 4 * LARGEST_BYTES // count)
    messages = []
    for index in range(count):
        source, dest = generator.randrange(ranks), generator.randrange(ranks)
        is_object = objects[dest] if is_wild else generator.random() < 0.3
        size = min(random_size(generator), largest)
        sends = list(OBJECT_NONBLOCKING_SENDS if is_object else NONBLOCKING_SENDS)
        if not is_wild and source != dest:  # nobody but itself would receive what it sends itself
            sends += OBJECT_BLOCKING_SENDS if is_object else BLOCKING_SENDS
        messages.append(
            Message(
                index,
                source,
                dest,
                generator.choice(TAGS),
                max(size, HEADER_BYTES) if is_wild else size,
                generator.randrange(4096),
                is_object,
                generator.choice(sends),
                generator.choice(OBJECT_RECEIVES if is_object else RECEIVES),
            )
        )
    return Round(f"{thread}:{number}", tuple(messages), wildcards, generator.choice(FINISHES))
