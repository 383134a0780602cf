"""How each line of a figure looks, and which arms share a panel."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import altair as alt

from gossamer.core.formats import inside, sentence
from gossamer.records.record import Arm
from gossamer.reporting.charts import DASHES, INK, MUTED, STRONG, Layer
from gossamer.reporting.results import ACCURACY, Results
from gossamer.reporting.summaries import comparisons

PUBLISHED = "published"
SOLID = (1, 0)
FEW = 2
"""Up to this many levels, a study is shown as dots by arm instead of lines over its axis."""


@dataclass(frozen=True)
class Series:
    """How one line of a figure looks."""

    label: str
    colour: str
    dash: Sequence[int]
    main: bool = False


Looks = dict[tuple[str, bool], Series]
"""Look of each measured (False) and published (True) line, by arm."""


@dataclass(frozen=True)
class Group:
    """Arms that share a panel."""

    title: str
    """Empty if all arms share one panel."""
    arms: tuple[Arm, ...]
    prefix: str = ""
    """What the labels of all these arms begin with; the title says it already."""

    def label(self, arm: Arm) -> str:
        """Return what an arm is called within its panel."""
        return sentence(arm.label.removeprefix(self.prefix))


def groups(results: Results) -> tuple[Group, ...]:
    """Return arms by what they share: their dataset, and the beginning of labels such as "Run 1:".

    A beginning counts only if every label on that dataset has one.
    """
    arms = results.study.arms
    plain = {arm.dataset for arm in arms if ": " not in arm.label}
    found: dict[tuple[str, str], list[Arm]] = {}
    for arm in arms:
        beginning = "" if arm.dataset in plain else arm.label.split(": ")[0]
        found.setdefault((arm.dataset, beginning), []).append(arm)
    several = len(found) > 1
    return tuple(
        Group((beginning or dataset) if several else "", tuple(some), f"{beginning}: ")
        for (dataset, beginning), some in found.items()
    )


def short_label(results: Results, arm: str) -> str:
    """Return an arm's label as it stands in its panel."""
    found = {one.name: group.label(one) for group in groups(results) for one in group.arms}
    return found.get(arm, arm)


def titled_label(results: Results, arm: str) -> str:
    """Return an arm's label with the title of its panel before it, if there are several."""
    title = next(g.title for g in groups(results) if arm in {one.name for one in g.arms})
    label = short_label(results, arm)
    return f"{title}: {inside(label)}" if title else label


def along_axis(results: Results, arm: str) -> bool:
    """Whether an arm lies along the axis; if not, it is drawn straight across."""
    return any(level != 0 for level in results.own_levels(arm))


def axis_levels(results: Results) -> tuple[float, ...]:
    """Levels of the study, without the 0 of networks that are not pruned."""
    return tuple(sorted({level for _, level in results.asked if level != 0}))


def by_arm(results: Results) -> bool:
    """Whether there are too few levels for a line."""
    return len(axis_levels(results)) <= FEW


def all_series(results: Results, group: Group) -> Looks:
    """Look of each line of a panel: published lines follow the measured ones."""
    looks: Looks = {}
    published = {one.arm for one in comparisons(results) if one.measure == ACCURACY}
    strong = cycle((colour, dash) for dash in (SOLID, *DASHES) for colour in STRONG)
    muted = cycle(
        (colour, DASHES[(number + turn) % len(DASHES)])
        for turn in range(len(DASHES))
        for number, colour in enumerate(MUTED)
    )
    for arm in group.arms:
        label = group.label(arm)
        if arm.role == "main":
            colour, dash = next(strong)
            looks[arm.name, False] = Series(label, colour, dash, main=True)
            if arm.name in published:
                looks[arm.name, True] = Series(f"{label}, published", colour, [6, 4])
        elif arm.role == "baseline":
            looks[arm.name, False] = Series(_unpruned(label), INK, SOLID)
        else:
            colour, dash = next(muted)
            looks[arm.name, False] = Series(label, colour, dash)
    return looks


def _unpruned(label: str) -> str:
    """Return a baseline's label, which says that it is not pruned."""
    known = any(word in label.lower() for word in ("unpruned", "dense"))
    return label if known else f"{label} (unpruned)"


@dataclass(frozen=True)
class Ink:
    """Encodings that the layers of one panel share."""

    colour: alt.Color
    dash: alt.StrokeDash
    fade: Any
    pick: alt.Parameter

    def pickable(self, layers: Sequence[Layer]) -> list[Layer]:
        """Return the layers, of which the first one in colours listens to the legend."""
        coloured = (n for n, one in enumerate(layers) if one.encoding.color is not alt.Undefined)
        first = next(coloured, None)
        return [one.add_params(self.pick) if n == first else one for n, one in enumerate(layers)]


def ink(looks: Iterable[Series]) -> Ink:
    """Colour and dash by series; a click on an entry of the legend singles it out."""
    looks = list(looks)
    labels = [look.label for look in looks]
    pick = alt.selection_point(fields=["series"], bind="legend", toggle="true", name="pick")
    return Ink(
        alt.Color("series:N", title=None).scale(
            domain=labels, range=[look.colour for look in looks]
        ),
        alt.StrokeDash("series:N", title=None).scale(
            domain=labels, range=[list(look.dash) for look in looks]
        ),
        alt.when(pick).then(alt.value(1)).otherwise(alt.value(0.07)),
        pick,
    )
