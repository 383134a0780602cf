"""The leakage section of the page: its sentences, tables and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.core.formats import decimal
from gossamer.records.leakage import Exposed, Leakage
from gossamer.reporting.leakage_tables import (
    LOSS,
    LOW_RATE,
    Audited,
    attack_table,
    audited,
    change_table,
    check_table,
    detailed,
    factor_over_loss,
    level_table,
    precision_table,
    share,
    version_table,
)
from gossamer.reporting.results import Results
from gossamer.reporting.series import along_axis, groups
from gossamer.reporting.tables import Table

MOST_SHOWN = 10
"""Examples in a gallery."""


@dataclass(frozen=True)
class ShownExample:
    """One of the examples that leak most, as it is printed."""

    example: int
    label: int
    score: str
    inside: str
    """Share of the networks that trained on it which classify it correctly, in percent."""
    outside: str
    picture: str
    """PNG data in base 64; empty if the example is no picture."""


Gallery = tuple[str, tuple[ShownExample, ...]]


@dataclass(frozen=True)
class LeakageSection:
    """Everything of the section but its figures."""

    label: str
    sentences: tuple[tuple[str, str], ...]
    levels: tuple[Table, ...]
    attacks: tuple[Table, ...]
    versions: tuple[Table, ...]
    galleries: tuple[Gallery, ...]
    checks: Table
    notes: tuple[str, ...]


def leakage_section(results: Results) -> LeakageSection | None:
    """Return the section; None if nothing was attacked."""
    found = audited(results)
    if not found:
        return None
    shown = tuple(one for group in groups(results) for one in detailed(results, group))
    sections = [(one.label, one.leakage) for one in shown]
    return LeakageSection(
        label="Recipe trained on half the pool" if found[0].leakage.paired else "",
        sentences=tuple((one.label, _sentence(one.leakage)) for one in _told(results, shown)),
        levels=_there(level_table(results)),
        attacks=_there(attack_table(sections), precision_table(sections)),
        versions=_there(version_table(results, shown), change_table(results, shown)),
        galleries=tuple(
            (one.label, gallery(one.leakage, one.pictures))
            for one in _told(results, shown)
            if one.leakage.exposed
        ),
        checks=check_table([one.leakage for one in found]),
        notes=_notes([one.leakage for one in found]),
    )


def _there(*tables: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in tables if table is not None)


def _told(results: Results, shown: Sequence[Audited]) -> list[Audited]:
    """Return what is said in words: an unpruned network, and each main arm at its last level."""
    told = []
    for group in groups(results):
        names = {arm.name for arm in group.arms}
        here = [one for one in shown if one.arm in names]
        fixed = [one for one in here if not along_axis(results, one.arm)]
        last = {one.arm: one for one in here if one not in fixed}
        told += [*fixed[:1], *last.values()]
    return told


def _sentence(leakage: Leakage) -> str:
    """Return what the headline attack finds, how far beyond one loss threshold, and the strongest.

    Networks are compared by the attack that was chosen before looking; what another one finds
    beyond it is said beside it.
    """
    told = leakage.headline_sentence or leakage.sentence
    strongest = f" {leakage.sentence}" if leakage.headline_sentence else ""
    factor = factor_over_loss(leakage)
    if factor is None:
        return told + strongest
    ours, theirs = (
        share(leakage.attack(name).rate_at(LOW_RATE).curve_tpr) for name in (leakage.headline, LOSS)
    )
    return (
        f"{told} On the ROC curves, at 0.1% FPR, it finds {decimal(factor, 1)} times "
        f"as many members as one threshold on the loss: {ours}% of them against "
        f"{theirs}%.{strongest}"
    )


def gallery(leakage: Leakage, pictures: Sequence[str]) -> tuple[ShownExample, ...]:
    """Return the examples that leak most, with their pictures if they have any."""
    exposed = leakage.exposed[:MOST_SHOWN]
    images = pictures[: len(exposed)] if len(pictures) >= len(exposed) else [""] * len(exposed)
    return tuple(_shown(one, image) for one, image in zip(exposed, images, strict=True))


def _shown(one: Exposed, picture: str) -> ShownExample:
    return ShownExample(
        example=one.example,
        label=one.label,
        score=decimal(one.score, 1),
        inside=decimal(100 * one.member_accuracy, 0),
        outside=decimal(100 * one.other_accuracy, 0),
        picture=picture,
    )


def _notes(leakages: Sequence[Leakage]) -> tuple[str, ...]:
    """Return what must be known, each once, and what could not be run."""
    notes = [note for leakage in leakages for note in (*leakage.warnings, *leakage.notes)]
    notes += [
        f"Not run: {one.attack}, {one.reason}." for leakage in leakages for one in leakage.skipped
    ]
    return tuple(dict.fromkeys(notes))
