"""What an audit found, and how it was done, in sentences."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gossamer.core.formats import counted, listed, percent
from gossamer.leakage.attacks import ATTACKS, Case
from gossamer.leakage.design import reference_counts
from gossamer.leakage.evaluation import RATES
from gossamer.leakage.uncertainty import FEWEST_TO_RESAMPLE
from gossamer.records.leakage import AttackResult, Estimate

_TELLING_WIDTH = 0.2
"""A wider interval of the balanced accuracy reaches from no leakage to much."""

_MANY_TIED = 0.02
"""Share of a model's confidences that tie at its lowest or highest, beyond which they count as
saturated: logits in half precision stay far below, forests and rounded probabilities far above."""

_FEW_REFERENCES = 4
"""A side: with fewer than these, as with four pairs of models, LiRA knows means poorly."""


def mateless(alone: NDArray[np.intp]) -> tuple[str, ...]:
    """Name the models that were left out, as their mates are missing."""
    if not len(alone):
        return ()
    numbers = listed([str(model) for model in alone.tolist()])
    who = f"Model {numbers} has no mate" if len(alone) == 1 else f"Models {numbers} have no mates"
    return (
        f"{who} among the others, which come in pairs trained on complementary examples: left out, "
        "as target and as reference.",
    )


def notes_on(case: Case, searched: bool, possible: Sequence[str]) -> tuple[str, ...]:
    """Say what a reader must know of how the audit was done.

    Parameters
    ----------
    case
        What was audited.
    searched
        Whether pairs were looked for, as none were given.
    possible
        Names of the attacks that were run.
    """
    return (
        *_on_guessing(case),
        *_on_design(case, searched),
        *_on_attacks(case, possible),
        *_on_numbers(case),
    )


def _on_guessing(case: Case) -> Iterator[str]:
    """Labels that are numbered otherwise than the logits leave the models right by chance only."""
    right = float(case.statistics.correct[case.design.members].mean())
    commonest = float(np.bincount(case.labels).max() / len(case.labels))
    if right <= commonest:
        yield (
            f"Models are right about {percent(right, 1)}% of the examples that they were trained "
            f"on, and naming the commonest class alone about {percent(commonest, 1)}%: unless they "
            "learnt nothing, the labels are not the columns of the logits, and no number counts."
        )


def _on_design(case: Case, searched: bool) -> Iterator[str]:
    design = case.design
    if design.kind == "paired" and searched:
        yield (
            "Models come in pairs that were trained on complementary examples, which was "
            "recognised from the members: a target's mate is never used against it."
        )
    if design.kind == "paired":
        yield (
            "Each model was trained on one side of a pair's split, usually half of the examples: "
            "what was audited is the recipe trained on half the pool, not a network trained on all "
            "of it."
        )
    if design.kind == "balanced" and design.models > 1:
        yield (
            "Every example is in the same number of models: against each target one model of the "
            "other side, drawn for each example, is left out, so that counts give nothing away."
        )
    if design.kind == "overlapping":
        yield (
            "Models were trained on examples that overlap otherwise than by chance, so that the "
            "members of one tell something of the members of another."
        )


def _on_attacks(case: Case, possible: Sequence[str]) -> Iterator[str]:
    design = case.design
    if any(name.startswith("lira") for name in possible):
        yield (
            "LiRA pools variances over examples, as there are fewer than 64 models."
            if case.pooled
            else "LiRA uses each example's own variances."
        )
    alike = int((~design.informative).sum())
    if design.models > 1 and 0 < alike < len(design.informative):
        yield (
            f"{counted(alike, 'example')} that every model or no model was trained on cannot be "
            "attacked with references."
        )
    if case.split.folds is not None:
        yield (
            "There is no independent model to fix thresholds on: either half of the examples is "
            "judged at the threshold of the other half."
        )


def _on_numbers(case: Case) -> Iterator[str]:
    design = case.design
    units = int(design.units.max()) + 1
    shared = design.models > units * (2 if design.kind == "paired" else 1)
    if shared:
        yield (
            f"Models were trained on {counted(units, 'split')} of the examples in all: those of "
            "the same split count as one, as they agree on whatever sets its two sides apart."
        )
    if 1 < units < FEWEST_TO_RESAMPLE:
        noun = "splits" if shared else "pairs" if design.kind == "paired" else "models"
        yield f"{units} {noun} are few: intervals lean on Student's distribution."
    members = int(design.members.sum(axis=1).min())
    others = int((~design.members).sum(axis=1).min())
    if others < 1 / min(RATES):
        yield (
            f"{counted(others, 'non-member')} cannot resolve a false-positive rate of "
            f"{percent(min(RATES), 1)}%."
        )
    if members < others / 10 or others < members / 10:
        yield f"Members and non-members are far from equal: {members:,} and {others:,}."


def few_examples(case: Case) -> tuple[str, ...]:
    """Warn where the examples alone leave balanced accuracies open by more than 20 points.

    Guessing has the variance ``(1/m + 1/o) / 16`` on m members and o others; independent models
    or pairs are averaged over.
    """
    inside = case.design.members.sum(axis=1)
    members = int(inside.min())
    others = int(case.design.members.shape[1] - inside.max())
    units = int(case.design.units.max()) + 1
    width = 2 * 1.96 * math.sqrt((1 / members + 1 / others) / (16 * units))
    if width <= _TELLING_WIDTH:
        return ()
    enough = math.ceil((1.96 / _TELLING_WIDTH) ** 2 / units)
    return (
        f"{members:,} members and {others:,} others a model are too few to tell anything: the 95% "
        f"interval of the balanced accuracy of guessing is {percent(width, 0)} points wide. It is "
        f"narrower than {percent(_TELLING_WIDTH, 0)} from {enough:,} examples, half of them "
        "members.",
    )


def breakdowns(case: Case) -> tuple[str, ...]:
    """Warn where attacks break down, so that they find less than there is to find."""
    return tuple(_breakdowns(case))


def _breakdowns(case: Case) -> Iterator[str]:
    design, margins = case.design, case.statistics.margin
    ends = (margins.min(axis=1, keepdims=True), margins.max(axis=1, keepdims=True))
    tied = sum(((margins == end).sum() - len(margins)) / margins.size for end in ends)
    if tied > _MANY_TIED:
        yield (
            f"Confidences are saturated: {percent(tied, 0)}% of them tie at a model's lowest or "
            "highest, such as probabilities of exactly 0 and 1. LiRA takes log-odds to be "
            "Gaussian, which these are not, and may find next to nothing; thresholds cannot part "
            "what ties. Read RMIA and BASE, and save logits or unrounded probabilities if there "
            "are any."
        )
    collapsed = collapsed_models(case)
    if len(collapsed) == design.models:
        yield (
            "No model is right about training examples more often than naming one class would be: "
            "nothing can leak that was not learnt, and no number counts."
        )
    elif collapsed:
        named = listed([str(model) for model in collapsed])
        who = f"Model {named} is" if len(collapsed) == 1 else f"Models {named} are"
        yield (
            f"{who} right about training examples no more often than naming one class would be: as "
            "targets they give nothing away, and as references they mislead. Train them again, or "
            "leave them out with their mates."
        )
    counts = [count[design.informative] for count in reference_counts(design, 0)]
    low = int(min(count.min(initial=design.models) for count in counts))
    if design.informative.any() and 0 < low < _FEW_REFERENCES:
        yield (
            f"{counted(low, 'reference')} a side are few: an attacker with more models finds more."
        )


def collapsed_models(case: Case) -> list[int]:
    """Return the models that are right about their members no more often than one class is common.

    Within two standard errors, counted from 0 among those audited.
    """
    right = case.statistics.correct
    found = []
    for model, inside in enumerate(case.design.members):
        commonest = float(np.bincount(case.labels[inside]).max() / inside.sum())
        error = math.sqrt(commonest * (1 - commonest) / inside.sum())
        if right[model, inside].mean() <= commonest + 2 * error:
            found.append(model)
    return found


def strongest_of(results: Sequence[AttackResult]) -> tuple[str, int]:
    """Return the name of the strongest attack, and of how many it was chosen.

    Of all that can be made to accuse rarely, the one of the highest true-positive rate at the
    rarest false-positive rate; of equal ones the first. ("", 0) if there is none.
    """
    fair = rankable(results)
    if not fair:
        return "", 0
    best = max(fair, key=lambda result: result.rate_at(min(RATES)).comparable)
    return best.name, len(fair)


def rankable(results: Sequence[AttackResult]) -> list[AttackResult]:
    """Return the attacks that can be made to accuse rarely."""
    return [r for r in results if not r.optimistic and not ATTACKS[r.name].decides]


def finding(result: AttackResult, compared: int = 1) -> str:
    """Say what an attack finds.

    Parameters
    ----------
    result
        Of the attack.
    compared
        Of how many attacks it was chosen as the strongest; 1 if it was chosen before looking.
    """
    if result.optimistic:
        return (
            f"A threshold chosen on the very scores that it judges tells members from others with "
            f"a balanced accuracy of {percent(result.balanced_accuracy.value, 1)}%."
        )
    if ATTACKS[result.name].decides:
        return (
            "Accusing whatever is classified correctly tells members from others with a balanced "
            f"accuracy of {_share(result.balanced_accuracy)} ({result.label}; it says yes or no, "
            "so that it cannot be made to accuse rarely)."
        )
    at = result.rate_at(min(RATES))
    asked = f"1 in {round(1 / at.fpr):,} innocents"
    tpr = at.together if compared > 1 and at.together else at.tpr
    found = f"picks out {_share(tpr, ' of the training examples')}"
    who = result.label
    if compared > 1:
        holds = "" if tpr.low is None else ", by an interval that holds for all of them together"
        who = f"{result.label}, the strongest of {compared} attacks{holds}"
    if not at.kept:
        return (
            f"An attacker who means to accuse {asked} in fact accuses "
            f"{_per_thousand(at.realised_fpr)} in 1,000, and correctly {found} ({who}; "
            "its threshold, fixed on other data, does not keep the rate)."
        )
    were = "no" if at.realised_fpr == 0 else f"{_per_thousand(at.realised_fpr)} in 1,000"
    return (
        f"An attacker who may accuse {asked} correctly {found} ({who}; {were} innocents "
        "were in fact accused)."
    )


def _share(estimate: Estimate, of: str = "") -> str:
    """Return a share in percent, of what, with its interval."""
    text = f"{percent(estimate.value, 1)}%{of}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text}, [{percent(estimate.low, 1)}, {percent(estimate.high, 1)}]"


def _per_thousand(rate: float) -> str:
    return f"{1000 * rate:.2g}" if rate < 0.01 else f"{1000 * rate:.0f}"
