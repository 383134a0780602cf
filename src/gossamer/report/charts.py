"""What every figure is made of: panels of rows, colours, and the look they share."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import altair as alt

Row = dict[str, Any]
Layer = alt.Chart | alt.LayerChart
STRONG = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of the main arms: Okabe and Ito's, told apart by every kind of colour vision."""
MUTED = ("#6f8196", "#a8836a", "#6f9480", "#9280a6", "#8c8c8c", "#a39752")
"""Colours of the controls, which step back behind the main arms."""
DASHES = ([2, 2], [8, 3], [2, 4], [9, 3, 2, 3], [4, 2], [12, 4])
"""Dashes of the controls, so that colour is never the only difference."""
INK, GREY, QUIET, RULE = "#1f2328", "#5f6670", "#8b929b", "#e4e7eb"
SHADES = ["#f4f8fb", "#d3e5f2", "#8fbfe0", "#3d8fc4", "#0a5f98", "#083a63"]
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "white",
    "view": {"stroke": None},
    "axis": {
        "labelColor": GREY,
        "titleColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "titleFontWeight": 500,
        "titlePadding": 10,
        "gridColor": RULE,
        "domainColor": "#b5bac1",
        "tickColor": "#b5bac1",
        "tickSize": 4,
    },
    "title": {
        "fontSize": 13.5,
        "fontWeight": 600,
        "color": INK,
        "subtitleColor": GREY,
        "subtitleFontSize": 12,
        "anchor": "start",
        "offset": 10,
    },
    "legend": {
        "orient": "top",
        "columns": 4,
        "columnPadding": 22,
        "rowPadding": 5,
        "labelColor": INK,
        "labelFontSize": 12,
        "labelLimit": 280,
        "titleColor": INK,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "symbolType": "stroke",
        "symbolSize": 620,
        "symbolStrokeWidth": 2.2,
        "symbolOpacity": 1,
        "offset": 14,
        "gradientLength": 180,
        "gradientThickness": 10,
    },
}


@dataclass(frozen=True)
class Panel:
    """One chart and the rows that it names: altair would copy and check them again and again."""

    name: str
    chart: Layer = field(default_factory=alt.LayerChart)
    rows: dict[str, list[Row]] = field(default_factory=dict)

    def of(self, rows: Iterable[Row]) -> alt.Chart:
        """Return an empty chart of some rows, which the panel keeps."""
        name = f"{self.name}-{len(self.rows)}"
        self.rows[name] = list(rows)
        return alt.Chart(alt.NamedData(name=name))

    def showing(self, layers: Iterable[Layer], height: int, title: str = "") -> "Panel":
        """Return the panel with its layers."""
        words: dict[str, Any] = {"title": title} if title else {}
        return replace(self, chart=alt.LayerChart(layer=list(layers), height=height, **words))

    @cached_property
    def specification(self) -> dict[str, Any]:
        """The chart without its rows, its width and its look."""
        specification: dict[str, Any] = self.chart.to_dict()
        return {name: part for name, part in specification.items() if name != "config"}


@dataclass(frozen=True)
class Figure:
    """One figure: its panels, and the words under it."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]

    def page_specs(self) -> list[dict[str, Any]]:
        """Return a specification for each panel, as wide as its place on the page."""
        return [
            _whole(panel.specification | {"width": "container"}, [panel]) for panel in self.panels
        ]

    def file_spec(self, subtitle: str) -> dict[str, Any]:
        """Return one specification with all panels, for a picture that stands alone."""
        width = 760 if len(self.panels) == 1 else 400
        panels = [panel.specification | {"width": width} for panel in self.panels]
        title = {"text": self.title, "subtitle": subtitle, "offset": 18, "fontSize": 16}
        whole: dict[str, Any] = {
            "concat": [
                {key: part for key, part in one.items() if key != "$schema"} for one in panels
            ],
            "columns": min(2, len(panels)),
            "spacing": 36,
            "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}},
        }
        if len(panels) == 1 and "title" not in panels[0]:
            whole = panels[0]
        return _whole({**whole, "title": title, "padding": 20}, self.panels)


def _whole(specification: dict[str, Any], panels: Iterable[Panel]) -> dict[str, Any]:
    rows = {name: rows for panel in panels for name, rows in panel.rows.items()}
    return {"$schema": alt.SCHEMA_URL, **specification, "datasets": rows, "config": CONFIG}
