"""From rows and figures to the page."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gossamer.formats import compact, counted, duration, listed
from gossamer.records.record import Phase
from gossamer.report.aggregate import Cost, Results, cost, used_phases
from gossamer.report.answer import answer
from gossamer.report.charts import Figure
from gossamer.report.glossary import definitions
from gossamer.report.tables import (
    arm_table,
    control_tables,
    published_tables,
    size_table,
    training_table,
)


@dataclass(frozen=True)
class Panel:
    """One chart of the page."""

    name: str
    json: Markup


@dataclass(frozen=True)
class PageFigure:
    """One figure of the page, numbered."""

    number: int
    title: str
    caption: str
    panels: tuple[Panel, ...]


def render(
    results: Results, phases: Mapping[str, Phase], drawn: Sequence[Figure], library: str
) -> str:
    """Return the page as one HTML text that refers to nothing outside of it."""
    environment = Environment(
        loader=PackageLoader("gossamer.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2").render(
        study=results.study,
        answer=answer(results),
        done=len(results.done),
        asked=len(results.study.trials),
        facts=_facts(results),
        figures={figure.name: _figure(i + 1, figure) for i, figure in enumerate(drawn)},
        published=published_tables(results),
        controls=control_tables(results),
        sizes=size_table(results, ("baseline", "main")),
        control_sizes=size_table(results, ("control",)),
        arms=arm_table(results),
        trainings=training_table(results, phases),
        cost=_cost_lines(results, cost(results, phases)),
        environments=_environments(results, phases),
        definitions=definitions(results),
        library=Markup(library),  # noqa: S704  (our own dependency's code, checked for </script)
    )


def _figure(number: int, figure: Figure) -> PageFigure:
    panels = tuple(
        Panel(f"{figure.name}-{index}", script_json(specification))
        for index, specification in enumerate(figure.page_specs())
    )
    return PageFigure(number, figure.title, figure.caption, panels)


def script_json(value: Any) -> Markup:
    r"""Return JSON that can stand inside a script element, whatever texts it holds.

    Examples
    --------
    >>> print(script_json({"title": "</script><b>"}))
    {"title":"\u003c/script\u003e\u003cb\u003e"}
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  (no character of markup is left in it)


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
