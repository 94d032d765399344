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
    """One side of a comparison: ``measure(count)`` gives the seconds of ``count`` operations."""

    name: str
    measure: Callable[[int], float]


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
    trials: Sequence[Trial],
    barrier: Callable[[], None],
    iterations: int,
    warmup: int,
    repeats: int,
) -> dict[str, list[float]]:
    """Seconds per operation, in many samples, of trials that take turns: A B A B ...

    Alternating in one run takes the machine's drift out of the ratio. Each turn starts behind a
    barrier with ``warmup`` operations that are not counted; its ``iterations`` give several
    samples, so that percentiles mean something. Collective over the ranks that take part.
    """
    samples: dict[str, list[float]] = {trial.name: [] for trial in trials}
    pieces = split_count(iterations)
    for _ in range(repeats):
        for trial in trials:
            barrier()
            if warmup:
                trial.measure(warmup)
            for count in pieces:
                samples[trial.name].append(trial.measure(count) / count)
    return samples
