"""Alternating measurement of peers, and the statistics that a table shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SAMPLES_PER_REPEAT = 10


@dataclass(frozen=True)
class Statistics:
    """Median and spread of samples of one quantity."""

    median: float
    p10: float
    p90: float
    count: int


@dataclass(frozen=True)
class Trial:
    """One side of a comparison: ``sample(count)`` measures one value over ``count`` operations.

    A turn takes a sample for each of ``counts``, after ``warmup`` uncounted operations.
    """

    name: str
    sample: Callable[[int], float]
    counts: Sequence[int]
    warmup: int


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Linear interpolation between the closest ranks of an ascending, non-empty sequence."""
    position = fraction * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def statistics_of(samples: Sequence[float]) -> Statistics:
    """Median, 10th and 90th percentile of a non-empty sequence."""
    ordered = sorted(samples)
    return Statistics(
        median=percentile(ordered, 0.5),
        p10=percentile(ordered, 0.1),
        p90=percentile(ordered, 0.9),
        count=len(ordered),
    )


def split_count(iterations: int, parts: int = SAMPLES_PER_REPEAT) -> list[int]:
    """``iterations`` in at most ``parts`` nearly equal positive pieces."""
    pieces = min(iterations, parts)
    quotient, remainder = divmod(iterations, pieces)
    return [quotient + (index < remainder) for index in range(pieces)]


def alternate(
    trials: Sequence[Trial], before_turn: Callable[[], None], repeats: int
) -> dict[str, list[float]]:
    """The samples of trials that take turns: A B A B ..., by the trial's name.

    Alternating in one run takes the machine's drift out of the ratio. ``before_turn`` lets all
    ranks start together. Collective over the ranks that take part.
    """
    samples: dict[str, list[float]] = {trial.name: [] for trial in trials}
    for _ in range(repeats):
        for trial in trials:
            before_turn()
            if trial.warmup:
                trial.sample(trial.warmup)
            samples[trial.name] += [trial.sample(count) for count in trial.counts]
    return samples
