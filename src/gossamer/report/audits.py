"""The audits of a study: which arms were attacked, and which of them are shown in detail."""

from dataclasses import dataclass

from gossamer.core.formats import sentence
from gossamer.records.joint import JointRecord
from gossamer.records.leakage import AttackResult, Estimate, Leakage
from gossamer.report.curves import LEAST_FIXED, spread_out
from gossamer.report.lines import Quantity
from gossamer.report.results import Results
from gossamer.report.series import Group, along_axis, short_label
from gossamer.stats.intervals import Interval

DETAILED = 3
"""Levels of each main arm that are shown in detail."""
LOW_RATE, RATE = 0.001, 0.01
"""False-positive rates that an attack is read at."""


@dataclass(frozen=True)
class Audited:
    """One arm at one level, attacked."""

    arm: str
    level: float
    label: str
    leakage: Leakage
    pictures: tuple[str, ...]

    @property
    def headline(self) -> AttackResult:
        """The attack that was chosen beforehand."""
        return self.leakage.attack(self.leakage.headline)


def audited(results: Results) -> tuple[Audited, ...]:
    """Return every arm and level of the study's own trials that was attacked."""
    found = []
    for arm in results.study.arms:
        for level in results.own_levels(arm.name):
            joint = results.joint(arm.name, level, "leakage")
            if joint is not None and joint.leakage is not None:
                label = place_label(results, arm.name, level)
                found.append(Audited(arm.name, level, label, joint.leakage, joint.pictures))
    return tuple(found)


def place_label(results: Results, arm: str, level: float, *, short: bool = False) -> str:
    """Return an arm's label, with its level if it has one; short as it stands in its panel."""
    label = short_label(results, arm) if short else sentence(results.label(arm))
    return f"{label}, {results.place(level)}" if along_axis(results, arm) else label


def detailed(results: Results, group: Group) -> tuple[Audited, ...]:
    """Return the audits shown in detail: unpruned networks, then main arms at a few levels."""
    arms = {arm.name: arm.role for arm in group.arms}
    found = [one for one in audited(results) if one.arm in arms]
    fixed = [one for one in found if not along_axis(results, one.arm)]
    moving = [one for one in found if one not in fixed and arms[one.arm] == "main"]
    shown = []
    for one in moving:
        levels = tuple(sorted(same.level for same in moving if same.arm == one.arm))
        if one.level in spread_out(levels, DETAILED):
            shown.append(one)
    return (*fixed[:LEAST_FIXED], *shown)


def versions(results: Results) -> tuple[tuple[str, JointRecord], ...]:
    """Return what attackers who know of a second arm find, by the place that is attacked."""
    found = []
    for arm in results.study.arms:
        for level in results.own_levels(arm.name):
            joint = results.joint(arm.name, level, "releases")
            if joint is not None:
                found.append((place_label(results, arm.name, level), joint))
    return tuple(found)


def interval_of(estimate: Estimate, units: int) -> Interval:
    """Return an estimate as the interval that figures draw."""
    return Interval(estimate.value, estimate.low, estimate.high, units)


def units_of(leakage: Leakage) -> int:
    """Return what the intervals of an audit count: pairs of models, or models."""
    return leakage.models // 2 if leakage.paired else leakage.models


AUC = Quantity("AUC", "AUC of the attack", scale=1, digits=3, unit="", chance=0.5)
BALANCED = Quantity("balanced accuracy", "Balanced accuracy of the attack (%)", chance=0.5)
TPR = Quantity("TPR at 1% FPR", "TPR at 1% FPR (%)", chance=RATE)
LOW_TPR = Quantity("TPR at 0.1% FPR", "TPR at 0.1% FPR (%)", chance=LOW_RATE)
READINGS = (AUC, BALANCED, TPR, LOW_TPR)


def reading(one: Audited, quantity: Quantity) -> Interval | None:
    """Return what the headline attack reached; None where it was not evaluated."""
    attack, units = one.headline, units_of(one.leakage)
    if quantity == AUC:
        return interval_of(attack.auc, units)
    if quantity == BALANCED:
        return interval_of(attack.balanced_accuracy, units)
    rate = LOW_RATE if quantity == LOW_TPR else RATE
    at = next((at for at in attack.tpr_at if at.fpr == rate), None)
    return interval_of(at.tpr, units) if at else None
