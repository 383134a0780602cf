"""Write the report of a study: the page, its figures and the table of every number."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gossamer.core.files import remove_abandoned
from gossamer.records.joint import JointRecord
from gossamer.records.record import Phase, Record, StudyRun
from gossamer.reporting.charts import Figure
from gossamer.reporting.claims import JudgedClaim, judged_claims
from gossamer.reporting.claims_figure import claims_figure
from gossamer.reporting.columns import results_table
from gossamer.reporting.curves import curve_figure
from gossamer.reporting.files import claims_table, leakage_lines, write_whole
from gossamer.reporting.heat_figures import class_figure, layer_figure, overlap_figure
from gossamer.reporting.latencies import latency_figure
from gossamer.reporting.leakage_figures import accuracy_leakage_figure, leakage_figure, roc_figure
from gossamer.reporting.page import report_page
from gossamer.reporting.rendering import pictures
from gossamer.reporting.results import Results
from gossamer.reporting.size_figures import accuracy_figure, effective_figure, size_figure


def figures(results: Results, judged: Iterable[JudgedClaim] = ()) -> tuple[Figure, ...]:
    """Return the figures that the records can fill."""
    candidates = (
        claims_figure(results, judged),
        accuracy_figure(results),
        leakage_figure(results),
        accuracy_leakage_figure(results),
        roc_figure(results),
        size_figure(results),
        effective_figure(results),
        latency_figure(results),
        layer_figure(results),
        overlap_figure(results),
        curve_figure(results),
        class_figure(results),
    )
    return tuple(figure for figure in candidates if figure is not None)


def write_report(
    study: StudyRun,
    records: Mapping[str, Record],
    phases: Mapping[str, Phase],
    joints: Sequence[JointRecord],
    folder: Path,
) -> Path:
    """Write the page ``report.html``, the pictures in ``figures/`` and the tables as CSV.

    These are ``results.csv`` with a line a trial, ``claims.csv`` with a line a comparison and
    ``leakage.csv`` with a line a number of an attack, the latter two where there are any.

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
    joints
        What was measured of several networks together, such as attacks.
    folder
        Where the files go; made if it is not there.

    Returns
    -------
    Path
        The page, ``folder/report.html``.

    Raises
    ------
    UnwritableError
        If the folder cannot be written or its disk is full.
    """
    results = Results(study, records, tuple(joints), phases)
    for part in (folder, folder / "figures"):
        remove_abandoned(part)
    write_whole(folder / "results.csv", results_table(results).encode())
    if attacks := leakage_lines(results):
        write_whole(folder / "leakage.csv", attacks.encode())
    judged = judged_claims(results)
    if claims := claims_table(judged):
        write_whole(folder / "claims.csv", claims.encode())
    drawn = figures(results, judged)
    for figure in drawn:
        write_pictures(figure, study.title, folder)
    page = folder / "report.html"
    write_whole(page, report_page(results, judged, drawn).encode())
    return page


def write_pictures(figure: Figure, subtitle: str, folder: Path) -> None:
    """Write a figure as ``figures/NAME.svg`` and ``figures/NAME.png``."""
    svg, png = pictures(figure.file_spec(subtitle))
    write_whole(folder / "figures" / f"{figure.name}.svg", svg)
    write_whole(folder / "figures" / f"{figure.name}.png", png)
