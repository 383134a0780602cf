"""The audit: every attack that can be run, its numbers, and what the audit checks of itself."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.errors import InputError
from gossamer.formats import counted, listed, percent
from gossamer.leakage import self_tests
from gossamer.leakage.attacks import (
    ATTACKS,
    BASELINE,
    HEADLINES,
    Case,
    chosen_attacks,
    obstacle,
)
from gossamer.leakage.design import find_design, without_mate
from gossamer.leakage.evaluation import (
    RATES,
    evaluate,
    evaluate_in_sample,
    find_split,
)
from gossamer.leakage.output_statistics import (
    Statistics,
    checked_labels,
    checked_logits,
    statistics,
)
from gossamer.leakage.uncertainty import FEWEST_TO_RESAMPLE, Resampler
from gossamer.records.leakage import AttackResult, Check, Estimate, Exposed, Leakage, Skipped

Progress = Callable[[int, int, str], None]
"""Called with what is done, out of how much, and what comes next."""

MOST_EXPOSED = 20


def audit(
    logits: ArrayLike,
    labels: ArrayLike,
    members: ArrayLike,
    *,
    pairs: ArrayLike | None = None,
    probabilities: bool = False,
    attacks: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Leakage:
    """Measure how well an attacker can tell which examples a model was trained on.

    Every model is a target in turn, attacked with the others except its pair mate as references.
    Thresholds come from other models or, where there are none, from the other half of the
    examples; never from the scores that they judge, but for the published baseline.

    Parameters
    ----------
    logits
        ``[models, examples, classes]``, or ``[examples, classes]`` of one model.
    labels
        True classes, ``[examples]``, whole numbers from 0.
    members
        Whether a model was trained on an example, ``[models, examples]``; or ``[examples]`` if
        all models were trained on the same.
    pairs
        ``[models]``: a number that a model shares with the one trained on the complementary
        examples. None: such pairs are recognised.
    probabilities
        The first argument holds probabilities.
    attacks
        Names of the attacks to run, of `gossamer.leakage.attacks.ATTACKS`; None: all usual ones.
        The best threshold in sample is always reported.
    seed
        Of resampling, splits and self-tests.
    progress
        Called before each part, as an audit of many models takes seconds.

    Returns
    -------
    Leakage

    Raises
    ------
    InputError
        If an array is not as described; or a model has fewer than two members or two others.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> members = generator.random((1, 400)) < 0.5
    >>> labels = generator.integers(0, 3, 400)
    >>> logits = generator.normal(size=(1, 400, 3))
    >>> logits[0, members[0], labels[members[0]]] += 3.0
    >>> leakage = audit(logits, labels, members)
    >>> leakage.passed, leakage.attack("loss").auc.value > 0.9
    (True, True)
    """
    array = checked_logits(logits, "probabilities" if probabilities else "logits")
    found = statistics(array, labels, probabilities=probabilities)
    return audit_statistics(
        found,
        labels,
        members,
        pairs=pairs,
        classes=array.shape[2],
        attacks=attacks,
        seed=seed,
        progress=progress,
    )


def audit_statistics(
    statistics: Statistics,
    labels: ArrayLike,
    members: ArrayLike,
    *,
    pairs: ArrayLike | None = None,
    classes: int | None = None,
    attacks: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Leakage:
    """Audit from the statistics that were kept instead of all logits.

    Parameters
    ----------
    statistics
        Of every model and example.
    classes
        Number of classes, if it is to be reported.
    labels, members, pairs, attacks, seed, progress
        As for `audit`.

    Returns
    -------
    Leakage

    Raises
    ------
    InputError
        As for `audit`.
    """
    wanted = chosen_attacks(attacks)
    numbers = checked_labels(labels, statistics.examples, classes)
    _check_variety(statistics)
    _check_different(statistics)
    inside = checked_members(members, statistics.models, statistics.examples)
    alone = without_mate(inside, pairs)
    kept = np.delete(np.arange(statistics.models), alone)
    design = find_design(inside[kept], pairs, seed)
    case = Case(statistics.of_models(kept), numbers, design, find_split(design, seed), seed)
    obstacles = {name: obstacle(ATTACKS[name], design) for name in wanted}
    possible = [name for name, why in obstacles.items() if why is None]
    headline = next(
        (name for name in HEADLINES if name in possible), (possible or [BASELINE.name])[0]
    )
    results, checks = _carry_out(case, possible, headline, classes, progress or _silent)
    comparable = bool(design.informative.any())
    return Leakage(
        models=design.models,
        examples=statistics.examples,
        classes=classes,
        paired=design.kind == "paired",
        references=self_tests.count_references(design) if comparable else None,
        headline=headline,
        attacks=tuple(_renumbered(result, kept) for result in results),
        checks=checks,
        exposed=_most_exposed(case) if comparable else (),
        skipped=tuple(
            Skipped(attack=name, reason=f"because {why}") for name, why in obstacles.items() if why
        ),
        notes=(
            *_mateless(alone),
            *_notes(case, pairs is None, possible),
            *_stronger(results, headline),
        ),
        sentence=_sentence(next(r for r in results if r.name == headline)),
    )


def checked_members(members: ArrayLike, models: int, examples: int) -> NDArray[np.bool_]:
    """Return memberships as ``[models, examples]``; complain of any other shape or content.

    Raises
    ------
    InputError
        Also if some model has fewer than two members or two others: nothing to tell apart.
    """
    array = np.asarray(members)
    if array.shape not in {(examples,), (models, examples)}:
        raise InputError(
            f"members: the shape is {array.shape}, expected [{models}, {examples}] for models and "
            f"examples, or [{examples}] if all models were trained on the same."
        )
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise InputError("members: expected true and false, or 1 and 0, and nothing else.")
    inside = np.ascontiguousarray(np.broadcast_to(array.astype(bool), (models, examples)))
    counts = inside.sum(axis=1)
    for model, count in enumerate(counts.tolist()):
        if not 2 <= count <= examples - 2:
            raise InputError(
                f"members: model {model} has {count} members among {examples} examples, expected "
                "at least two members and two others; without either there is nothing to tell "
                "apart."
            )
    return inside


def _silent(done: int, total: int, what: str) -> None:
    """Tell nobody."""


def _check_variety(statistics: Statistics) -> None:
    for model, margins in enumerate(statistics.margin):
        if margins.min() == margins.max():
            raise InputError(
                f"predictions: model {model} says the same of every example (its margin is always "
                f"{float(margins[0]):.4g}), expected the outputs of a trained network."
            )


def _check_different(statistics: Statistics) -> None:
    """Refuse a model that was saved twice: its copy as reference would be the target itself."""
    seen: dict[bytes, int] = {}
    for model, margins in enumerate(statistics.margin):
        first = seen.setdefault(hashlib.sha256(margins.tobytes()).digest(), model)
        if first != model:
            raise InputError(
                f"predictions: models {first} and {model} have the same margin for every example, "
                "expected different models; if one was saved twice, leave one out."
            )


def _carry_out(
    case: Case, names: Sequence[str], headline: str, classes: int | None, progress: Progress
) -> tuple[tuple[AttackResult, ...], tuple[Check, ...]]:
    """Run the attacks and the self-tests."""
    total = len(names) + 2
    paired = case.design.kind == "paired"
    alone, mutual = (
        Resampler(case.design.units, paired=paired, seed=case.seed, mutual=mutual)
        for mutual in (False, True)
    )
    results = []
    for done, name in enumerate(names):
        attack = ATTACKS[name]
        progress(done, total, attack.face.label)
        results.append(
            evaluate(
                attack.face,
                attack.score(case, None),
                case.design,
                case.split,
                mutual if attack.references else alone,
                threshold=attack.threshold,
            )
        )
    progress(len(names), total, BASELINE.label)
    margins = case.statistics.margin.astype(np.float64)
    results.append(evaluate_in_sample(BASELINE, margins, case.design, alone))
    progress(len(names) + 1, total, "Self-tests")
    checks = _checks(case, headline, tuple(results), classes)
    progress(total, total, "")
    return tuple(results), checks


def _checks(
    case: Case, headline: str, results: tuple[AttackResult, ...], classes: int | None
) -> tuple[Check, ...]:
    checks = [
        self_tests.floor_check(case.statistics, case.design),
        self_tests.rates_check(results),
        self_tests.labels_check(case.labels, classes),
    ]
    attack = ATTACKS.get(headline)
    if attack is not None:
        checks.insert(0, self_tests.null_check(attack, case))
        if attack.references:
            counts = self_tests.count_references(case.design)
            checks.append(self_tests.references_check(counts))
    return tuple(checks)


def _most_exposed(case: Case) -> tuple[Exposed, ...]:
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


def _renumbered(result: AttackResult, kept: NDArray[np.intp]) -> AttackResult:
    """Give targets the numbers of the models as they were given."""
    targets = tuple(
        target.model_copy(update={"model": int(kept[target.model])}) for target in result.per_model
    )
    return result.model_copy(update={"per_model": targets})


def _mateless(alone: NDArray[np.intp]) -> tuple[str, ...]:
    if not len(alone):
        return ()
    numbers = listed([str(model) for model in alone.tolist()])
    who = f"Model {numbers} has no mate" if len(alone) == 1 else f"Models {numbers} have no mates"
    return (
        f"{who} among the others, which come in pairs trained on complementary examples: left out, "
        "as target and as reference.",
    )


def _notes(case: Case, searched: bool, possible: Sequence[str]) -> tuple[str, ...]:
    design = case.design
    members = int(design.members.sum(axis=1).min())
    others = int((~design.members).sum(axis=1).min())
    notes = []
    if design.kind == "paired" and searched:
        notes.append(
            "Models come in pairs that were trained on complementary examples, which was "
            "recognised from the members: a target's mate is never used against it."
        )
    if design.kind == "paired":
        notes.append(
            "Each model was trained on one side of a pair's split, usually half of the examples: "
            "what was audited is the recipe trained on half the pool, not a network trained on all "
            "of it."
        )
    if design.kind == "balanced" and design.models > 1:
        notes.append(
            "Every example is in the same number of models: against each target one model of the "
            "other side, drawn for each example, is left out, so that counts give nothing away."
        )
    if design.kind == "overlapping":
        notes.append(
            "Models were trained on examples that overlap otherwise than by chance, so that the "
            "members of one tell something of the members of another."
        )
    if any(name.startswith("lira") for name in possible):
        notes.append(
            "LiRA pools variances over examples, as there are fewer than 64 models."
            if case.pooled
            else "LiRA uses each example's own variances."
        )
    alike = int((~design.informative).sum())
    if design.models > 1 and 0 < alike < len(design.informative):
        notes.append(
            f"{counted(alike, 'example')} that every model or no model was trained on cannot be "
            "attacked with references."
        )
    if case.split.folds is not None:
        notes.append(
            "There is no independent model to fix thresholds on: either half of the examples is "
            "judged at the threshold of the other half."
        )
    units = int(design.units.max()) + 1
    shared = design.models > units * (2 if design.kind == "paired" else 1)
    if shared:
        notes.append(
            f"Models were trained on {counted(units, 'split')} of the examples in all: those of "
            "the same split count as one, as they agree on whatever sets its two sides apart."
        )
    if 1 < units < FEWEST_TO_RESAMPLE:
        noun = "splits" if shared else "pairs" if design.kind == "paired" else "models"
        notes.append(f"{units} {noun} are few: intervals lean on Student's distribution.")
    if others < 1 / min(RATES):
        notes.append(
            f"{counted(others, 'non-member')} cannot resolve a false-positive rate of "
            f"{percent(min(RATES), 1)}%."
        )
    if members < others / 10 or others < members / 10:
        notes.append(f"Members and non-members are far from equal: {members:,} and {others:,}.")
    return tuple(notes)


def _stronger(results: Sequence[AttackResult], headline: str) -> tuple[str, ...]:
    """Name the attacks that find clearly more at the rarest rate than the headline attack does."""
    rate = min(RATES)
    fair = {result.name: result for result in results if not result.optimistic}
    if headline not in fair:
        return ()
    most = fair[headline].rate_at(rate).tpr.high
    better = [
        result.label
        for result in fair.values()
        if most is not None
        and (at := result.rate_at(rate)).kept
        and at.tpr.low is not None
        and at.tpr.low > most
    ]
    if not better:
        return ()
    find = "finds" if len(better) == 1 else "find"
    return (
        f"{listed(better)} {find} more members at {percent(rate, 1)}% FPR than the headline "
        "attack, with intervals apart. The headline is chosen before looking and stays; an audit "
        "is a lower bound, and whoever must know the worst reads the whole table.",
    )


def _sentence(result: AttackResult) -> str:
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
    found = f"picks out {_share(at.tpr, ' of the training examples')}"
    if not at.kept:
        return (
            f"An attacker who means to accuse {asked} in fact accuses "
            f"{_per_thousand(at.realised_fpr)} in 1,000, and correctly {found} ({result.label}; "
            "its threshold, fixed on other data, does not keep the rate)."
        )
    were = "no" if at.realised_fpr == 0 else f"{_per_thousand(at.realised_fpr)} in 1,000"
    return (
        f"An attacker who may accuse {asked} correctly {found} ({result.label}; {were} innocents "
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
