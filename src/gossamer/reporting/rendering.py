"""From templates and charts to HTML text that refers to nothing outside of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import altair as alt
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gossamer.reporting.charts import Figure

VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
"""The version of the chart grammar that altair writes, as vl_convert names it."""


@dataclass(frozen=True)
class PagePanel:
    """One chart of the page."""

    name: str
    json: Markup


@dataclass(frozen=True)
class PageFigure:
    """One figure of the page, numbered."""

    name: str
    number: int
    title: str
    caption: str
    panels: tuple[PagePanel, ...]
    beside: int


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a page as one HTML text."""
    environment = Environment(
        loader=PackageLoader("gossamer.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def page_figure(number: int, figure: Figure) -> PageFigure:
    """Return a figure as the page holds it."""
    panels = tuple(
        PagePanel(f"{figure.name}-{index}", script_json(specification))
        for index, specification in enumerate(figure.page_specs())
    )
    return PageFigure(figure.name, number, figure.title, figure.caption, panels, figure.beside)


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


@cache
def library() -> Markup:
    """Return the JavaScript that draws the charts of a page, without a network."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    return Markup(bundle.replace("</script", "<\\/script"))  # noqa: S704  (our own dependency's)


def pictures(specification: dict[str, Any]) -> tuple[bytes, bytes]:
    """Draw a chart once, as SVG and from that as PNG."""
    svg: str = vl_convert.vegalite_to_svg(specification, vl_version=VEGA_LITE, allowed_base_urls=[])
    png: bytes = vl_convert.svg_to_png(svg, scale=2)
    return svg.encode(), png
