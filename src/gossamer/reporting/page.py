"""From results to the values of the page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.core.formats import compact, counted, duration, listed, sentence
from gossamer.records.record import Phase
from gossamer.reporting.answer import answer, chance_note, interval_note
from gossamer.reporting.charts import Figure
from gossamer.reporting.checklist import checklist
from gossamer.reporting.claims import JudgedClaim, claims_note
from gossamer.reporting.claims_figure import VERDICTS, panel_name
from gossamer.reporting.columns import columns_table
from gossamer.reporting.glossary import definitions
from gossamer.reporting.latencies import latency_section
from gossamer.reporting.leakage_section import leakage_section
from gossamer.reporting.rendering import PageFigure, PagePanel, library, page_figure, render
from gossamer.reporting.results import Results
from gossamer.reporting.summaries import Cost, cost, used_phases
from gossamer.reporting.tables import (
    arm_table,
    control_tables,
    front_table,
    not_run,
    published_tables,
    size_table,
    source_table,
    training_table,
)


@dataclass(frozen=True)
class Card:
    """One claim on the page."""

    judged: JudgedClaim
    evidence: str
    """The sentence without the verdict, which stands above it."""
    panel: PagePanel | None
    """Its paired differences; None if nothing is measured."""


def report_page(results: Results, judged: Sequence[JudgedClaim], drawn: Sequence[Figure]) -> str:
    """Return the page as one HTML text that refers to nothing outside of it."""
    shown = {figure.name: page_figure(i + 1, figure) for i, figure in enumerate(drawn)}
    values: dict[str, Any] = {
        "title": results.study.title,
        "study": results.study,
        # A sentence on every arm of several datasets is too long to be one; there are claims then.
        "answer": None if judged and len(results.datasets) > 1 else answer(results),
        "done": len(results.done),
        "asked": len(results.study.trials),
        "chance_note": chance_note(results),
        "facts": _facts(results),
        "figures": {name: shown.get(name) for name in FIGURES},
        "claims": _cards(judged, drawn, shown),
        "tally": _tally(judged),
        "claims_note": claims_note(judged),
        "interval_note": interval_note(results),
        "leakage": leakage_section(results),
        "published": published_tables(results),
        "not_run": not_run(results),
        "controls": control_tables(results),
        "front": front_table(results),
        "sizes": [table for table in (size_table(results),) if table],
        "latency": latency_section(results),
        "checklist": checklist(results) if results.done else (),
        "arms": arm_table(results),
        "sources": source_table(results),
        "trainings": training_table(results, results.phases),
        "cost": _cost_lines(results, cost(results, results.phases)),
        "environments": _environments(results, results.phases),
        "definitions": definitions(results),
        "columns": columns_table(results),
        "library": library() if drawn else "",
    }
    return render("report.html.j2", values)


FIGURES = (
    "claims",
    "accuracy",
    "leakage",
    "leakage-accuracy",
    "roc",
    "size",
    "effective",
    "latency",
    "layers",
    "overlap",
    "curves",
    "classes",
)


def _cards(
    judged: Sequence[JudgedClaim], drawn: Sequence[Figure], shown: Mapping[str, PageFigure]
) -> list[Card]:
    """Put each claim beside its panel of the claims' figure."""
    panels: dict[str, PagePanel] = {}
    for figure in drawn:
        if figure.name == "claims":
            names = [panel.name for panel in figure.panels]
            panels = dict(zip(names, shown["claims"].panels, strict=True))
    return [Card(one, _without_verdict(one), panels.get(panel_name(one))) for one in judged]


def _without_verdict(one: JudgedClaim) -> str:
    return sentence(one.evidence.removeprefix(f"{one.verdict.capitalize()}: "))


def _tally(judged: Sequence[JudgedClaim]) -> str:
    """Count the verdicts: ``"6 claims: 3 supported, 2 refuted, 1 undecided."``."""
    counts = {verdict: sum(one.verdict == verdict for one in judged) for verdict in VERDICTS}
    words = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    return f"{counted(len(judged), 'claim')}: {', '.join(words)}."


def _facts(results: Results) -> list[tuple[str, str]]:
    study = results.study
    asked = len({trial.seed for trial in study.trials})
    return [
        ("Dataset", study.dataset),
        ("Network", study.network),
        ("Scale", study.scale),
        ("Seeds", str(asked)),
        ("Trials", f"{len(study.trials):,}"),
    ]


def _cost_lines(results: Results, total: Cost) -> list[str]:
    lines = []
    if total.trainings:
        lines.append(
            f"{counted(total.trainings, 'training')} took {_time(total.training_seconds)} "
            f"({compact(total.examples)} examples); pruning and measuring "
            f"{counted(len(results.done), 'trial')} took {_time(total.measuring_seconds)}."
        )
    elif results.done:
        lines.append(f"Pruning and measuring took {_time(total.measuring_seconds)}.")
    if not total.steps_shared:
        return lines
    steps = (
        f"{_who(results)} on {counted(total.steps_shared, 'optimizer step')}; each run alone, "
        f"they would have taken {total.steps_alone:,}"
    )
    factor = total.factor or 1.0
    shared = (
        f"sharing saved a factor {factor:.{1 if factor < 9.95 else 0}f}"
        if factor >= 1.05
        else "nothing could be shared"
    )
    return [*lines, f"{steps}: {shared}."]


def _who(results: Results) -> str:
    whole = len(results.done) == len(results.study.trials)
    return "The trials rest" if whole else "The trials that are done rest"


def _time(seconds: float) -> str:
    """Return a time that no line break tears apart."""
    return duration(seconds).replace(" ", "\u00a0")


def _environments(results: Results, phases: Mapping[str, Phase]) -> list[list[tuple[str, str]]]:
    """Describe each environment that a number comes from, once."""
    found = [results.records[trial.key].environment for trial in results.done]
    found += [phase.environment for phase in used_phases(results, phases).values()]
    distinct = {environment.model_dump_json(): environment for environment in found}
    libraries: Callable[[Mapping[str, str]], str] = lambda them: listed(  # noqa: E731
        [f"{name} {version}" for name, version in sorted(them.items())]
    )
    return [
        [
            ("Processor", one.processor),
            ("Device", one.device),
            ("Threads", str(one.threads)),
            ("Machine", one.machine),
            ("torch", one.torch),
            ("Python", one.python),
            ("Libraries", libraries(one.libraries) if one.libraries else "none recorded"),
            ("gossamer", f"{one.gossamer}, revision {one.revision or 'not recorded'}"),
        ]
        for one in distinct.values()
    ]
