"""What a leakage audit found: frozen values that JSON holds and the report draws from.

A *target* is a model under attack; its *members* are the examples it was trained on. Rates,
accuracies, priors and areas are fractions. The true-positive rate (TPR) is the share of members
that an attack accuses, the false-positive rate (FPR) the share of non-members.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from gossamer.core.errors import InputError
from gossamer.core.formats import counted, percent
from gossamer.records.record import Value


class Estimate(Value):
    """A number with its 95% interval, and how the interval was found."""

    value: float
    low: float | None = None
    """Lower end of the interval; None where there is none."""
    high: float | None = None
    method: str = ""
    """How the interval was found, or why there is none."""


class RatePoint(Value):
    """One point of a ROC curve: the mean TPR over targets at one FPR, with its band."""

    fpr: float
    tpr: float
    low: float | None = None
    high: float | None = None


class Precision(Value):
    """Share of the accused that are members, if members have this prior."""

    prior: float
    value: float | None
    """None if nobody is accused."""


TOLERATED = 2.0
"""Times the false-positive rate asked for beyond which a true-positive rate misleads."""


class RateAt(Value):
    """What an attack finds at one false-positive rate."""

    fpr: float
    """The false-positive rate asked for."""
    realised_fpr: float
    """What it came to on the targets, with the threshold fixed on other data."""
    tpr: Estimate
    """True-positive rate with the threshold fixed on other data."""
    together: Estimate | None = None
    """The same, with an interval that holds for all attacks together (Bonferroni's bound): also for
    the one that is picked because it came out strongest. None where there is no other attack."""
    curve_tpr: Estimate
    """The literature's reading: the highest TPR on the target's own ROC curve whose FPR is at
    most the one asked for. Its threshold saw the scores that it judges."""
    precision: tuple[Precision, ...]
    """At the realised rates, for members of prior 1%, 10% and 50%."""

    @property
    def comparable(self) -> float:
        """The true-positive rate by which attacks are ranked.

        That at the threshold fixed on other data, or, where it accuses too many innocents, what
        the ROC curve says at the rate asked for.
        """
        return self.tpr.value if self.kept else min(self.tpr.value, self.curve_tpr.value)

    @property
    def kept(self) -> bool:
        """False if so many innocents were accused that the true-positive rate is none to quote."""
        return self.realised_fpr <= TOLERATED * self.fpr


class TargetNumbers(Value):
    """One attack against one target."""

    model: int
    """Index of the target."""
    measures: Mapping[str, float]
    """"auc", and where the attack has them "balanced_accuracy", "tpr@0.01", "fpr@0.01",
    "curve_tpr@0.01" and the same at 0.001."""


class AttackResult(Value):
    """One attack, averaged over its targets."""

    name: str
    """As in the code, such as "lira_online"."""
    label: str
    """As in a table, such as "LiRA, online"."""
    source: str
    """Authors and year."""
    requirement: str
    """What the attacker must have."""
    optimistic: bool = False
    """True for the published baseline, whose threshold is the best one on the very scores that
    it judges."""
    rules_out: bool = True
    """Whether the upper end of its interval of a TPR at a rare FPR is one to rely on. False for an
    attack that says yes or no alone, which cannot be made to accuse rarely, and for thresholds of
    each class, whose intervals there hold too seldom."""
    balanced_accuracy: Estimate
    """Mean of TPR and 1 - FPR at a threshold fixed on other data (unless optimistic)."""
    advantage: Estimate
    """TPR - FPR at that threshold: 2 x balanced accuracy - 1."""
    auc: Estimate
    """Area under the ROC curve, ties counted half; the mean over targets."""
    tpr_at: tuple[RateAt, ...]
    """At FPR 1% and 0.1%; empty for the optimistic baseline."""
    roc: tuple[RatePoint, ...]
    """At most 200 points, FPR rising from 1 / non-members to 1 in equal ratios."""
    per_model: tuple[TargetNumbers, ...]

    def rate_at(self, fpr: float) -> RateAt:
        """Return what the attack finds at one of its false-positive rates.

        Raises
        ------
        InputError
            If it was not evaluated there.
        """
        for rate in self.tpr_at:
            if rate.fpr == fpr:
                return rate
        asked = [rate.fpr for rate in self.tpr_at]
        raise InputError(f"attack {self.name}: evaluated at FPR {asked}, not at {fpr}.")


class Check(Value):
    """One self-test of an audit."""

    name: str
    passed: bool
    detail: str


class Skipped(Value):
    """An attack that could not be run, and why."""

    attack: str
    reason: str


class Exposed(Value):
    """One of the examples that leak most."""

    example: int
    """Position in the arrays given."""
    label: int
    score: float
    """Mean margin of the models that trained on it minus that of the others, in units of the
    pooled standard deviation of a margin around its example's own mean."""
    member_models: int
    other_models: int
    member_accuracy: float
    """Share of the models that trained on it which classify it correctly."""
    other_accuracy: float
    """The same of the models that did not. The difference of the two is Feldman's and Zhang's
    (2020) memorisation."""


class ReferenceCounts(Value):
    """How many reference models an example has, over all targets and examples."""

    in_lowest: int
    """Fewest references that trained on the example."""
    in_highest: int
    out_lowest: int
    out_highest: int
    independent: bool
    """True if the counts say nothing about whether the example is a member of the target."""


Given = Literal["logits", "probabilities", "statistics"]
"""What an audit is told that models say of each example."""


class Source(Value):
    """What was audited, so that somebody who has it can tell."""

    name: str
    """Of the file; "arrays" if they were passed from Python."""
    sha256: str
    """Of the file's bytes; of arrays, see `gossamer.leakage.provenance.arrays_source`."""


class Provenance(Value):
    """What it takes to repeat an audit. When it was done does not tell two of them apart."""

    gossamer: str
    """Version."""
    libraries: Mapping[str, str]
    """Versions of Python and of what computed the numbers."""
    date: str
    """When the audit ended, in UTC by ISO 8601."""
    seed: int
    source: Source
    given: Given
    models: int
    """Models given, those that were left out among them."""
    attacks: tuple[str, ...]
    """Names of those asked for."""
    pairs: bool
    """Whether the models' pairs were given; if not, they were looked for."""
    temperature: float = 1.0
    """What logits were divided by for RMIA and BASE."""

    def __eq__(self, other: object) -> bool:
        """Whether all but the date is the same."""
        return isinstance(other, Provenance) and self._repeated() == other._repeated()

    def _repeated(self) -> dict[str, Any]:
        return self.model_dump(exclude={"date"})


class Leakage(Value):
    """What a membership inference audit found."""

    models: int
    examples: int
    classes: int | None
    """None if the audit was given statistics without saying."""
    paired: bool
    """True if models come in pairs that trained on complementary halves."""
    references: ReferenceCounts | None
    """None with a single model, or if all were trained on the same examples."""
    non_members: int | None = None
    """Fewest of a model, which say how rare a false positive can be told; None where it was not
    kept."""
    unlearnt: int = 0
    """How many models are right about their training examples no more often than naming one class
    would be."""
    headline: str
    """Name of the attack that was chosen before looking at any result: networks are compared by
    it."""
    strongest: str = ""
    """Name of the attack that the sentence is about: of all that can be made to accuse rarely, the
    one of the highest true-positive rate at the rarest false-positive rate. Empty in what was
    written before there was one; the sentence then is about the headline attack."""
    compared: int = 0
    """How many attacks it was chosen of."""
    attacks: tuple[AttackResult, ...]
    checks: tuple[Check, ...]
    exposed: tuple[Exposed, ...]
    """Those with the highest score, which was what they were picked for; highest first."""
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    sentence: str
    """The finding in plain words: that of the strongest attack."""
    headline_sentence: str = ""
    """That of the headline attack; empty if it is the strongest one."""
    warnings: tuple[str, ...] = ()
    """Where attacks break down, so that they find less than there is."""
    judgement: "Judgement | None" = None
    """Whether the leak is small enough, if somebody said what is."""
    provenance: Provenance | None = None
    """How it was found; None of statistics that a study kept, whose records say so."""

    @property
    def passed(self) -> bool:
        """Whether every self-test passed; if not, no number of the audit can be relied on."""
        return all(check.passed for check in self.checks)

    def judge(self, max_tpr: float, at_fpr: float = 0.001) -> "Judgement":
        """Say whether no attack finds more than a share of the training examples.

        It passes if, for every attack that was run, the upper end of the 95% interval of the
        true-positive rate is at most `max_tpr`: more could then be excluded. All of them must
        pass, so that nothing is gained by running many, and intervals need no correction
        (Berger's intersection-union test). Attacks that allow no interval there by what they are
        (`AttackResult.rules_out`) fail by what they find, and let nothing pass. Where an attack
        accused more innocents than asked for, the rate that it reached is judged, which can only
        be higher.

        It does not pass where nothing rules more out: no attack was run whose interval can be
        relied on there (`AttackResult.rules_out`), some models have learnt nothing, or there are
        too few non-members to tell so rare a false positive.

        Parameters
        ----------
        max_tpr
            The largest true-positive rate that is tolerated, from `at_fpr` to below 1.
        at_fpr
            The false-positive rate at which: 0.01 or 0.001.

        Raises
        ------
        InputError
            If the audit has no such rate, or guessing would fail.

        References
        ----------
        Berger (1982), "Multiparameter hypothesis testing and acceptance sampling", Technometrics
        24.
        """
        fair = [attack for attack in self.attacks if attack.tpr_at and not attack.optimistic]
        if not fair:
            raise InputError("attacks: none was run that can be judged, expected one or more.")
        check_limit(max_tpr, at_fpr, [rate.fpr for rate in fair[0].tpr_at])
        return _judged(self, fair, max_tpr, at_fpr)

    def attack(self, name: str) -> AttackResult:
        """Return one attack's result.

        Raises
        ------
        InputError
            If the audit did not run it; the message says why.
        """
        for attack in self.attacks:
            if attack.name == name:
                return attack
        for skipped in self.skipped:
            if skipped.attack == name:
                raise InputError(f"attack {name}: was skipped, {skipped.reason}")
        names = ", ".join(attack.name for attack in self.attacks)
        raise InputError(f"attack {name}: not in this audit, which has {names}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the whole as plain lists, dicts, strings and numbers, as JSON has them."""
        return self.model_dump(mode="json")


class Judgement(Value):
    """Whether a leak is small enough."""

    max_tpr: float
    """The largest true-positive rate tolerated."""
    at_fpr: float
    """The false-positive rate at which."""
    passed: bool
    attack: str
    """Label of the attack that decided: the one of the highest upper end."""
    high: float | None
    """The upper end of its 95% interval; None if it has none."""
    sentence: str


def check_limit(max_tpr: float, at_fpr: float, rates: Sequence[float]) -> None:
    """Refuse limits of which an audit at some false-positive rates can say nothing.

    Raises
    ------
    InputError
        If it has no such rate, or guessing would fail.
    """
    if at_fpr not in rates:
        known = " or ".join(f"{rate:g}" for rate in rates)
        raise InputError(f"at-fpr: is {at_fpr:g}, expected a rate of the audit: {known}.")
    if not at_fpr <= max_tpr < 1:
        raise InputError(
            f"max-tpr: is {max_tpr:g}, expected a share from {at_fpr:g}, which guessing finds at "
            "that false-positive rate, to below 1."
        )


def _judged(
    leakage: Leakage, fair: Sequence[AttackResult], max_tpr: float, at_fpr: float
) -> Judgement:
    def reached(attack: AttackResult) -> float:
        tpr = attack.rate_at(at_fpr).tpr
        if tpr.high is not None:
            return tpr.high
        return math.inf if attack.rules_out else tpr.value

    above = [a for a in fair if (low := a.rate_at(at_fpr).tpr.low) is not None and low > max_tpr]
    kept = [attack for attack in above if attack.rate_at(at_fpr).kept]
    worst = max(kept or fair, key=lambda a: (reached(a), a.rate_at(at_fpr).tpr.value))
    at = worst.rate_at(at_fpr)
    asked = f"{percent(max_tpr)}% of the training examples at {percent(at_fpr)}% FPR"
    found = f"{worst.label} finds {percent(at.tpr.value)}%"
    if at.tpr.low is not None and at.tpr.high is not None:
        found += f", [{percent(at.tpr.low)}, {percent(at.tpr.high)}]"
    if not at.kept:
        found += f", at {percent(at.realised_fpr)}% FPR in fact"
    nothing = _why_nothing_is_ruled_out(leakage, fair, at_fpr)
    passed = leakage.passed and not nothing and reached(worst) <= max_tpr
    if not leakage.passed:
        sentence = "FAILED: a self-test failed, so that nothing can be said"
    elif nothing and not kept:
        sentence = f"FAILED: more than {asked} cannot be excluded: {nothing}"
    elif passed:
        names = ", ".join(skipped.attack for skipped in leakage.skipped)
        without = f"; not run: {names}" if names else ""
        sentence = (
            f"Passed: more than {asked} can be excluded for each of the {len(fair)} attacks that "
            f"were run ({found}{without}). Other attacks may find more"
        )
        sentence = ". ".join([sentence, *(one.rstrip(".") for one in leakage.warnings)])
    elif kept:
        sentence = f"FAILED: more than {asked} are found: {found}"
    else:
        why = "has no interval" if at.tpr.high is None else "reaches beyond"
        sentence = f"FAILED: more than {asked} cannot be excluded: {found}, which {why}"
    return Judgement(
        max_tpr=max_tpr,
        at_fpr=at_fpr,
        passed=passed,
        attack=worst.label,
        high=at.tpr.high,
        sentence=f"{sentence}.",
    )


def _why_nothing_is_ruled_out(leakage: Leakage, fair: Sequence[AttackResult], at_fpr: float) -> str:
    """Return why no interval rules anything out, whatever it is; empty if some do."""
    if not any(attack.rules_out for attack in fair):
        return (
            "no attack was run whose interval there can be relied on, such as the loss attack or, "
            "with other models as references, LiRA, RMIA and BASE"
        )
    if leakage.unlearnt:
        return (
            f"{leakage.unlearnt} of {counted(leakage.models, 'model')} answer no better than one "
            "class for all, and have nothing to give away; leave them out with their mates, or "
            "look whether labels are the columns of the logits"
        )
    if leakage.non_members is not None and leakage.non_members * at_fpr < 1:
        return (
            f"{counted(leakage.non_members, 'non-member')} cannot resolve so rare a false positive"
        )
    return ""


class LeakageChange(Value):
    """How leakage changes from a first release of the same models to a second."""

    units: int
    """Pairs of models, or models where they are not paired: what the intervals count."""
    auc: Estimate
    """Second minus first."""
    balanced_accuracy: Estimate
    tpr_at: tuple[tuple[float, Estimate], ...]
    """(FPR, change of the TPR)."""
    evidence: Estimate
    """Change of the mean separation: the margin of the model of a pair that trained on an example
    minus that of its mate, in units of the pooled standard deviation of a margin around its
    example's mean."""
    examples_rising: float | None
    """Share of examples whose own separation rises with an interval that excludes no change; by
    chance alone 2.5% do. None with fewer than two units."""
    examples_falling: float | None
