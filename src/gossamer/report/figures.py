"""All figures of the report, in the order of the page."""

from collections.abc import Mapping

from gossamer.records.record import Phase
from gossamer.report.accuracy_figures import accuracy_figure, effective_figure
from gossamer.report.aggregate import Results
from gossamer.report.charts import Figure
from gossamer.report.heat_figures import class_figure, layer_figure
from gossamer.report.training_figure import curve_figure


def figures(results: Results, phases: Mapping[str, Phase]) -> tuple[Figure, ...]:
    """Return the figures that the records can fill."""
    candidates = (
        accuracy_figure(results),
        effective_figure(results),
        layer_figure(results),
        curve_figure(results, phases),
        class_figure(results),
    )
    return tuple(figure for figure in candidates if figure is not None)
