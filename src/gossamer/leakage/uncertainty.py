"""Intervals of what an audit finds, each with a word on how it was found.

Models are what varies: the same examples recur in every model, so counting examples as
independent would overstate what is known. With several models the unit is therefore the model, or
the pair where models are paired. With a single one only examples are left to count.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gossamer.leakage.ranking import Ranked, placements
from gossamer.records.leakage import Estimate
from gossamer.stats.intervals import mean_interval, mutual_widening
from gossamer.streams import stream

Floats = NDArray[np.float64]

FEWEST_TO_RESAMPLE = 8
"""With fewer units a bootstrap cannot reach beyond the few values there are."""

RESAMPLES = 2000
CONFIDENCE = 0.95


def clopper_pearson(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of a rate whose threshold was fixed beforehand.

    References
    ----------
    Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case
    of the binomial", Biometrika 26.

    Examples
    --------
    >>> low, high = clopper_pearson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(special.betaincinv(count, total - count + 1, tail))
    high = 1.0 if count == total else float(special.betaincinv(count + 1, total - count, 1 - tail))
    return low, high


def rate_estimate(count: int, total: int) -> Estimate:
    """Return a rate over examples with its Clopper-Pearson interval."""
    low, high = clopper_pearson(count, total)
    return Estimate(value=count / total, low=low, high=high, method="Clopper-Pearson over examples")


def balanced_estimate(caught: int, members: int, wrongly: int, others: int) -> Estimate:
    """Return a balanced accuracy over examples; both rates hold together by Bonferroni."""
    confidence = 1 - (1 - CONFIDENCE) / 2
    tpr = clopper_pearson(caught, members, confidence)
    fpr = clopper_pearson(wrongly, others, confidence)
    return Estimate(
        value=(1 + caught / members - wrongly / others) / 2,
        low=(1 + tpr[0] - fpr[1]) / 2,
        high=(1 + tpr[1] - fpr[0]) / 2,
        method="Clopper-Pearson over examples, both rates together",
    )


def auc_estimate(ranked: Ranked) -> Estimate:
    """Return one model's AUC with DeLong's interval over examples.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated
    receiver operating characteristic curves", Biometrics 44.
    """
    inside, outside = placements(ranked)
    value = float(inside.mean())
    if min(len(inside), len(outside)) < 2:
        return Estimate(value=value, method="too few examples for an interval")
    variance = inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside)
    reach = float(special.ndtri((1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    return Estimate(
        value=value,
        low=max(0.0, value - reach),
        high=min(1.0, value + reach),
        method="DeLong over examples",
    )


class Resampler:
    """Intervals of means over units, from one set of resamples for all numbers of an audit.

    Parameters
    ----------
    units
        ``[models]``: the unit of each.
    paired
        Units are pairs of models.
    seed
        Of the resamples.
    mutual
        Each unit was judged with the others as references. What two units say of each other then
        counts in the results of both, which hang together, and intervals that took them to be
        independent would be too narrow: they are widened, see
        `gossamer.stats.intervals.mutual_widening`. With two units both results are of the same
        comparison, and there is no interval.
    """

    def __init__(
        self, units: NDArray[np.intp], *, paired: bool, seed: int, mutual: bool = False
    ) -> None:
        self._units = units
        self.count = int(units.max()) + 1
        self._noun = "pair" if paired else "model"
        self._mutual = mutual
        self._weights = _bootstrap_weights(self.count, seed)

    def estimate(
        self, values: Floats, least: float = -math.inf, most: float = math.inf
    ) -> Estimate:
        """Return the mean over models, ``[models]``, kept within what is possible."""
        low, high = self.bands(values[:, None], least, most)
        value = float(values.mean())
        if low is None or high is None:
            return Estimate(value=value, method=self.method)
        return Estimate(value=value, low=float(low[0]), high=float(high[0]), method=self.method)

    @property
    def method(self) -> str:
        """How the intervals are found."""
        if self.count < 2:
            return f"one {self._noun}: no interval"
        if self._mutual and self.count == 2:
            return f"two {self._noun}s, each the other's reference: no interval"
        widened = ", widened as they are each other's references" if self._mutual else ""
        if self._weights is None:
            return f"Student t over {self.count} {self._noun}s, too few to resample{widened}"
        return f"bootstrap over {self.count} {self._noun}s{widened}"

    def bands(
        self, values: Floats, least: float, most: float
    ) -> tuple[Floats, Floats] | tuple[None, None]:
        """Return lower and upper ends, ``[numbers]``, of means over ``[models, numbers]``."""
        if self.count < (3 if self._mutual else 2):
            return None, None
        totals = np.zeros((self.count, values.shape[1]))
        np.add.at(totals, self._units, values)
        means = totals / np.bincount(self._units)[:, None]
        if self._weights is None:
            found = [mean_interval(column.tolist(), CONFIDENCE) for column in means.T]
            low = np.array([interval.low for interval in found], dtype=np.float64)
            high = np.array([interval.high for interval in found], dtype=np.float64)
        else:
            tail = _expanded_tail(self.count)
            low, high = np.quantile(self._weights @ means, [tail, 1 - tail], axis=0)
        if self._mutual:
            centre, times = means.mean(axis=0), mutual_widening(self.count)
            low, high = centre - times * (centre - low), centre + times * (high - centre)
        return np.clip(low, least, most), np.clip(high, least, most)


def _bootstrap_weights(count: int, seed: int) -> Floats | None:
    if count < FEWEST_TO_RESAMPLE:
        return None
    draws = stream(seed, "bootstrap").multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return np.asarray(draws / count, dtype=np.float64)


def _expanded_tail(count: int) -> float:
    """Return the quantile at which a percentile interval has about Student's width.

    References
    ----------
    Hesterberg (2015), "What teachers should know about the bootstrap", The American Statistician
    69: the expanded percentile interval.
    """
    reach = float(special.stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    return float(special.ndtr(-math.sqrt(count / (count - 1)) * reach))
