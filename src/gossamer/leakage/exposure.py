"""The examples of which training shows most."""

import numpy as np

from gossamer.leakage.attacks.attack import Case
from gossamer.records.leakage import Exposed

MOST_EXPOSED = 20


def most_exposed(case: Case) -> tuple[Exposed, ...]:
    """Rank examples by how far apart the margins of models with and without them lie."""
    sums, design = case.margins, case.design
    counts = [np.maximum(count, 1) for count in sums.counts]
    means = [total / count for total, count in zip(sums.sums, counts, strict=True)]
    there = design.informative
    scores = np.where(there, (means[1] - means[0]) / sums.deviation, -np.inf)
    right = case.statistics.correct
    accuracies = [(right & side).sum(axis=0) for side in (~design.members, design.members)]
    most = np.argsort(-scores, kind="stable")[: min(MOST_EXPOSED, int(there.sum()))]
    return tuple(
        Exposed(
            example=int(example),
            label=int(case.labels[example]),
            score=float(scores[example]),
            member_models=int(sums.counts[1][example]),
            other_models=int(sums.counts[0][example]),
            member_accuracy=float(accuracies[1][example] / counts[1][example]),
            other_accuracy=float(accuracies[0][example] / counts[0][example]),
        )
        for example in most
    )
