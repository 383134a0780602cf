"""What measures are called, what they mean, and how their numbers are written."""

from collections.abc import Iterable
from dataclasses import dataclass

from gossamer.core.formats import decimal
from gossamer.leakage.attacks import ATTACKS, attack_of
from gossamer.measures import is_count, is_fraction, measure_named, measures
from gossamer.records.measures import attack_reading
from gossamer.reporting.results import Results
from gossamer.reporting.summaries import comparisons
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
    known = measure_named(measure)
    return Unit(1, 0, "") if is_count(measure) else _WRITTEN.get(known.unit if known else "", _BARE)


_BARE = Unit(1, 4, "")
_WRITTEN = {
    "nats": Unit(1, 4, " nats"),
    "seconds a batch": Unit(1000, 3, " ms"),
    "ratio": Unit(100, 1, "%"),
}
"""How numbers are written whose measure is in such a unit."""


def spread(interval: Interval, digits: int = 2, scale: float = 100) -> str:
    """Return a mean with its interval, in percent unless scaled otherwise.

    That is its half-width, or both ends where they do not lie equally far from the mean, as those
    of skewed values do not.

    Examples
    --------
    >>> from gossamer.stats.intervals import Interval
    >>> spread(Interval(0.981, 0.98, 0.982, 5))
    '98.10 ± 0.10'
    >>> spread(Interval(0.981, 0.979, 0.982, 8))
    '98.10 [97.90, 98.20]'
    >>> spread(Interval(0.981, None, None, 1), 1)
    '98.1'
    """
    mean = decimal(scale * interval.mean, digits)
    if interval.low is None or interval.high is None:
        return mean
    below, above = interval.mean - interval.low, interval.high - interval.mean
    if scale * abs(above - below) < 10**-digits:
        return f"{mean} ± {decimal(scale * (above + below) / 2, digits)}"
    low, high = (decimal(scale * end, digits) for end in (interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


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


READINGS = {
    "auc": "AUC",
    "balanced_accuracy": "Balanced accuracy",
    "tpr": "TPR",
    "fpr": "Realised FPR",
    "curve_tpr": "TPR on the ROC curve",
}
LEAKAGE = (
    (
        "Member",
        "An example that the network under attack was trained on. An attack scores every example "
        "and accuses those above a threshold of being members.",
    ),
    (
        "TPR, FPR",
        "True- and false-positive rate: the share of members, and of non-members, that an attack "
        "accuses. At 0.1% FPR it may accuse 1 in 1,000 innocents.",
    ),
    (
        "Balanced accuracy of an attack",
        "Mean of the TPR and 1 - FPR at a threshold that was fixed on other data; 50% is guessing.",
    ),
    (
        "AUC",
        "Area under the ROC curve: the probability that a random member scores higher than a "
        "random non-member; 0.5 is guessing.",
    ),
    (
        "Shadow networks",
        "Networks that an attacker trains to learn how members differ from others. In a study "
        "they are the networks of the other seeds, trained on complementary halves of the pool.",
    ),
)

INTERVAL = (
    "± and [ , ]",
    "95% confidence interval of a mean over seeds (Student's t). Paired differences are taken "
    "seed by seed, so that what two networks share falls out. Accuracies move in steps of one "
    "example: where all seeds agree, their spread counts as that of rounding to one.",
)
VERDICTS = (
    (
        "Margin",
        "The smallest difference that matters, which every claim states. Each claim has its "
        "threshold there: “higher” says higher by more than the margin, “lower” lower by more; "
        "“not lower” says lower by less than the margin, if at all, “not higher” higher by less; "
        "“on a par” says a difference of less than the margin, either way. With a margin of 0 "
        "“higher” and “lower” are about the direction alone.",
    ),
    (
        "Supported, refuted, undecided",
        "Supported: the whole interval lies where the claim says. Refuted: the whole interval lies "
        "on the other side of the threshold, as that of a rise does that is there but smaller "
        "than the margin. Undecided: the interval holds the threshold. With ever more seeds every "
        "claim gets the verdict of the true difference.",
    ),
)
POINT = ("Point", "One percent of the examples: from 97% to 96% is one point.")
TABLE = (
    "results.csv",
    "A line a trial with every number that is known of it, in full precision. What each column "
    "holds stands below.",
)
PAIRS = (
    "Pair of seeds",
    "Two networks trained on complementary halves of the pool. They are not independent, so the "
    "pair is what every interval counts.",
)


def label(measure: str) -> str:
    """Return the name of a measure for a reader.

    Examples
    --------
    >>> label("test_accuracy"), label("lira_online_tpr@0.01"), label("mask_overlap:conv1.weight")
    ('Test accuracy', 'TPR at 1% FPR of LiRA online', 'Mask overlap of conv1.weight')
    """
    if known := measure_named(measure):
        _, _, part = measure.partition(":")
        return f"{known.label} of {part}" if part else known.label
    return _attack_label(measure) or measure.replace("_", " ").capitalize()


def _attack_label(measure: str) -> str:
    """Return the name of an attack's number, such as "lira_online_auc"; empty for another."""
    attack, found = attack_of(measure), attack_reading(measure)
    if attack is None or found is None:
        return ""
    reading, _, rate = found[1].partition("@")
    at = f" at {100 * float(rate):g}% FPR" if rate else ""
    return f"{READINGS[reading]}{at} of {attack.phrase}"


def attack_meanings(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return what some attacks do, by their labels, in the order of the attacks."""
    some = set(names)
    return [(a.label, f"{a.meaning} ({a.source})") for n, a in ATTACKS.items() if n in some]


def definitions(results: Results) -> list[tuple[str, str]]:
    """Terms of the page, those only that it uses."""
    used = {name for key in results.records for name in results.measures.get(key, {})}
    used |= {one.measure for one in comparisons(results) if one.measured}
    terms = [(one.label, one.meaning) for name, one in measures().items() if name in used]
    attacked = [a.name for joint in results.joints for a in joint.attacked]
    if attacked:
        terms += [*LEAKAGE, *attack_meanings(attacked)]
    pairs = [PAIRS] if results.study.paired else []
    verdicts = VERDICTS if results.study.claims else ()
    return [*terms, POINT, INTERVAL, *pairs, *verdicts, TABLE] if used else []
