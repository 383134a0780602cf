"""The page of a single audit, of networks that gossamer need not have trained."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gossamer.records.example_scores import ExampleScores
from gossamer.records.leakage import AttackResult, Leakage, Skipped
from gossamer.report.charts import Figure, Panel
from gossamer.report.files import ATTACK_COLUMNS, attack_lines, write_whole
from gossamer.report.glossary import LEAKAGE, attack_meanings
from gossamer.report.leakage_section import gallery
from gossamer.report.leakage_tables import attack_table, check_table, precision_table
from gossamer.report.rendering import library, page_figure, render
from gossamer.report.roc import Curve, marked_rates, roc_panel
from gossamer.report.score_table import write_scores
from gossamer.report.tables import Section, Table
from gossamer.report.write import write_pictures

BESIDE = ("loss", "modified_entropy", "rmia", "lira_offline")
"""Attacks whose curves are drawn beside that of the headline attack."""


def write_audit(
    leakage: Leakage, folder: Path, title: str, scores: ExampleScores | None = None
) -> Path:
    """Write ``audit.html``, ``figures/roc.*``, ``audit.json``, ``audit.csv`` and ``scores.csv``.

    The page is one file that needs no network. Each file is replaced as a whole.

    Parameters
    ----------
    leakage
        What the audit found.
    folder
        Where the files go; made if it is not there.
    title
        What was audited, such as the name of the file.
    scores
        What every attack says of every example; None: no table of it is written.

    Returns
    -------
    Path
        The page, ``folder/audit.html``.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.
    """
    text = json.dumps(leakage.to_dict(), indent=1, allow_nan=False)
    write_whole(folder / "audit.json", text.encode())
    write_whole(folder / "audit.csv", _table_text(leakage).encode())
    table = None if scores is None else write_scores(scores, folder)
    figure = roc_of(leakage)
    write_pictures(figure, title, folder)
    page = folder / "audit.html"
    write_whole(page, _page(leakage, title, figure, table).encode())
    return page


def _table_text(leakage: Leakage) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ATTACK_COLUMNS)
    writer.writerows(attack_lines(leakage.attacks, leakage.headline))
    return text.getvalue()


def drawn_attacks(leakage: Leakage) -> tuple[AttackResult, ...]:
    """Return the attacks whose curves are drawn: the headline first, then a few to compare."""
    found = {attack.name: attack for attack in leakage.attacks}
    names = dict.fromkeys((leakage.headline, *BESIDE))
    return tuple(found[name] for name in names if name in found and found[name].roc)


def roc_of(leakage: Leakage) -> Figure:
    """Return the figure of an audit's ROC curves."""
    curves = [Curve(attack.label, attack) for attack in drawn_attacks(leakage)]
    banded = any(point.low is not None for curve in curves for point in curve.attack.roc)
    return Figure(
        "roc",
        "ROC curves",
        "True-positive against false-positive rate on log axes"
        + (", mean over models, with 95% bands" if banded else "")
        + f". Dotted: guessing.{marked_rates(curves)} The first is the headline attack, chosen by "
        "what there was to attack with, before looking at any result.",
        (roc_panel(Panel("roc"), curves),),
    )


def _page(leakage: Leakage, title: str, figure: Figure, scores: Path | None) -> str:
    return render(
        "audit.html.j2",
        {**_values(leakage, title, figure), "scores": None if scores is None else scores.name},
    )


def _values(leakage: Leakage, title: str, figure: Figure) -> dict[str, Any]:
    sections = [("", leakage)]
    return {
        "title": title,
        "facts": _facts(leakage),
        "passed": leakage.passed,
        "sentence": leakage.sentence,
        "figures": {"roc": page_figure(1, figure)},
        "attacks": attack_table(sections),
        "precision": precision_table(sections),
        "sources": _source_table(leakage.attacks),
        "skipped": _skipped(leakage.skipped),
        "leakage": {"galleries": [("", gallery(leakage, ()))] if leakage.exposed else []},
        "checks": check_table([leakage]),
        "notes": leakage.notes,
        "made": _made(leakage),
        "definitions": [*LEAKAGE, *attack_meanings(one.name for one in leakage.attacks)],
        "library": library(),
    }


def _facts(leakage: Leakage) -> list[tuple[str, str]]:
    facts = [("Models", f"{leakage.models:,}"), ("Examples", f"{leakage.examples:,}")]
    if leakage.classes is not None:
        facts.append(("Classes", str(leakage.classes)))
    if leakage.models > 1:
        facts.append(("Design", "complementary pairs" if leakage.paired else "unpaired models"))
    headline = leakage.attack(leakage.headline)
    return [*facts, ("Headline attack", headline.label)]


def _skipped(skipped: Sequence[Skipped]) -> list[tuple[str, str]]:
    """Return attacks that could not be run and why, those of one reason together."""
    reasons = dict.fromkeys(one.reason for one in skipped)
    return [(", ".join(o.attack for o in skipped if o.reason == why), why) for why in reasons]


def _made(leakage: Leakage) -> list[tuple[str, str]]:
    """Say what it takes to repeat the audit."""
    made = leakage.provenance
    if made is None:
        return []
    left_out = made.models - leakage.models
    models = f"{made.models:,}" + (f", of which {left_out:,} were left out" if left_out else "")
    libraries = ", ".join(f"{name} {version}" for name, version in made.libraries.items())
    return [
        ("Input", f"{made.source.name}, {made.given}"),
        ("SHA-256 of the input", made.source.sha256),
        ("Models in the input", models),
        ("Seed", str(made.seed)),
        ("Attacks asked for", ", ".join(made.attacks)),
        ("Pairs of models", "given" if made.pairs else "looked for"),
        ("Made by", f"gossamer {made.gossamer} ({libraries})"),
        ("Date", made.date),
    ]


def _source_table(attacks: Sequence[AttackResult]) -> Table:
    rows = tuple((one.label, one.source, one.requirement) for one in attacks)
    return Table("", (), ("Attack", "source", "the attacker has"), (Section("", rows),))
