"""The page of a single audit, of networks that gossamer need not have trained."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gossamer.core.formats import NOTHING, listed
from gossamer.leakage.attacks import ATTACKS
from gossamer.records.example_scores import ExampleScores
from gossamer.records.leakage import AttackResult, Leakage, Skipped
from gossamer.reporting.charts import Figure, Panel
from gossamer.reporting.files import ATTACK_COLUMNS, attack_lines, write_scores, write_whole
from gossamer.reporting.glossary import LEAKAGE, attack_meanings
from gossamer.reporting.leakage_figures import Curve, marked_rates, roc_panel
from gossamer.reporting.leakage_section import gallery
from gossamer.reporting.leakage_tables import attack_table, check_table, precision_table
from gossamer.reporting.rendering import library, page_figure, render
from gossamer.reporting.tables import Section, Table
from gossamer.reporting.write import write_pictures

MOST_CURVES = 7
"""So many can be told apart."""


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
    """Return the attacks whose curves are drawn, the strongest at the rarest rate first.

    Those that say yes or no have no curve to speak of and are left out, as is the optimistic
    baseline, whose curve is that of the loss.
    """
    fair = [attack for attack in leakage.attacks if attack.tpr_at and not _decides(attack)]
    strength = {one.name: one.tpr_at[-1].comparable for one in fair}
    first = {leakage.strongest: 0, leakage.headline: 1}
    ranked = sorted(fair, key=lambda one: (first.get(one.name, 2), -strength[one.name]))
    return tuple(ranked[:MOST_CURVES]) or leakage.attacks[:1]


def roc_of(leakage: Leakage) -> Figure:
    """Return the figure of an audit's ROC curves."""
    drawn = drawn_attacks(leakage)
    curves = [Curve(attack.label, attack) for attack in drawn]
    banded = any(point.low is not None for curve in curves for point in curve.attack.roc)
    left = [a.label for a in leakage.attacks if a.tpr_at and a not in drawn and not _decides(a)]
    without = f" Not drawn, as they find less: {listed(left)}." if left else ""
    return Figure(
        "roc",
        "ROC curves",
        "True-positive against false-positive rate on log axes"
        + (", mean over models, with 95% bands" if banded else "")
        + f". Dotted: guessing.{marked_rates(curves)} The first is the strongest attack at the "
        f"rarest rate.{without}",
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
        "warnings": leakage.warnings,
        "judgement": leakage.judgement,
        "figures": {"roc": page_figure(1, figure)},
        "attacks": attack_table(sections),
        "precision": precision_table(sections, strongest=True),
        "sources": _source_table(leakage.attacks),
        "skipped": _skipped(leakage.skipped),
        "leakage": {"galleries": [("", gallery(leakage, ()))] if leakage.exposed else []},
        "checks": check_table([leakage]),
        "notes": leakage.notes,
        "made": _made(leakage),
        "definitions": [*LEAKAGE, *attack_meanings(one.name for one in leakage.attacks)],
        "library": library(),
    }


def _decides(attack: AttackResult) -> bool:
    known = ATTACKS.get(attack.name)
    return known is not None and known.decides


def _facts(leakage: Leakage) -> list[tuple[str, str]]:
    facts = [("Models", f"{leakage.models:,}"), ("Examples", f"{leakage.examples:,}")]
    if leakage.classes is not None:
        facts.append(("Classes", str(leakage.classes)))
    if leakage.models > 1:
        facts.append(("Design", "complementary pairs" if leakage.paired else "unpaired models"))
    strongest = leakage.attack(leakage.strongest or leakage.headline)
    return [*facts, ("Strongest attack", strongest.label)]


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
        ("Temperature of RMIA and BASE", f"{made.temperature:g}"),
        ("Pairs of models", "given" if made.pairs else "looked for"),
        ("Made by", f"gossamer {made.gossamer} ({libraries})"),
        ("Date", made.date),
    ]


def _source_table(attacks: Sequence[AttackResult]) -> Table:
    rows = tuple((one.label, one.source, one.requirement, _unit(one)) for one in attacks)
    titles = ("Attack", "source", "the attacker has", "unit of its score")
    return Table("", (), titles, (Section("", rows),))


def _unit(attack: AttackResult) -> str:
    known = ATTACKS.get(attack.name)
    return known.unit if known else NOTHING
