"""How often intervals over seeds hold, for values that are not normal.

    python -m benchmarks.interval_coverage

Simulated studies: values of each of some distributions, over as many seeds as studies have.
Counted: how often one 95% interval holds the mean, and how often those of ten comparisons all do,
with Student's alone and with the ones that gossamer takes; and how often values are taken for two
groups, of which gossamer gives no interval.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks._common import write_result
from gossamer.stats.intervals import mean_interval, simultaneous_confidence, two_groups

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Values]

COLLAPSE = 30.0
"""Standard deviations by which one network in ten falls behind."""
COMPARISONS = 10
SEEDS = (3, 5, 8, 20)
DISTRIBUTIONS: Mapping[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.standard_normal(shape), 0.0),
    "uniform": (lambda rng, shape: rng.uniform(-1, 1, shape), 0.0),
    "Student's t, 3 degrees": (lambda rng, shape: rng.standard_t(3, shape), 0.0),
    "gamma, shape 4": (lambda rng, shape: rng.gamma(4, 1, shape), 4.0),
    "exponential": (lambda rng, shape: rng.exponential(1, shape), 1.0),
    "lognormal": (lambda rng, shape: rng.lognormal(0, 1, shape), float(np.exp(0.5))),
    "normal, one in ten collapsed": (
        lambda rng, shape: rng.standard_normal(shape) - COLLAPSE * (rng.random(shape) < 0.1),
        -COLLAPSE / 10,
    ),
}
"""How values are drawn, and their mean."""


@dataclass(frozen=True)
class Coverage:
    """How often intervals held; None where nothing had one."""

    student: float
    taken: float | None
    student_all: float
    taken_all: float | None
    """All of ten independent comparisons."""
    two_groups: float
    """Share of the studies without an interval for that."""


def coverage(name: str, seeds: int, studies: int) -> Coverage:
    """Simulate studies with values of one distribution."""
    draw, mean = DISTRIBUTIONS[name]
    rows = draw(np.random.default_rng(seeds), (studies, seeds))
    apart = np.array([two_groups(row.tolist()) is not None for row in rows])
    whole = rows[~apart]
    single, all_of_them = 0.95, simultaneous_confidence(COMPARISONS)

    def taken(confidence: float) -> float | None:
        found = [mean_interval(row.tolist(), confidence) for row in whole]
        held = [i.low <= mean <= i.high for i in found if i.low is not None and i.high is not None]
        return float(np.mean(held)) if held else None

    one, each = taken(single), taken(all_of_them)
    return Coverage(
        student=_student(rows, mean, single),
        taken=one,
        student_all=_student(rows, mean, all_of_them) ** COMPARISONS,
        taken_all=None if each is None else each**COMPARISONS,
        two_groups=float(apart.mean()),
    )


def _student(rows: Values, mean: float, confidence: float) -> float:
    count = rows.shape[1]
    reach = float(special.stdtrit(count - 1, (1 + confidence) / 2)) / np.sqrt(count)
    held = np.abs(rows.mean(axis=1) - mean) <= reach * rows.std(axis=1, ddof=1)
    return float(held.mean())


def main() -> None:
    """Simulate, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=10_000)
    studies = parser.parse_args().studies
    found = {
        name: {str(seeds): asdict(coverage(name, seeds, studies)) for seeds in SEEDS}
        for name in DISTRIBUTIONS
    }
    write_result("interval-coverage", 1, {"studies": studies, "coverage": found})


if __name__ == "__main__":
    main()
