"""All figures of the report, in the order of the page."""

from collections.abc import Iterable

from gossamer.report.accuracy_figures import accuracy_figure
from gossamer.report.charts import Figure
from gossamer.report.claims import JudgedClaim
from gossamer.report.claims_figure import claims_figure
from gossamer.report.heat_figures import class_figure, layer_figure
from gossamer.report.latency_figure import latency_figure
from gossamer.report.leakage_figures import accuracy_leakage_figure, leakage_figure, roc_figure
from gossamer.report.overlap_figure import overlap_figure
from gossamer.report.results import Results
from gossamer.report.size_figures import effective_figure, size_figure
from gossamer.report.training_figure import curve_figure


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
