"""Write the pages of the committed searches within a budget again, from their numbers alone.

python docs/shrink_pages.py

Each folder ``docs/results/shrink-*`` holds the ``shrinking.json`` that `gossamer shrink` wrote. Its
page here shows the figures as pictures: without what draws them in a browser it is a quarter as
large.
"""

import base64
from pathlib import Path

from gossamer.records.shrinking import Shrinking
from gossamer.reporting.charts import Figure
from gossamer.reporting.files import write_whole
from gossamer.reporting.rendering import pictures, render
from gossamer.reporting.shrinking import page_values
from gossamer.reporting.shrinking_figures import shrinking_figures
from gossamer.shrinking.result import trial_lines

RESULTS = Path(__file__).parent / "results"


def read_search(folder: Path) -> Shrinking:
    """Return what a search found."""
    return Shrinking.model_validate_json((folder / "shrinking.json").read_text(encoding="utf-8"))


def write_search(folder: Path) -> None:
    """Write ``report.html``, ``trials.csv`` and ``trade-off.svg`` of a search."""
    report = read_search(folder)
    drawn = shrinking_figures(report)
    page = render("shrinking.html.j2", page_values(report, drawn) | {"library": ""})
    for figure in drawn:
        picture, _ = pictures(figure.file_spec(report.model))
        page = with_picture(page, figure, picture)
        if figure.name == "trade-off":
            write_whole(folder / "trade-off.svg", picture)
    write_whole(folder / "report.html", page.encode())
    write_whole(folder / "trials.csv", trial_lines(report.tried).encode())


def with_picture(page: str, figure: Figure, picture: bytes) -> str:
    """Return a page with a picture in the place of the charts of a figure."""
    at = page.index(f'<figure id="{figure.name}">')
    start, end = page.index('<div class="panels', at), page.index("<figcaption>", at)
    shown = f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}"
    image = f'<img style="max-width: 100%" alt="{figure.title}" src="{shown}">\n'
    return page[:start] + image + page[end:]


def main() -> None:
    """Write all of them."""
    for numbers in sorted(RESULTS.glob("shrink-*/shrinking.json")):
        write_search(numbers.parent)


if __name__ == "__main__":
    main()
