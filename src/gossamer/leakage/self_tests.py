"""What every audit checks of itself, because a wrong attack looks like any other number."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from gossamer.core.formats import counted, decimal
from gossamer.core.streams import stream
from gossamer.leakage.attacks import Attack, Case
from gossamer.leakage.design import (
    CONFIDENCE,
    Design,
    counts_tell,
    redraw,
    reference_counts,
    shuffle,
)
from gossamer.leakage.evaluation import fixed_rates
from gossamer.leakage.output_statistics import Labels, Statistics
from gossamer.leakage.ranking import auc, best_of, rank
from gossamer.leakage.threshold_split import find_split
from gossamer.records.leakage import AttackResult, Check, ReferenceCounts

PERMUTATIONS = 200

_MOST_EXAMPLES = 2000
_LEARNING_PERMUTATIONS = 20
_LEARNING_EXAMPLES = 300
"""Of an attack that must learn anew for each membership."""
_MOST_TARGETS = 16
_FEWEST_OF_A_SIDE = 2
"""Members, and others, of each model: one for either half where examples are halved."""


def null_check(attack: Attack, case: Case, name: str = "null") -> Check:
    """Attack memberships that are drawn at random as the design draws them: the AUC must be 0.5.

    Of about 2,000 examples and up to 16 targets, 200 times; 300 and 20 where an attack must learn
    anew each time. The mean AUC must lie within 99.9% of
    what the spread of the 200 allows. An attack with thresholds of its own is taken at its
    decisions, whose AUC is the balanced accuracy.

    Of a few examples, chance may leave a target without any member, or any other, to rank: it has
    no AUC then and is passed over. That does not shift the mean: given how many of its examples
    are members, which of them are is still a fair draw.
    """
    generator = stream(case.seed, "null")
    found = [_null_auc(attack, drawn) for drawn in _null_cases(attack, case, generator)]
    areas = np.array([area for area in found if area is not None])
    if len(areas) < 2:
        detail = f"{counted(case.statistics.examples, 'example')} are too few to redraw memberships"
        return Check(name=name, passed=False, detail=detail)
    mean = float(areas.mean())
    reach = float(special.stdtrit(len(areas) - 1, (1 + CONFIDENCE) / 2))
    reach *= float(areas.std(ddof=1)) / math.sqrt(len(areas))
    return Check(
        name=name,
        passed=abs(mean - 0.5) <= reach,
        detail=(
            f"{attack.label} against {len(areas)} random memberships that the design could have "
            "drawn: mean AUC "
            f"{mean:.4f}, allowed {0.5 - reach:.4f} to {0.5 + reach:.4f}"
        ),
    )


def floor_check(statistics: Statistics, design: Design) -> Check:
    """Hold the best threshold on the lead, in sample, against accusing what is right.

    It can be no worse: a positive lead *is* a right decision, so that one of its thresholds is
    the gap attack.
    """
    shortfall = max(
        (1 + float(right[inside].mean()) - float(right[~inside].mean())) / 2
        - best_of(rank(lead.astype(np.float64), inside)).balanced_accuracy
        for lead, right, inside in zip(
            statistics.lead, statistics.correct, design.members, strict=True
        )
    )
    return Check(
        name="floor",
        passed=shortfall <= 1e-12,
        detail=(
            "the best threshold on the lead of the true class is at least the gap attack on every "
            f"model (smallest surplus {decimal(-shortfall, 4)})"
        ),
    )


def rates_check(results: tuple[AttackResult, ...]) -> Check:
    """Whatever is a share must lie within [0, 1]."""
    shares = [
        share
        for result in results
        for share in (
            *(value for numbers in result.per_model for value in numbers.measures.values()),
            *(part for point in result.roc for part in (point.fpr, point.tpr)),
            result.auc.value,
            result.balanced_accuracy.value,
        )
    ]
    lowest, highest = min(shares), max(shares)
    span = f"from {lowest:.4f} to {highest:.4f}"
    return Check(
        name="rates",
        passed=lowest >= 0 and highest <= 1,
        detail=f"{len(shares):,} rates, accuracies and areas lie {span}",
    )


def labels_check(labels: Labels, classes: int | None) -> Check:
    """Labels are class numbers, not one-hot rows; what is not was refused before."""
    among = "" if classes is None else f" of {classes}"
    return Check(
        name="labels",
        passed=labels.ndim == 1,
        detail=f"one class number an example, {len(np.unique(labels))} classes{among} occur",
    )


def references_check(counts: ReferenceCounts) -> Check:
    """How many references an example has must not tell whether it is a member of the target."""
    return Check(
        name="references",
        passed=counts.independent,
        detail=(
            f"{_span(counts.in_lowest, counts.in_highest)} references with an example and "
            f"{_span(counts.out_lowest, counts.out_highest)} without it, "
            + ("whatever" if counts.independent else "depending on")
            + " its membership"
        ),
    )


def count_references(design: Design) -> ReferenceCounts:
    """Count the references of every example against every target.

    Some example must be in one model and not in another.
    """
    there = design.informative
    found = [reference_counts(design, target) for target in range(design.models)]
    inside = np.stack([pair[0][there] for pair in found])
    outside = np.stack([pair[1][there] for pair in found])
    return ReferenceCounts(
        in_lowest=int(inside.min()),
        in_highest=int(inside.max()),
        out_lowest=int(outside.min()),
        out_highest=int(outside.max()),
        independent=not counts_tell(design),
    )


def _null_cases(attack: Attack, case: Case, generator: np.random.Generator) -> Iterator[Case]:
    population = (
        np.flatnonzero(case.design.informative)
        if attack.mutual
        else np.arange(case.statistics.examples)
    )
    turns, most = (
        (_LEARNING_PERMUTATIONS, _LEARNING_EXAMPLES)
        if attack.learns
        else (PERMUTATIONS, _MOST_EXAMPLES)
    )
    some = _some_examples(case.design, population, generator, most)
    design = case.design.select(some)
    few = replace(
        case,
        statistics=case.statistics.select(some),
        softened=case.softened.select(some) if case.softened else None,
        labels=case.labels[some],
    )
    for turn in range(turns):
        drawn = (redraw if attack.mutual else shuffle)(design, generator)
        split = find_split(drawn, turn)
        yield replace(few, design=drawn, split=split)


def _some_examples(
    design: Design, population: NDArray[np.intp], generator: np.random.Generator, most: int
) -> NDArray[np.intp]:
    """Draw examples; where members, or others, are rare, add two of each model."""
    size = min(most, len(population))
    some = generator.choice(population, size, replace=False)
    for inside in design.members:
        for side in (inside, ~inside):
            if side[some].sum() < _FEWEST_OF_A_SIDE:
                there = np.setdiff1d(population[side[population]], some)
                some = np.append(some, there[:_FEWEST_OF_A_SIDE])
    return np.sort(some)


def _null_auc(attack: Attack, case: Case) -> float | None:
    """Return the mean AUC of the targets that have one; None if there is none."""
    if attack.threshold is not None or not attack.mutual:
        scores = attack.score(case, None)
        tpr, fpr = fixed_rates(scores, case.design, case.split, attack.threshold)
        return float((1 + tpr - fpr).mean() / 2)
    targets = range(min(case.design.models, _MOST_TARGETS))
    scores = attack.score(case, targets)
    pairs = zip(scores, case.design.members[targets], strict=True)
    ranked = [rank(row, inside) for row, inside in pairs]
    areas = [auc(target) for target in ranked if len(target.inside) and len(target.outside)]
    return float(np.mean(areas)) if areas else None


def _span(lowest: int, highest: int) -> str:
    return str(lowest) if lowest == highest else f"{lowest} to {highest}"
