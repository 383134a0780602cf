"""The whole attack once more, in plain loops over plain numbers, sharing no code with the audit."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from gossamer.leakage import audit

Members = NDArray[np.bool_]
PairedMembers = Callable[..., Members]
Rows = list[list[float]]

RATES = (0.01, 0.001)


def margin(logits: list[float], label: int) -> float:
    """log(p / (1 - p)) of the true class."""
    others = [value for place, value in enumerate(logits) if place != label]
    return logits[label] - math.log(sum(math.exp(value) for value in others))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def log_density(value: float, centre: float, variance: float) -> float:
    return -0.5 * ((value - centre) ** 2 / variance + math.log(2 * math.pi * variance))


def pooled_ratios(margins: Rows, members: list[list[bool]], target: int) -> list[float]:
    """Log likelihood ratios of one target, from all models but itself and its mate."""
    mate = target + 1 if target % 2 == 0 else target - 1
    models = [model for model in range(len(margins)) if model not in (target, mate)]
    examples = range(len(margins[0]))
    centres: dict[bool, list[float]] = {}
    variances: dict[bool, float] = {}
    for side in (True, False):
        squares, freedom, centres[side] = [], 0, []
        for example in examples:
            there = [margins[m][example] for m in models if members[m][example] == side]
            centres[side].append(mean(there))
            squares += [(value - mean(there)) ** 2 for value in there]
            freedom += len(there) - 1
        variances[side] = math.fsum(squares) / freedom
    return [
        log_density(margins[target][example], centres[True][example], variances[True])
        - log_density(margins[target][example], centres[False][example], variances[False])
        for example in examples
    ]


def flat(rows: Rows) -> list[float]:
    return [value for row in rows for value in row]


def share(scores: list[float], threshold: float) -> float:
    return sum(score >= threshold for score in scores) / len(scores)


def best_of_others(insides: Rows, outsides: Rows) -> float:
    """The score that, as a threshold, is best on the models it comes from; the first of equals."""
    inside, outside = flat(insides), flat(outsides)
    best, found = -math.inf, math.nan
    for one, other in zip(insides, outsides, strict=True):
        for threshold in sorted(one + other):
            gain = share(inside, threshold) - share(outside, threshold)
            if gain > best:
                best, found = gain, threshold
    return found


def just_beyond(outsides: Rows, rate: float) -> float:
    """The threshold above the highest non-member that may not be accused any more."""
    descending = sorted(flat(outsides), reverse=True)
    return math.nextafter(descending[math.floor(rate * len(descending) + 1e-9)], math.inf)


def area(inside: list[float], outside: list[float]) -> float:
    won = sum((a > b) + (a == b) / 2 for a in inside for b in outside)
    return won / (len(inside) * len(outside))


@pytest.mark.parametrize(("models", "examples"), [(6, 40), (8, 60)])
@pytest.mark.parametrize("gain", [0.0, 2.0])
def test_an_audit_by_pooled_variance_is_that_of_plain_loops(
    paired_members: PairedMembers, models: int, examples: int, gain: float
) -> None:
    members = paired_members(models, examples, models)
    generator = np.random.default_rng(models)
    labels = generator.integers(0, 3, examples)
    logits = generator.normal(size=(models, examples, 3)).astype(np.float32)
    logits[:, np.arange(examples), labels] += (gain * members).astype(np.float32)
    found = audit(logits, labels, members, attacks=["lira_online"]).attack("lira_online")

    inside_of = members.tolist()
    # The audit keeps margins in single precision; everything after that is in double.
    margins = [
        [
            float(np.float32(margin(row, label)))
            for row, label in zip(model, labels.tolist(), strict=True)
        ]
        for model in logits.astype(np.float64).tolist()
    ]
    scores = [pooled_ratios(margins, inside_of, target) for target in range(models)]
    insides, outsides = (
        [
            [score for score, inside in zip(row, own, strict=True) if inside == side]
            for row, own in zip(scores, inside_of, strict=True)
        ]
        for side in (True, False)
    )
    for target in range(models):
        others = [model for model in range(models) if model // 2 != target // 2]
        taught = [insides[model] for model in others], [outsides[model] for model in others]
        at = {"balanced_accuracy": best_of_others(*taught)}
        at |= {f"{rate}": just_beyond(taught[1], rate) for rate in RATES}
        tpr = {name: share(insides[target], threshold) for name, threshold in at.items()}
        fpr = {name: share(outsides[target], threshold) for name, threshold in at.items()}
        measures = found.per_model[target].measures
        balanced = (1 + tpr["balanced_accuracy"] - fpr["balanced_accuracy"]) / 2
        assert measures["balanced_accuracy"] == pytest.approx(balanced, abs=1e-12)
        assert measures["auc"] == pytest.approx(area(insides[target], outsides[target]), abs=1e-12)
        for rate in RATES:
            assert measures[f"tpr@{rate}"] == pytest.approx(tpr[f"{rate}"], abs=1e-12)
            assert measures[f"fpr@{rate}"] == pytest.approx(fpr[f"{rate}"], abs=1e-12)
    areas = [area(*sides) for sides in zip(insides, outsides, strict=True)]
    assert found.auc.value == pytest.approx(mean(areas), abs=1e-12)


def test_few_pairs_have_students_interval_of_the_means_of_pairs(
    paired_members: PairedMembers,
) -> None:
    members = paired_members(6, 200)
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(6, 200, 2))
    labels = np.arange(200) % 2
    logits[:, np.arange(200), labels] += members
    found = audit(logits, labels, members, attacks=["loss"]).attack("loss")
    areas = [target.measures["auc"] for target in found.per_model]
    pairs = [(areas[n] + areas[n + 1]) / 2 for n in (0, 2, 4)]
    centre = mean(pairs)
    deviation = math.sqrt(math.fsum((pair - centre) ** 2 for pair in pairs) / 2)
    student = 0.95 / math.sqrt(2 * 0.975 * 0.025)  # 97.5%, two degrees of freedom, closed form
    reach = student * deviation / math.sqrt(3)
    assert found.auc.low == pytest.approx(centre - reach, abs=1e-12)
    assert found.auc.high == pytest.approx(centre + reach, abs=1e-12)
    assert found.auc.value == pytest.approx(centre, abs=1e-12)
