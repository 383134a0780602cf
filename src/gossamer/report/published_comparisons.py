"""Published numbers beside what was measured."""

from dataclasses import dataclass

from gossamer.measures import is_fraction
from gossamer.report.results import Results, same_level
from gossamer.stats.intervals import Interval


@dataclass(frozen=True)
class Comparison:
    """One published number beside what was measured."""

    arm: str
    measure: str
    level: float
    published: float
    measured: Interval | None

    @property
    def difference(self) -> float | None:
        """Measured minus published: in points for a fraction, else in the measure's unit."""
        if self.measured is None:
            return None
        scale = 100 if is_fraction(self.measure) else 1
        return scale * (self.measured.mean - self.published)


def comparisons(results: Results) -> tuple[Comparison, ...]:
    """Every published number beside what was measured, in the published order."""
    published = results.study.published
    return tuple(
        Comparison(
            figure.arm,
            figure.measure,
            same_level(figure.level),
            figure.value,
            results.interval(figure.arm, figure.level, figure.measure),
        )
        for figure in (published.figures if published else ())
    )
