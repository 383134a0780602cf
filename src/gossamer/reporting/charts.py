"""What every figure is made of: panels of rows, colours, and the look they share."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import altair as alt

Row = dict[str, Any]
Layer = alt.Chart | alt.LayerChart
STRONG = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of the main arms: Okabe and Ito's, told apart by every kind of colour vision."""
MUTED = (
    *("#6f8196", "#a8836a", "#6f9480", "#9280a6", "#8c8c8c", "#a39752"),
    *("#3f5268", "#7a5740", "#45694f", "#64527a", "#5c5c5c", "#6e642c"),
)
"""Colours of the controls, which step back behind the main arms; the darker ones come second."""
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
        # A label stands at its tick, and a title beside the longest label, however long that is.
        "labelFlush": False,
        "labelPadding": 5,
        "maxExtent": 600,
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
        "rowPadding": 5,
        "labelColor": INK,
        "titleColor": INK,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "symbolType": "stroke",
        "symbolStrokeWidth": 2.2,
        "symbolOpacity": 1,
        "offset": 14,
        "gradientLength": 180,
        "gradientThickness": 10,
    },
}
WIDE, NARROW = 760, 400
"""Widths of a panel alone, and of one that stands beside another, in pixels."""
TITLE_WIDTH = 50
"""Characters that fit over a narrow panel."""


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
        lines = textwrap.wrap(title, TITLE_WIDTH)
        words: dict[str, Any] = {"title": lines if len(lines) > 1 else title} if title else {}
        return replace(self, chart=alt.LayerChart(layer=list(layers), height=height, **words))

    @property
    def all_rows(self) -> list[Row]:
        """Rows of all layers."""
        return [row for rows in self.rows.values() for row in rows]

    @cached_property
    def specification(self) -> dict[str, Any]:
        """The chart without its rows, its width and its look."""
        specification: dict[str, Any] = self.chart.to_dict(validate=False)
        return {name: part for name, part in specification.items() if name != "config"}


@dataclass(frozen=True)
class Figure:
    """One figure: its panels, and the words under it."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    columns: int = 2
    """Panels beside each other."""

    @property
    def beside(self) -> int:
        """Panels that really stand beside each other."""
        return min(self.columns, len(self.panels))

    @property
    def width(self) -> int:
        """Width of a panel in pixels."""
        return WIDE if self.beside == 1 else NARROW

    def page_specs(self) -> list[dict[str, Any]]:
        """Return a specification for each panel, as wide as its place on the page."""
        return [
            _whole(panel.specification | {"width": "container"}, [panel], self.width)
            for panel in self.panels
        ]

    def file_spec(self, subtitle: str) -> dict[str, Any]:
        """Return one specification with all panels, for a picture that stands alone."""
        panels = [panel.specification | {"width": self.width} for panel in self.panels]
        title = {"text": self.title, "subtitle": subtitle, "offset": 18, "fontSize": 16}
        whole: dict[str, Any] = {
            "concat": [
                {key: part for key, part in one.items() if key not in ("$schema", "params")}
                for one in panels
            ],
            "params": _shared_parameters(panels),
            "columns": self.beside,
            "spacing": 36,
            "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}},
        }
        if len(panels) == 1 and "title" not in panels[0]:
            whole = panels[0]
        return _whole({**whole, "title": title, "padding": 20}, self.panels, self.width)


def _shared_parameters(panels: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the parameters of several panels, which only the whole may have, each once."""
    found: dict[str, dict[str, Any]] = {}
    for one in (one for panel in panels for one in panel.get("params", ())):
        views = found.get(one["name"], {}).get("views", [])
        found[one["name"]] = {**one, "views": [*views, *one.get("views", [])]}
    return list(found.values())


def _whole(specification: dict[str, Any], panels: Iterable[Panel], width: int) -> dict[str, Any]:
    """Return a complete specification, with as many columns in its legends as there is room for."""
    rows = {name: rows for panel in panels for name, rows in panel.rows.items()}
    config = CONFIG | {"legend": CONFIG["legend"] | _legend(rows.values(), width)}
    return {"$schema": alt.SCHEMA_URL, **specification, "datasets": rows, "config": config}


def _legend(tables: Iterable[list[Row]], width: int) -> dict[str, Any]:
    """Return columns of a legend and the size of what is in it, for the longest label in it."""
    labels = {row["series"] for rows in tables for row in rows if "series" in row}
    font, symbol, padding = (12, 26, 18) if width == WIDE else (11, 16, 10)
    column = symbol + padding + 0.47 * font * max(map(len, labels), default=0)
    return {
        "columns": min(4, max(1, int(width / column))),
        "labelFontSize": font,
        "symbolSize": symbol**2,
        "columnPadding": padding,
        "labelLimit": 340,
    }
