"""Verdicts: what an interval says about a claim with a margin that matters.

A verdict is read off the interval alone, so that the two can never disagree. Where several are
read at once, their intervals must hold together: see `intervals.simultaneous_confidence`.
"""

from collections.abc import Sequence
from typing import Literal

from gossamer.core.errors import InputError
from gossamer.stats.intervals import Interval

Says = Literal["higher", "lower", "not-lower", "not-higher", "on-par"]
Over = Literal["each", "any", "mean"]
Verdict = Literal["supported", "refuted", "undecided"]


def one_unit_note(unit: str) -> str:
    """Say what a single seed, or pair of seeds, is worth.

    Examples
    --------
    >>> one_unit_note("seed")
    'One seed gives a number, never a verdict: run more seeds for an interval.'
    """
    return f"One {unit} gives a number, never a verdict: run more seeds for an interval."


def comparison_verdict(says: Says, margin: float, interval: Interval) -> Verdict:
    """Return what the interval of one difference says.

    Every claim is about one threshold, set by the margin, and its verdict is that of the side on
    which the interval lies as a whole:

    - ``higher`` says that the difference is above the margin,
    - ``not-lower`` that it is above minus the margin,
    - ``on-par`` that it lies between minus and plus the margin,
    - ``lower`` and ``not-higher`` are the same of the opposite difference.

    An interval that holds the threshold leaves the claim undecided, and so does one without ends.
    With ever more seeds the verdict of any difference but the threshold itself becomes that of
    the true difference, and a wrong one is never more frequent than the interval is wrong.
    ``higher`` is refuted where ``not-higher`` is supported, and the other way round. A margin of 0
    asks for the direction alone.

    Parameters
    ----------
    says
        What is claimed of the difference.
    margin
        The smallest difference that matters, at least 0, in the unit of the interval.
    interval
        Of the difference.

    Raises
    ------
    InputError
        If the margin is below 0.

    References
    ----------
    Murphy and Myors (1999), "Testing the hypothesis that treatments have negligible effects:
    minimum-effect tests in the general linear model", Journal of Applied Psychology 84, for
    ``higher``; Piaggio et al. (2012), "Reporting of noninferiority and equivalence randomized
    trials", JAMA 308, for ``not-lower`` and ``on-par``.

    Examples
    --------
    >>> comparison_verdict("not-lower", 0.5, Interval(0.0, -0.4, 0.4, 6))
    'supported'
    >>> comparison_verdict("higher", 0.5, Interval(0.0, -0.4, 0.4, 6))
    'refuted'
    >>> comparison_verdict("higher", 0.5, Interval(0.7, 0.4, 1.0, 6))
    'undecided'
    """
    if not margin >= 0:
        raise InputError(f"the margin of a claim must be at least 0, not {margin}")
    low, high = interval.low, interval.high
    if low is None or high is None:
        return "undecided"
    if says in ("lower", "not-higher"):
        low, high = -high, -low
    if says in ("higher", "lower"):
        return _decided(low > margin, high < margin)
    if says in ("not-lower", "not-higher"):
        return _decided(low > -margin, high < -margin)
    return _decided(-margin < low and high < margin, low > margin or high < -margin)


def claim_verdict(over: Over, verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a claim from those of its comparisons.

    With ``each``, all must support it and one refutes it; with ``any``, one supports it and all
    must refute it; with ``mean``, the one comparison is that of the mean. Without comparisons
    nothing is decided.

    Examples
    --------
    >>> claim_verdict("each", ["supported", "undecided"]), claim_verdict("each", ["supported"])
    ('undecided', 'supported')
    >>> claim_verdict("any", ["supported", "refuted"]), claim_verdict("any", ["refuted"])
    ('supported', 'refuted')
    """
    if not verdicts:
        return "undecided"
    supporting = [one == "supported" for one in verdicts]
    refuting = [one == "refuted" for one in verdicts]
    if over == "any":
        return _decided(any(supporting), all(refuting))
    return _decided(all(supporting), any(refuting))


def _decided(supported: bool, refuted: bool) -> Verdict:
    if refuted:
        return "refuted"
    return "supported" if supported else "undecided"
