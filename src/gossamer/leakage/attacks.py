"""The attacks of an audit: what each is called, needs and does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gossamer.core.errors import InputError
from gossamer.core.formats import counted, listed
from gossamer.leakage import likelihood_ratio, probability_ratio, quantile_regression
from gossamer.leakage.design import Design, Scores, reference_counts
from gossamer.leakage.evaluation import Face, Split
from gossamer.leakage.output_statistics import Labels, Statistics
from gossamer.leakage.references import References, gather
from gossamer.leakage.threshold_attacks import (
    confidence_scores,
    entropy_scores,
    gap_scores,
    loss_scores,
    measured_from_class_threshold,
    modified_entropy_scores,
)

ENOUGH = 0.5
"""Share of the members, and of the others, of each target that must have the references an attack
needs."""


@dataclass(frozen=True)
class Case:
    """Everything that an attack may look at."""

    statistics: Statistics
    labels: Labels
    design: Design
    split: Split
    seed: int

    @cached_property
    def margins(self) -> References:
        """Margins gathered over all models."""
        return gather(self.statistics.margin, self.design)

    @property
    def pooled(self) -> bool:
        """Whether LiRA pools variances unless told otherwise."""
        return self.design.models < likelihood_ratio.POOLED_BELOW


Targets = Sequence[int] | None


@dataclass(frozen=True)
class Attack:
    """One attack."""

    face: Face
    score: Callable[[Case, Targets], Scores]
    """Scores of the targets (None: of all models), ``[targets, examples]``."""
    references: int = 0
    """References that it needs a side."""
    units: int = 1
    """Pairs, or unpaired models, that it needs."""
    threshold: float | None = None
    """Where the attack itself says who is accused."""
    decides: bool = False
    """Scores are yes or no alone, so that no threshold makes accusations rare."""


def _by_class(score: Callable[[Statistics], Scores]) -> Callable[[Case, Targets], Scores]:
    """Make an attack with thresholds of each class; 0 is the threshold."""

    def attack(case: Case, targets: Targets) -> Scores:
        rows = case.split.rows(score(case.statistics))
        members = case.split.members(case.design.members)
        shifted = measured_from_class_threshold(rows, members, case.labels, case.split.allowed)
        return _chosen(case.split.merge(shifted), targets)

    return attack


def _plain(score: Callable[[Statistics], Scores]) -> Callable[[Case, Targets], Scores]:
    return lambda case, targets: _chosen(score(case.statistics), targets)


def _lira(
    score: Callable[..., Scores], pooled: bool | None = None
) -> Callable[[Case, Targets], Scores]:
    return lambda case, targets: score(
        case.margins, pooled=case.pooled if pooled is None else pooled, targets=targets
    )


def _chosen(scores: Scores, targets: Targets) -> Scores:
    return scores if targets is None else scores[np.asarray(targets)]


_LIRA = "Carlini et al. 2022"
_OUTPUT = "the target's output"
_SHADOWS = "the target's output and models trained with and without each example"
_OTHERS = "the target's output and models trained without each example"

_ALL = (
    Attack(
        Face("gap", "Gap (accuse what is right)", "Yeom et al. 2018", "the target's decision"),
        _plain(gap_scores),
        threshold=0.5,
        decides=True,
    ),
    Attack(Face("loss", "Loss", "Yeom et al. 2018", _OUTPUT), _plain(loss_scores)),
    Attack(
        Face("confidence", "Confidence, by class", "Song and Mittal 2021", _OUTPUT),
        _by_class(confidence_scores),
        threshold=0.0,
    ),
    Attack(
        Face("entropy", "Entropy, by class", "Song and Mittal 2021", _OUTPUT),
        _by_class(entropy_scores),
        threshold=0.0,
    ),
    Attack(
        Face("modified_entropy", "Modified entropy, by class", "Song and Mittal 2021", _OUTPUT),
        _by_class(modified_entropy_scores),
        threshold=0.0,
    ),
    Attack(
        Face("quantile_regression", "Quantile regression", "Bertran et al. 2023", _SHADOWS),
        lambda case, targets: _chosen(
            quantile_regression.quantile_scores(case.margins, case.labels, case.seed), targets
        ),
        references=quantile_regression.FEWEST_REFERENCES,
        units=quantile_regression.FEWEST_UNITS,
    ),
    Attack(
        Face("rmia", "RMIA", "Zarifzadeh et al. 2024", _SHADOWS),
        lambda case, targets: probability_ratio.rmia_scores(case.statistics, case.design, targets),
        references=probability_ratio.FEWEST_REFERENCES,
    ),
    Attack(
        Face("base", "BASE", "Lassila et al. 2025", _SHADOWS),
        lambda case, targets: probability_ratio.base_scores(case.statistics, case.design, targets),
        references=probability_ratio.FEWEST_REFERENCES,
    ),
    Attack(
        Face("lira_offline", "LiRA, offline", _LIRA, _OTHERS),
        _lira(likelihood_ratio.lira_offline),
        references=likelihood_ratio.FEWEST_REFERENCES,
    ),
    Attack(
        Face("lira_online", "LiRA, online", _LIRA, _SHADOWS),
        _lira(likelihood_ratio.lira_online),
        references=likelihood_ratio.FEWEST_REFERENCES,
    ),
)

_VARIANTS = tuple(
    Attack(
        Face(f"{name}_{variance}", f"{label}, {words}", _LIRA, requirement),
        _lira(score, variance == "pooled"),
        references=likelihood_ratio.FEWEST_REFERENCES,
    )
    for name, label, score, requirement in (
        ("lira_offline", "LiRA, offline", likelihood_ratio.lira_offline, _OTHERS),
        ("lira_online", "LiRA, online", likelihood_ratio.lira_online, _SHADOWS),
    )
    for variance, words in (("pooled", "pooled variance"), ("per_example", "variance per example"))
)

ATTACKS = {attack.face.name: attack for attack in _ALL + _VARIANTS}
"""Every attack by name. ``lira_*`` without a variance pools it below 64 models."""

DEFAULT = tuple(attack.face.name for attack in _ALL)
"""What an audit runs unless told otherwise."""

HEADLINES = ("lira_online", "lira_offline", "rmia", "base", "loss")
"""The attack that an audit's sentence is about: the first of these that runs. Chosen by what there
is to attack with, never by which attack came out best. Without references it is the loss, as
attacks with thresholds of each class are made for balanced accuracy: a rare false-positive rate
fixed on other data is not kept where each class shifts its own tail."""

BASELINE = Face(
    "best_threshold",
    "Best threshold in sample (optimistic)",
    "the published baseline",
    "the target's output, and who its members are",
)
"""One threshold on the probability of the true class, chosen on the scores that it judges."""


def chosen_attacks(names: Sequence[str] | str | None) -> tuple[str, ...]:
    """Return which attacks to run, each once; complain of what is no attack.

    Parameters
    ----------
    names
        Of `ATTACKS`, or a single one; None: the usual ones.

    Raises
    ------
    InputError
        If a name is unknown, or there is none.

    Examples
    --------
    >>> chosen_attacks(["loss", "gap", "loss"])
    ('loss', 'gap')
    """
    if names is None:
        return DEFAULT
    names = [names] if isinstance(names, str) else names
    unknown = [name for name in names if name not in ATTACKS]
    if unknown or not names:
        what = f"no attack is called {unknown[0]!r}" if unknown else "no attack is named"
        raise InputError(f"attacks: {what}, expected some of {listed(list(ATTACKS))}.")
    return tuple(dict.fromkeys(names))


def obstacle(attack: Attack, design: Design) -> str | None:
    """Say why an attack cannot be run; None if it can."""
    if not attack.references:
        return None
    units = int(design.units.max()) + 1
    if design.models == 1:
        return "one model was given, and it compares the target with other models"
    if not design.informative.any():
        return "every model was trained on the same examples, so that none serves as reference"
    if design.kind == "overlapping":
        return (
            "which of the other models were trained on an example, or how many, tells whether the "
            "target was, which it would take for leakage"
        )
    if units < attack.units:
        there = f"there is {units}" if units == 1 else f"there are {units}"
        shared = " of different splits" if 2 * units < design.models else ""
        noun = "pairs of models" if design.kind == "paired" else "models"
        return f"it needs {attack.units} {noun}{shared}, and {there}"
    for target, members in enumerate(design.members):
        inside, outside = reference_counts(design, target)
        enough = np.minimum(inside, outside) >= attack.references
        if min(enough[members].mean(), enough[~members].mean()) < ENOUGH:
            return (
                f"it needs {counted(attack.references, 'other model')} that trained on an example "
                "and as many that did not, which too few examples have"
            )
    return None
