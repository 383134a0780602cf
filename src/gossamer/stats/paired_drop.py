"""Upper bounds of how much worse a network is than another on the same examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gossamer.core.errors import InputError

_NUISANCE = 1e-3
"""Share of the error that is spent on not knowing how often two networks differ."""
_STEPS = 33
"""How many of these shares are looked at; the error in between is far below `_NUISANCE`."""
_NOTHING = 1e-9
"""A drop as good as none."""
_TAIL = 1e-9
"""What is left out of a binomial distribution on either side."""


@dataclass(frozen=True)
class Pairs:
    """How two networks answer the same examples, right or wrong.

    Examples
    --------
    >>> Pairs(examples=1000, lost=12, won=8).drop
    0.004
    """

    examples: int
    lost: int
    """Examples that the first answers right and the second wrong."""
    won: int
    """Examples that the first answers wrong and the second right."""

    def __post_init__(self) -> None:
        if min(self.lost, self.won) < 0 or self.examples < max(1, self.lost + self.won):
            raise InputError(
                f"{self.lost} lost and {self.won} won of {self.examples} examples is impossible"
            )

    @property
    def drop(self) -> float:
        """By how much the accuracy of the second is lower."""
        return (self.lost - self.won) / self.examples

    @property
    def changed(self) -> float:
        """Share of examples on which they differ."""
        return (self.lost + self.won) / self.examples


def drop_p_value(pairs: Pairs, drop: float) -> float:
    """Return how surprising such pairs, or better ones, would be if the true drop were this.

    The test is exact for any number of examples: the score statistic of Tango (1998) orders the
    outcomes, their probability is summed, not approximated, and the largest one counts over all
    shares of examples on which the networks may differ, in a confidence interval of that share
    whose error is added (Berger and Boos 1994).

    Parameters
    ----------
    pairs
        What was counted.
    drop
        The true drop that is to be refuted, above 0 and below 1.

    References
    ----------
    Tango (1998), "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", Statistics in Medicine 17; Berger and Boos (1994), "P values
    maximized over a confidence set for the nuisance parameter", Journal of the American Statistical
    Association 89; Hsueh, Liu and Chen (2001), "Unconditional exact tests for equivalence or
    noninferiority for paired binary endpoints", Biometrics 57.

    Examples
    --------
    Without a single difference the bound is the "rule of three", 3 / n:

    >>> same = Pairs(examples=1000, lost=0, won=0)
    >>> bool(drop_p_value(same, 0.0031) < 0.05 < drop_p_value(same, 0.0029))
    True
    """
    if not 0 < drop < 1:
        raise InputError(f"the drop to be refuted is {drop}, expected a number between 0 and 1")
    n, differing = pairs.examples, pairs.lost + pairs.won
    observed = float(_score(n, np.array(pairs.lost), np.array(pairs.won), drop))
    low, high = _share_interval(differing, n, _NUISANCE)
    shares = np.linspace(max(low, drop), max(high, drop), _STEPS)
    counts = np.arange(int(special.bdtrik(_TAIL, n, shares[0])), min(n, _upper(n, shares[-1])) + 1)
    most_lost = _most_lost(n, counts, drop, observed)
    lost_share = (shares + drop) / (2 * shares)
    # [shares, counts]: so many examples differ, and of these at most so many are lost.
    differ = _binomial(n, counts[None, :], shares[:, None])
    inside = np.where(
        most_lost < 0, 0.0, special.bdtr(np.maximum(most_lost, 0), counts, lost_share[:, None])
    )
    return min(1.0, float((differ * inside).sum(axis=1).max()) + _NUISANCE)


def drop_bound(pairs: Pairs, confidence: float = 0.95) -> float:
    """Return what the true drop does not exceed, with this confidence; see `drop_p_value`.

    Examples
    --------
    >>> bound = drop_bound(Pairs(5000, 60, 50))
    >>> bool(0.002 < bound < 0.006)
    True
    """
    error = 1 - confidence
    low, high = max(pairs.drop, _NOTHING), 1 - _NOTHING
    if drop_p_value(pairs, low) <= error:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if drop_p_value(pairs, middle) > error:
            low = middle
        else:
            high = middle
        if high - low < 1e-3 * high:
            break
    return high


def drop_interval(pairs: Pairs, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided score interval of the true drop: what it is about, with no promise.

    References
    ----------
    Tango (1998), "Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design", Statistics in Medicine 17.

    Examples
    --------
    Of 44 pairs one differs:

    >>> [round(end, 3) for end in drop_interval(Pairs(examples=44, lost=0, won=1))]
    [-0.118, 0.059]
    """
    reach = float(special.ndtri((1 + confidence) / 2))

    def end(wanted: float) -> float:
        low, high = -1 + _NOTHING, 1 - 2 * _NOTHING  # not halved at 0, where nothing may vary
        for _ in range(60):
            middle = (low + high) / 2
            score = _score(pairs.examples, np.array(pairs.lost), np.array(pairs.won), middle)
            low, high = (middle, high) if score > wanted else (low, middle)
        return (low + high) / 2

    return end(reach), end(-reach)


