"""How high may the margin of an example be that was not trained on: learnt by regression."""

import numpy as np
from numpy.typing import NDArray

from gossamer.core.installing import needing
from gossamer.core.streams import stream
from gossamer.leakage.attacks.attack import WITH_AND_WITHOUT, Attack, chosen
from gossamer.leakage.design import Scores
from gossamer.leakage.output_statistics import Labels
from gossamer.leakage.references import References

FEWEST_REFERENCES = 2
FEWEST_UNITS = 4
"""Two groups of two: the regression for one group is learnt on the other."""

_MOST_ROWS = 20_000
_STEPS = 255
"""Into as many the trees sort a feature in any case; done beforehand, a table of the steps and the
classes holds every prediction there can be."""

_HIGH = 0.95
_LEAST_SPREAD = 1e-2
"""Of the median spread between the quantiles; a regression may cross them."""


def quantile_scores(references: References, labels: Labels, seed: int) -> Scores:
    """Score by the margin's place among predicted quantiles of non-members' margins.

    Gradient-boosted trees predict the median and the 95% quantile of the margin of an example
    that the model did not train on, from its class and its mean margin in the references that
    did not. The score is the distance from the median in units of the distance between the two.
    Targets are split in two groups (pairs kept together); each is judged by the regression that
    was learnt on the non-members of the other.

    Parameters
    ----------
    references
        Margins gathered over all models; at least `FEWEST_UNITS` units.
    labels
        ``[examples]``.
    seed
        Of the rows that are drawn to learn from.

    Returns
    -------
    array
        ``[models, examples]``; NaN with fewer than two references on a side.

    References
    ----------
    Bertran, Tang, Kearns, Morgenstern, Roth and Wu (2023), "Scalable membership inference attacks
    via quantile regression", NeurIPS. They regress on the example itself; here its mean margin
    stands for it.
    """
    design = references.design
    hardness, enough = _hardness(references)
    margins = references.centre + references.centred
    classes, places = np.unique(labels, return_inverse=True)
    scores = np.full(margins.shape, np.nan)
    for group in (0, 1):
        learners = design.units % 2 != group
        rows = np.argwhere(enough & ~design.members & learners[:, None])
        if len(rows) > _MOST_ROWS:
            generator = stream(seed, "quantile regression", group)
            rows = rows[np.sort(generator.choice(len(rows), _MOST_ROWS, replace=False))]
        models, examples = rows.T
        edges = _edges(hardness[models, examples])
        steps = np.searchsorted(edges, hardness[models, examples])
        middle, high = (
            _learn(steps, labels[examples], margins[models, examples], classes, quantile)
            for quantile in (0.5, _HIGH)
        )
        for target in np.flatnonzero(~learners):
            there = np.searchsorted(edges, hardness[target]), places
            spread = high[there] - middle[there]
            spread = np.maximum(spread, _LEAST_SPREAD * max(float(np.median(spread)), 1e-6))
            scores[target] = (margins[target] - middle[there]) / spread
    return np.where(enough, scores, np.nan)


def _hardness(references: References) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the mean margin without the example, and where references suffice.

    Both are ``[models, examples]``.
    """
    hardness = np.empty(references.centred.shape, dtype=np.float32)
    enough = np.empty(references.centred.shape, dtype=bool)
    for target in range(len(hardness)):
        inside = references.side(target, inside=True)
        outside = references.side(target, inside=False)
        hardness[target] = references.centre + outside.mean
        enough[target] = np.minimum(inside.count, outside.count) >= FEWEST_REFERENCES
    return hardness, enough


def _edges(hardness: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the upper ends of all steps but the last, which hold equally many each."""
    shares = np.linspace(0, 100, _STEPS + 1)[1:-1]
    return np.percentile(hardness.astype(np.float64), shares, method="averaged_inverted_cdf")


def _learn(
    steps: NDArray[np.intp],
    labels: Labels,
    margins: NDArray[np.float64],
    classes: Labels,
    quantile: float,
) -> NDArray[np.float64]:
    """Return the margin's quantile at each step of hardness and class, ``[steps, classes]``."""
    # scikit-learn takes a second to load, which nobody waits for who does not use it.
    with needing("audit", "the attack by quantile regression"):
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits

    model = HistGradientBoostingRegressor(
        loss="quantile",
        quantile=quantile,
        max_iter=20,
        learning_rate=0.3,
        max_leaf_nodes=8,
        early_stopping=False,
        random_state=0,
    )
    every = np.column_stack([np.repeat(np.arange(_STEPS), len(classes)), np.tile(classes, _STEPS)])
    # Two columns are too little for several threads, which on a busy machine wait for each other.
    with threadpool_limits(1, user_api="openmp"):
        model.fit(np.column_stack([steps, labels]), margins)
        predicted: NDArray[np.float64] = model.predict(every).reshape(_STEPS, len(classes))
    return predicted


ATTACK = Attack(
    name="quantile_regression",
    label="Quantile regression on reference means",
    phrase="quantile regression on reference means",
    source="after Bertran et al. 2023",
    requirement=WITH_AND_WITHOUT,
    meaning="Accuses examples whose margin is high for one that networks were not trained on: "
    "quantiles are predicted from the example's class and mean margin in networks without it.",
    unit="distances from the median to the 95% quantile",
    references="in and out",
    score=lambda case, targets: chosen(
        quantile_scores(case.margins, case.labels, case.seed), targets
    ),
    fewest_references=FEWEST_REFERENCES,
    fewest_units=FEWEST_UNITS,
    learns=True,
)
