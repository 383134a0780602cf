"""Write the report of a study: the page, its figures and the table of every number."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gossamer.records.joint import JointRecord
from gossamer.records.record import Phase, Record, StudyRun
from gossamer.report.charts import Figure
from gossamer.report.claims import judged_claims
from gossamer.report.figures import figures
from gossamer.report.files import claims_table, leakage_lines, write_whole
from gossamer.report.page import report_page
from gossamer.report.rendering import pictures
from gossamer.report.results import Results
from gossamer.report.results_table import results_table


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
