"""Tables of the leakage section, and of the page of a single audit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gossamer.core.formats import NOTHING, decimal, percent, sentence
from gossamer.records.joint import JointRecord
from gossamer.records.leakage import AttackResult, Estimate, Leakage, Precision, RateAt
from gossamer.reporting.curves import LEAST_FIXED, spread_out
from gossamer.reporting.lines import Quantity
from gossamer.reporting.results import Results
from gossamer.reporting.series import Group, along_axis, short_label
from gossamer.reporting.tables import Section, Table
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


LOSS = "loss"
"""The attack with one threshold for all examples, which others are held against."""


def share(estimate: Estimate | None, digits: int = 2) -> str:
    """Return an estimated share in percent, with its interval."""
    if estimate is None:
        return NOTHING
    return _estimate(estimate, 100, digits)


def area(estimate: Estimate | None) -> str:
    """Return an estimated area, with its interval."""
    return NOTHING if estimate is None else _estimate(estimate, 1, 3)


def _estimate(estimate: Estimate, scale: float, digits: int, *, signed: bool = False) -> str:
    value = decimal(scale * estimate.value, digits, signed=signed)
    if estimate.low is None or estimate.high is None:
        return value
    low, high = (decimal(scale * end, digits) for end in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def rate_at(attack: AttackResult, fpr: float) -> RateAt | None:
    """Return what an attack finds at a false-positive rate, if it was evaluated there."""
    return next((at for at in attack.tpr_at if at.fpr == fpr), None)


def attack_table(sections: Iterable[tuple[str, Leakage]]) -> Table:
    """Every attack against some networks, a section each."""
    return Table(
        "All attacks",
        (("", 2), ("FPR 1%", 3), ("FPR 0.1%", 3)),
        ("Attack", "balanced accuracy, %", "AUC",
         *("TPR, %", "FPR in fact, %", "TPR on the ROC curve, %") * 2),
        tuple(
            Section(title, tuple(_attack_row(leakage, one) for one in leakage.attacks))
            for title, leakage in sections
        ),
        "[ , ]: 95% intervals. Thresholds are fixed on other networks or examples, except where "
        "an attack is called optimistic. TPR on the ROC curve: as papers report it, read off the "
        "target's own curve, whose threshold saw the scores that it judges. * More than twice the "
        "FPR asked for: no TPR to quote. † The headline attack, chosen before looking by what "
        "there is to attack with. ‡ The strongest attack: the highest TPR at 0.1% FPR.",
    )  # fmt: skip


def _attack_row(leakage: Leakage, attack: AttackResult) -> tuple[str, ...]:
    cells = [
        attack.label + _marks(leakage, attack),
        share(attack.balanced_accuracy),
        area(attack.auc),
    ]
    for fpr in (RATE, LOW_RATE):
        at = rate_at(attack, fpr)
        cells += _rate_cells(at) if at else [NOTHING] * 3
    return tuple(cells)


def _marks(leakage: Leakage, attack: AttackResult) -> str:
    marks = {"†": leakage.headline, "‡": leakage.strongest}
    found = "".join(mark for mark, name in marks.items() if name == attack.name)
    return f" {found}" if found else ""


def _rate_cells(at: RateAt) -> list[str]:
    """Return the TPR, marked if it is none to quote, the FPR in fact, and the TPR on the curve."""
    # Beside the number, before its interval.
    tpr = share(at.tpr) if at.kept else " * [".join(share(at.tpr).split(" [", 1))
    if not (at.kept or " [" in tpr):
        tpr += " *"
    return [tpr, percent(at.realised_fpr, 3), share(at.curve_tpr)]


def precision_table(
    sections: Iterable[tuple[str, Leakage]], *, strongest: bool = False
) -> Table | None:
    """Share of the accused that are members, for several shares of members among all.

    Of the strongest attack, or else of the headline attack.
    """
    found = []
    for title, leakage in sections:
        attack = leakage.attack((strongest and leakage.strongest) or leakage.headline)
        rows = tuple(
            (f"FPR {percent(at.fpr, 1)}%", *(_precision(one) for one in at.precision))
            for at in attack.tpr_at
        )
        if rows:
            found.append((Section(title, rows), attack.tpr_at[0].precision))
    if not found:
        return None
    priors = tuple(f"members are {one.prior:.0%}" for one in found[0][1])
    which = "strongest" if strongest else "headline"
    return Table(
        f"Share of the accused that are members, % ({which} attack)",
        (),
        ("", *priors),
        tuple(section for section, _ in found),
    )


def _precision(one: Precision) -> str:
    return NOTHING if one.value is None else percent(one.value, 1)


def level_table(results: Results) -> Table | None:
    """Return what the headline attack finds at every level of every arm."""
    sections = []
    found = audited(results)
    for arm in dict.fromkeys(one.arm for one in found):
        rows = tuple(_level_row(results, one) for one in found if one.arm == arm)
        sections.append(Section(results.label(arm), rows))
    if not sections:
        return None
    return Table(
        f"The headline attack at every {results.axis}",
        (),
        (
            results.axis_title, "test accuracy, %", "AUC", "balanced accuracy, %",
            "TPR at 1% FPR, %", "TPR at 0.1% FPR, %", "gap attack, %", "times the loss attack",
        ),
        tuple(sections),
        "Gap attack: balanced accuracy of accusing what is classified correctly, the floor. Times "
        "the loss attack: TPR on the ROC curve at 0.1% FPR over that of one loss threshold.",
    )  # fmt: skip


def _level_row(results: Results, one: Audited) -> tuple[str, ...]:
    accuracy = results.interval(one.arm, one.level)
    gap = next((a for a in one.leakage.attacks if a.name == "gap"), None)
    return (
        f"{results.position(one.level):g}" if one.level else NOTHING,
        percent(accuracy.mean) if accuracy else NOTHING,
        *(_reading(one, quantity) for quantity in (AUC, BALANCED, TPR, LOW_TPR)),
        percent(gap.balanced_accuracy.value) if gap else NOTHING,
        _factor(one),
    )


def _reading(one: Audited, quantity: Quantity) -> str:
    interval = reading(one, quantity)
    return quantity.text(interval).replace("%", "") if interval else NOTHING


def _factor(one: Audited) -> str:
    """Return how many times as many members the headline attack finds as the loss attack does."""
    factor = factor_over_loss(one.leakage)
    return NOTHING if factor is None else decimal(factor, 1)


def factor_over_loss(leakage: Leakage) -> float | None:
    """Return the TPR of the headline attack at 0.1% FPR over that of one loss threshold.

    Both are read off the ROC curves; None if either is not there or the loss attack finds nobody.
    """
    names = {attack.name for attack in leakage.attacks}
    if LOSS not in names or leakage.headline == LOSS:
        return None
    rates = [rate_at(leakage.attack(name), LOW_RATE) for name in (leakage.headline, LOSS)]
    ours, theirs = (at.curve_tpr.value if at else 0.0 for at in rates)
    return ours / theirs if ours and theirs else None


def version_table(results: Results, shown: Iterable[Audited]) -> Table | None:
    """Attackers who know of the unpruned networks, too, beside one who does not."""
    alone = {one.label: one.headline for one in shown}
    found = [(label, joint) for label, joint in versions(results) if label in alone]
    rows = tuple(
        (
            label,
            *_two(alone.get(label)),
            *_two(joint.joint),
            *_two(joint.foreign),
        )
        for label, joint in found
    )
    if not rows:
        return None
    return Table(
        "Attackers who know of the unpruned networks",
        (
            ("sees this network", 2),
            ("sees both versions", 2),
            ("knows unpruned networks only", 2),
        ),
        ("Attacked", *("AUC", "TPR, %") * 3),
        (Section("", rows),),
        "TPR at 0.1% FPR. Sees both versions: the likelihood ratio of the outputs of this network "
        "and the unpruned one together. Knows unpruned networks only: the attacker's own networks "
        "are not pruned, as one who does not know of the pruning would have them. With few "
        "references, means in a second dimension add noise, so that seeing both may find less than "
        "seeing one: it is no upper bound on what both give away. Which attacker counts is to be "
        "said before looking, not picked by the highest number.",
    )


def _two(attack: AttackResult | None) -> tuple[str, str]:
    if attack is None:
        return NOTHING, NOTHING
    at = rate_at(attack, LOW_RATE)
    return area(attack.auc), share(at.tpr if at else None)


def change_table(results: Results, shown: Iterable[Audited]) -> Table | None:
    """How leakage changes from the unpruned network to the other, example by example."""
    rows = []
    labels = {one.label for one in shown}
    for label, joint in versions(results):
        change = joint.change
        if change is None or label not in labels:
            continue
        rates = dict(change.tpr_at)
        rows.append(
            (
                label,
                _estimate(change.auc, 1, 3, signed=True),
                _points(change.balanced_accuracy),
                _points(rates.get(RATE)),
                _points(rates.get(LOW_RATE)),
                _estimate(change.evidence, 1, 3, signed=True),
                _part(change.examples_rising),
                _part(change.examples_falling),
            )
        )
    if not rows:
        return None
    return Table(
        "Paired change from the unpruned network, example by example",
        (("change of", 5), ("share of examples, %", 2)),
        (
            "Attacked", "AUC", "balanced accuracy", "TPR at 1%", "TPR at 0.1%", "separation, SD",
            "rising", "falling",
        ),
        (Section("", tuple(rows)),),
        "Balanced accuracy and TPR (at that FPR) in points. Separation: margin of the model that "
        "trained on an example minus that of its mate, in standard deviations. Rising, falling: "
        "examples whose own separation does so with an interval that excludes no "
        "change; by chance alone 2.5% do either.",
    )  # fmt: skip


def _points(estimate: Estimate | None) -> str:
    return NOTHING if estimate is None else _estimate(estimate, 100, 2, signed=True)


def _part(value: float | None) -> str:
    return NOTHING if value is None else percent(value, 1)


def check_table(leakages: Sequence[Leakage]) -> Table:
    """Self-tests of some audits: how many passed, and what they looked at."""
    names = dict.fromkeys(check.name for leakage in leakages for check in leakage.checks)
    rows = []
    for name in names:
        checks = [c for leakage in leakages for c in leakage.checks if c.name == name]
        failed = [check for check in checks if not check.passed]
        count = f"{len(checks) - len(failed)} of {len(checks)}"
        told = count if len(checks) > 1 else "no" if failed else "yes"
        rows.append((name, told, (failed or checks)[0].detail))
    return Table("Self-tests", (), ("Test", "passed", "in detail"), (Section("", tuple(rows)),))
