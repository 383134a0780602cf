"""Intervals of what an audit finds, each with a word on how it was found.

Models are what varies: the same examples recur in every model, so counting examples as
independent would overstate what is known. With several models the unit is therefore the model, or
the pair where models are paired, or all the models of one split where several share it. With a
single model, or several of the same members, only examples are left to count.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gossamer.core.streams import stream
from gossamer.leakage.design import Members, Scores
from gossamer.leakage.ranking import placements
from gossamer.records.leakage import Estimate
from gossamer.stats.intervals import mean_interval, mutual_widening

Floats = NDArray[np.float64]

FEWEST_TO_RESAMPLE = 8
"""With fewer units a bootstrap cannot reach beyond the few values there are."""

RESAMPLES = 2000
CONFIDENCE = 0.95


def clopper_pearson(
    count: float, total: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the exact interval of a rate whose threshold was fixed beforehand.

    Counts that are no whole numbers, as means over models are, have the interval between those of
    their neighbours.

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
    low = 0.0 if count <= 0 else float(special.betaincinv(count, total - count + 1, tail))
    high = 1.0 if count >= total else float(special.betaincinv(count + 1, total - count, 1 - tail))
    return low, high


def rate_estimate(
    value: float, total: int, threshold_variance: float = 0.0, confidence: float = CONFIDENCE
) -> Estimate:
    """Return a rate over examples with its Clopper-Pearson interval.

    Parameters
    ----------
    value, total
        The rate, and the number of examples that it is a share of.
    threshold_variance
        What the error of an estimated threshold adds to the variance of the rate. It counts as if
        there were fewer examples: as many as have the variance of both errors together (Kish's
        effective size).
    confidence
        Of the interval.

    References
    ----------
    Korn and Graubard (1998), "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data", Survey Methodology 24.
    """
    count = value * total
    if threshold_variance == 0:
        low, high = clopper_pearson(count, total, confidence)
        return Estimate(value=value, low=low, high=high, method="Clopper-Pearson over examples")
    # A rate of 0 or 1 has an error, too, which its own binomial variance denies.
    likely = (count + 1) / (total + 2)
    binomial = likely * (1 - likely) / total
    effective = total * binomial / (binomial + threshold_variance)
    low, high = clopper_pearson(value * effective, effective, confidence)
    method = "Clopper-Pearson over examples, widened for the threshold's own error"
    return Estimate(value=value, low=low, high=high, method=method)


def balanced_estimate(tpr: float, members: int, fpr: float, others: int) -> Estimate:
    """Return a balanced accuracy over examples.

    Its ends lie as far off as those of both rates do together: their errors are independent.

    References
    ----------
    Zou and Donner (2008), "Construction of confidence limits about effect measures: a general
    approach", Statistics in Medicine 27, from the exact intervals of both rates.

    Examples
    --------
    >>> found = balanced_estimate(0.6, 100, 0.4, 100)
    >>> [round(float(end or 0), 3) for end in (found.low, found.value, found.high)]
    [0.527, 0.6, 0.668]
    """
    caught = clopper_pearson(tpr * members, members)
    wrongly = clopper_pearson(fpr * others, others)
    value = (1 + tpr - fpr) / 2
    return Estimate(
        value=value,
        low=value - math.hypot(tpr - caught[0], wrongly[1] - fpr) / 2,
        high=value + math.hypot(caught[1] - tpr, fpr - wrongly[0]) / 2,
        method="Clopper-Pearson over examples of both rates, squares added",
    )


def auc_estimate(scores: Scores, members: Members) -> Estimate:
    """Return the mean AUC of models of the same members with DeLong's interval over examples.

    Parameters
    ----------
    scores
        ``[models, examples]``.
    members
        ``[examples]``: of every model.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated
    receiver operating characteristic curves", Biometrics 44.
    """
    there = ~np.isnan(scores).any(axis=0)
    sides = [placements(row[there & members], row[there & ~members]) for row in scores]
    inside, outside = (np.mean(side, axis=0) for side in zip(*sides, strict=True))
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
        ``[models]``: the unit of each. Models, or pairs, of the same split share one.
    paired
        Models come in pairs.
    seed
        Of the resamples.
    mutual
        Each unit was judged with the others as references. What two units say of each other then
        counts in the results of both, which hang together, and intervals that took them to be
        independent would be too narrow: they are widened, see
        `gossamer.stats.intervals.mutual_widening`. With two units both results are of the same
        comparison, and there is no interval.
    misled
        Some of these references learnt nothing. They mislead more or less by how many and which
        they are, which the units that there are cannot tell, and there is no interval.
    """

    def __init__(
        self,
        units: NDArray[np.intp],
        *,
        paired: bool,
        seed: int,
        mutual: bool = False,
        misled: bool = False,
    ) -> None:
        self._units = units
        self.count = int(units.max()) + 1
        self._shared = len(units) > self.count * (2 if paired else 1)
        self._noun = "split" if self._shared else "pair" if paired else "model"
        self._mutual = mutual
        self._misled = mutual and misled
        self._weights = _bootstrap_weights(self.count, seed)

    def estimate(
        self,
        values: Floats,
        least: float = -math.inf,
        most: float = math.inf,
        confidence: float = CONFIDENCE,
    ) -> Estimate:
        """Return the mean over models, ``[models]``, kept within what is possible."""
        low, high = self.bands(values[:, None], least, most, confidence)
        value = float(values.mean())
        if low is None or high is None:
            return Estimate(value=value, method=self.method)
        return Estimate(value=value, low=float(low[0]), high=float(high[0]), method=self.method)

    @property
    def method(self) -> str:
        """How the intervals are found."""
        if self.count < 2 and self._shared:
            return "all models share one split: no interval"
        if self.count < 2:
            return f"one {self._noun}: no interval"
        if self._mutual and self.count == 2:
            return f"two {self._noun}s, each the other's reference: no interval"
        if self._misled:
            return "some references learnt nothing: no interval"
        widened = ", widened as they are each other's references" if self._mutual else ""
        if self._weights is None:
            return f"Student t over {self.count} {self._noun}s, too few to resample{widened}"
        return f"bootstrap over {self.count} {self._noun}s{widened}"

    def bands(
        self, values: Floats, least: float, most: float, confidence: float = CONFIDENCE
    ) -> tuple[Floats, Floats] | tuple[None, None]:
        """Return lower and upper ends, ``[numbers]``, of means over ``[models, numbers]``.

        Beyond 95% they are Student's: so far out resamples are too few.
        """
        if self._misled or self.count < (3 if self._mutual else 2):
            return None, None
        totals = np.zeros((self.count, values.shape[1]))
        np.add.at(totals, self._units, values)
        means = totals / np.bincount(self._units)[:, None]
        if self._weights is None or confidence > CONFIDENCE:
            found = [mean_interval(column.tolist(), confidence) for column in means.T]
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
