"""How the numbers of a measure are written: in points, in nats, with an interval."""

from dataclasses import dataclass

from gossamer.core.formats import decimal
from gossamer.measures import is_count, is_fraction
from gossamer.stats.intervals import Interval

MOST_DIGITS = 9


@dataclass(frozen=True)
class Unit:
    """How a measure is written."""

    factor: float
    digits: int
    name: str
    """With a space before it; empty for a measure without one."""

    def text(self, value: float, *, apart: float | None = None, signed: bool = False) -> str:
        """Return a value, with as many digits as it takes to be told apart from another.

        Examples
        --------
        >>> points = Unit(100, 2, " points")
        >>> points.text(0.01), points.text(0.00499, apart=0.005), points.text(0.00001, apart=0)
        ('1.00', '0.499', '0.001')
        """
        scaled = self.factor * value
        digits = self.digits
        while apart is not None and value != apart and digits < MOST_DIGITS:
            if decimal(scaled, digits) != decimal(self.factor * apart, digits):
                break
            digits += 1
        return decimal(scaled, digits, signed=signed)

    def short(self, value: float) -> str:
        """Return a margin, as its author wrote it; its unit is said before, but for a percent sign.

        Examples
        --------
        >>> Unit(100, 2, " points").short(0.005), Unit(100, 1, "%").short(0.1)
        ('0.5', '10%')
        """
        sign = self.name if self.name == "%" else ""
        return f"{self.factor * value:.9g}{sign}"

    def amount(self, value: float) -> str:
        """Return a margin with its unit.

        Examples
        --------
        >>> Unit(100, 2, " points").amount(0.01), Unit(100, 2, " points").amount(0.005)
        ('1 point', '0.5 points')
        >>> Unit(100, 1, "%").amount(0.1), Unit(1, 0, "").amount(3.0)
        ('10%', '3')
        """
        short = self.short(value)
        if short.endswith(self.name):
            return short
        return f"{short}{self.name.removesuffix('s') if short == '1' else self.name}"


def unit_of(measure: str) -> Unit:
    """Return how a measure is written: fractions in points, losses in nats, times in milliseconds.

    A relative latency is written in percent of the unpruned network's.
    """
    if is_fraction(measure):
        return Unit(100, 2, " points")
    if is_count(measure):
        return Unit(1, 0, "")
    if measure.startswith("latency"):
        return Unit(100, 1, "%") if "ratio" in measure else Unit(1000, 3, " ms")
    return Unit(1, 4, " nats" if measure.endswith("loss") else "")


def spread(interval: Interval, digits: int = 2, scale: float = 100) -> str:
    """Return a mean with the half-width of its interval, in percent unless scaled otherwise.

    Examples
    --------
    >>> from gossamer.stats.intervals import Interval
    >>> spread(Interval(0.981, 0.98, 0.982, 5))
    '98.10 ± 0.10'
    >>> spread(Interval(0.981, None, None, 1), 1)
    '98.1'
    """
    mean = decimal(scale * interval.mean, digits)
    half = interval.half_width
    return mean if half is None else f"{mean} ± {decimal(scale * half, digits)}"


def short_spread(interval: Interval) -> str:
    """Return a mean in percent for a sentence; a second digit where the interval needs it.

    Examples
    --------
    >>> from gossamer.stats.intervals import Interval
    >>> short_spread(Interval(0.981, 0.98, 0.982, 5))
    '98.1 ± 0.1%'
    >>> short_spread(Interval(0.981, 0.9808, 0.9812, 5))
    '98.10 ± 0.02%'
    """
    half = interval.half_width
    return f"{spread(interval, 1 if half is None or half >= 0.0005 else 2)}%"
