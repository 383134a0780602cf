"""How the intervals of a page are to be read: what they are over, and what they leave out."""

from gossamer.core.formats import decimal, percent
from gossamer.report.results import ACCURACY, Results
from gossamer.stats.intervals import binomial_half_width

FIXED = (
    "Every interval is for a number of {units} that was fixed in advance: whoever looks at a "
    "verdict and adds {units} until it pleases is wrong more often than 5%."
)


def interval_note(results: Results) -> str:
    """Say what the intervals of a study cover; nothing where there are none.

    Sequential looks widen the error (Armitage, McPherson and Rowe 1969, "Repeated significance
    tests on accumulating data", Journal of the Royal Statistical Society A 132), and seeds share
    the test set, whose own chance is a binomial one.
    """
    if not results.unit_counts or results.unit_counts[-1] < 2:
        return ""
    units = "pairs of seeds" if results.study.paired else "seeds"
    return f"{FIXED.format(units=units)}{_test_set(results)}"


def _test_set(results: Results) -> str:
    """Say by how much another test set would move the accuracy of the first network measured."""
    step = results.resolution(ACCURACY)
    intervals = ((arm, results.interval(arm, level)) for arm, level in results.asked)
    known = [(arm, interval) for arm, interval in intervals if interval]
    if not step or not known:
        return ""
    (arm, interval), count = known[0], round(1 / step)
    half = decimal(100 * binomial_half_width(interval.mean, count), 2)
    return (
        f" The {count:,} test examples are the same for all seeds, and the intervals cover the "
        f"chance of the seeds, not of these: other test examples would move the "
        f"{percent(interval.mean, 1)}% of {results.named(arm)} by ± {half} points (95%, "
        "Wilson)."
    )
