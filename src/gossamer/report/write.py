"""Write the report of a study: the page, its figures and the table of every number."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from gossamer.records.record import Phase, Record, StudyRun
from gossamer.report.aggregate import Results
from gossamer.report.figures import figures
from gossamer.report.files import results_table, write_whole
from gossamer.report.page import render

VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
"""The version of the chart grammar that altair writes, as vl_convert names it."""


def write_report(
    study: StudyRun, records: Mapping[str, Record], phases: Mapping[str, Phase], folder: Path
) -> Path:
    """Write ``report.html``, ``figures/*.png`` and ``*.svg``, and ``results.csv``.

    The page is one file that needs no network. A run that is only partly done gives a page of
    what there is, which says so. Each file is replaced as a whole.

    Parameters
    ----------
    study
        What was asked for.
    records
        What was found so far, by key.
    phases
        Trainings that were done, by key.
    folder
        Where the files go; made if it is not there.

    Returns
    -------
    Path
        The page, ``folder/report.html``.

    Raises
    ------
    InputError
        If the folder cannot be written or the disk is full.
    """
    results = Results(study, records)
    write_whole(folder / "results.csv", results_table(results).encode())
    drawn = figures(results, phases)
    for figure in drawn:
        svg, png = _pictures(figure.file_spec(study.title))
        write_whole(folder / "figures" / f"{figure.name}.svg", svg)
        write_whole(folder / "figures" / f"{figure.name}.png", png)
    page = folder / "report.html"
    write_whole(page, render(results, phases, drawn, _library() if drawn else "").encode())
    return page


def _pictures(specification: dict[str, Any]) -> tuple[bytes, bytes]:
    """Draw a chart once, as SVG and from that as PNG."""
    svg: str = vl_convert.vegalite_to_svg(specification, vl_version=VEGA_LITE, allowed_base_urls=[])
    png: bytes = vl_convert.svg_to_png(svg, scale=2)
    return svg.encode(), png


@cache
def _library() -> str:
    """JavaScript that draws the charts of the page, without a network."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    return bundle.replace("</script", "<\\/script")
