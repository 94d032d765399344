"""Agreement among the processes of a communicator of which any may die at any step.

It has no thread and no lock: :mod:`.agreements` calls it. One :class:`Agreement` is one agreement
at one process. It sends nothing by itself: what it has to say, it gives back to its caller, who
tells it what arrives and who died. That is all it knows of the world, so that a test can let any
process die anywhere.

The lowest living rank leads. It collects what everybody brings, proposes the sum of it, and decides
when everybody living has accepted the proposal; whoever hears of the decision tells all others
before returning. When a leader dies, the next one collects anew, and proposes what an earlier
leader proposed wherever anybody accepted that: if the earlier leader had decided, everybody living
had accepted. So all that decide decide alike, those that die afterwards included, as long as

* nobody who lives is said to have died (the detector asks the kernel), and
* what arrives of a dead process arrives before the word of its death.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Value:
    """What a process brings to an agreement, or the sum of what several brought.

    Attributes:
        flag: combined with bitwise and.
        failed: ranks known to have failed; the union.
        acknowledged: failed ranks whose failure was acknowledged; the intersection.
        data: bytes by the rank that brought them; the union.
    """

    flag: int = -1
    failed: frozenset[int] = frozenset()
    acknowledged: frozenset[int] = frozenset()
    data: dict[int, bytes] = field(default_factory=dict)

    def plus(self, other: Value) -> Value:
        """The sum of both."""
        return Value(
            self.flag & other.flag,
            self.failed | other.failed,
            self.acknowledged & other.acknowledged,
            {**self.data, **other.data},
        )


@dataclass(frozen=True)
class Contribution:
    """To a leader: what the sender brings, and what it accepted last, with that one's leader."""

    own: Value
    accepted: tuple[int, Value] | None


@dataclass(frozen=True)
class Proposal:
    """From the leader who sends it."""

    value: Value


@dataclass(frozen=True)
class Acceptance:
    """Of the proposal of the leader to whom it is sent."""


@dataclass(frozen=True)
class Decision:
    """The end; from anybody."""

    value: Value


Message: TypeAlias = Contribution | Proposal | Acceptance | Decision
Outgoing: TypeAlias = list[tuple[int, Message]]


class Agreement:
    """One agreement at the process ``rank`` of ``size``.

    Args:
        rank: of this process.
        size: of the communicator.
        own: what this process brings; ``own.failed`` are the ranks that it knows to be dead.
    """

    def __init__(self, rank: int, size: int, own: Value) -> None:
        self.decision: Value | None = None
        self._rank = rank
        self._own = own
        self._members = frozenset(range(size))
        self._living = set(self._members) - own.failed
        self._accepted: tuple[int, Value] | None = None
        self._contributions: dict[int, Contribution] = {}
        self._acceptances: set[int] = set()
        self._proposed: Value | None = None

    @property
    def living(self) -> frozenset[int]:
        """The other ranks that are not known to have died."""
        return frozenset(self._living - {self._rank})

    def start(self) -> Outgoing:
        """What to send first."""
        return self._contribute()

    def receive(self, source: int, message: Message) -> Outgoing:
        """What to send after ``message`` arrived from ``source``."""
        if self.decision is not None:
            return []
        if isinstance(message, Decision):
            return self._decide(message.value)
        if isinstance(message, Contribution):
            self._contributions[source] = message
        elif isinstance(message, Acceptance):
            self._acceptances.add(source)
        elif source == self._leader():
            self._accepted = (source, message.value)
            return [(source, Acceptance())]
        return self._lead()

    def fail(self, rank: int) -> Outgoing:
        """What to send after ``rank`` was found dead."""
        if rank not in self._living or self.decision is not None:
            self._living.discard(rank)
            return []
        led = self._leader()
        self._living.discard(rank)
        return self._contribute() if rank == led else self._lead()

    def _leader(self) -> int:
        return min(self._living)

    def _contribute(self) -> Outgoing:
        """To a leader that is new to this process."""
        contribution = Contribution(self._own, self._accepted)
        if self._leader() != self._rank:
            return [(self._leader(), contribution)]
        self._contributions[self._rank] = contribution
        return self._lead()

    def _lead(self) -> Outgoing:
        """The leader's next step, if it is due."""
        if self._leader() != self._rank:
            return []
        others = self._living - {self._rank}
        if self._proposed is None:
            if not others <= self._contributions.keys():
                return []
            self._proposed = self._choose()
            self._accepted = (self._rank, self._proposed)
            if others:
                return [(rank, Proposal(self._proposed)) for rank in sorted(others)]
        if not others <= self._acceptances:
            return []
        return self._decide(self._proposed)

    def _choose(self) -> Value:
        accepted = [made.accepted for made in self._contributions.values() if made.accepted]
        if accepted:
            return max(accepted, key=lambda proposal: proposal[0])[1]
        value = self._own
        for made in self._contributions.values():
            value = value.plus(made.own)
        # Everybody who is dead by now, with or without having brought something.
        return value.plus(Value(-1, self._members - self._living, value.acknowledged))

    def _decide(self, value: Value) -> Outgoing:
        self.decision = value
        return [(rank, Decision(value)) for rank in sorted(self.living)]