def mean_drop_bound(drops: Sequence[float], confidence: float = 0.95) -> float:
    """Return the same for any numbers, one drop an example: Student's bound of their mean.

    Of thousands of examples it holds for any distribution without extreme tails; where drops are
    skewed it is widened as `mean_interval` is.
    """
    from gossamer.stats.intervals import mean_interval

    values = np.asarray(drops, np.float64)
    if np.ptp(values) == 0:
        return float(values[0])
    high = mean_interval(values.tolist(), 2 * confidence - 1).high
    return math.inf if high is None else high


def examples_needed(drop: float, changed: float, confidence: float = 0.95) -> int:
    """Return how many examples show such a budget for a network that is truly no worse at all.

    In every other search, that is: its estimate falls to either side of 0.

    Parameters
    ----------
    drop
        The budget.
    changed
        Share of examples on which the two networks differ.

    Examples
    --------
    >>> examples_needed(0.005, 0.03)
    3247
    """
    z = float(special.ndtri(confidence))
    for_no_difference = math.log(1 - confidence) / math.log1p(-drop)
    return math.ceil(max(z**2 * changed / drop**2, for_no_difference))


def _score(
    n: int, lost: NDArray[np.int64], won: NDArray[np.int64], drop: float
) -> NDArray[np.float64]:
    """Return Tango's statistic: below 0 where fewer are lost than the drop says."""
    b = -lost - won + (2 * n - lost + won) * drop
    c = -won * drop * (1 - drop)
    root = np.sqrt(np.maximum(b * b - 8 * n * c, 0))  # rounding may leave less than nothing
    won_share = (root - b) / (4 * n)
    variance = n * (2 * won_share + drop * (1 - drop))
    return np.asarray((lost - won - n * drop) / np.sqrt(variance))


def _most_lost(
    n: int, counts: NDArray[np.int64], drop: float, observed: float
) -> NDArray[np.int64]:
    """Return of each number of differing examples how many may be lost at most; -1: none.

    The statistic rises with the number that is lost, so it is found by halving.
    """
    low, high = np.full_like(counts, -1), counts.copy()
    slack = 1e-9 * (1 + abs(observed))
    while (low < high).any():
        middle = (low + high + 1) // 2
        inside = _score(n, middle, counts - middle, drop) <= observed + slack
        low, high = np.where(inside, middle, low), np.where(inside, high, middle - 1)
    return low


def _share_interval(count: int, n: int, error: float) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson (1934)."""
    low = float(special.betaincinv(count, n - count + 1, error / 2)) if count else 0.0
    high = float(special.betaincinv(count + 1, n - count, 1 - error / 2)) if count < n else 1.0
    return low, high


def _upper(n: int, share: float) -> int:
    return int(np.ceil(n * share + 7 * math.sqrt(n * share * (1 - share)) + 20))


def _binomial(
    n: int, counts: NDArray[np.int64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    log = special.gammaln(n + 1) - special.gammaln(counts + 1) - special.gammaln(n - counts + 1)
    log = log + special.xlogy(counts, shares) + special.xlog1py(n - counts, -shares)
    return np.asarray(np.exp(log))
