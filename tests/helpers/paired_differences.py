"""Differences of paired seeds, as tests expect them."""

from collections.abc import Sequence

from gossamer.stats.intervals import Interval, mean_interval


def paired_difference(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Interval:
    return mean_interval([a - b for a, b in zip(first, second, strict=True)], confidence)
