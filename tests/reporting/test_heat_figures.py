from typing import Any

import pytest

from gossamer.reporting.charts import INK, SHADES
from gossamer.reporting.heat_figures import LIGHT, class_figure, layer_figure
from gossamer.reporting.results import Results


def test_densities_by_level_and_effective_ones_only_where_they_differ(run: Any) -> None:
    figure = layer_figure(run.results)
    assert figure is not None
    titles = [panel.specification["title"] for panel in figure.panels]
    assert titles == [
        "Weight pruning: not zero",
        "Unit pruning: not zero",
        "Unit pruning: effective",
    ]
    cells = {(row["row"], row["place"]): row for row in figure.panels[1].all_rows}
    assert cells["hidden2", "99"]["text"] == "1.0"
    assert cells["output *", "99"]["value"] == 100
    effective = {(row["row"], row["place"]): row for row in figure.panels[2].all_rows}
    assert effective["hidden2", "50"]["value"] == 25
    assert "Layers marked * are kept out of pruning." in figure.caption


def test_unknown_connectivity_has_no_effective_panel(make_run: Any, forget: Any) -> None:
    levels = (0.3, 0.5, 0.9)
    made = make_run({("unit", level): [0.9, 0.8] for level in levels})
    records = {key: forget(one) for key, one in made.records.items()}
    figure = layer_figure(Results(made.study, records))
    assert figure is not None
    assert len(figure.panels) == 1
    assert "ffective" not in figure.caption


def test_one_level_puts_every_arm_beside_the_layers(make_run: Any) -> None:
    made = make_run(
        {
            ("dense", 0.0): [0.98, 0.97],
            ("weight", 0.9): [0.9, 0.8],
            ("random-weight", 0.9): [0.5, 0.4],
        }
    )
    figure = layer_figure(made.results)
    assert figure is not None
    (panel,) = figure.panels
    rows = {(row["row"], row["place"]): row["text"] for row in panel.rows[f"{panel.name}-0"]}
    assert len(rows) == 3 * 5
    assert (rows["Dense", "hidden1"], rows["Random weight pruning", "hidden1"]) == ("100", "10")
    assert panel.specification["title"] == "90% sparsity"
    classes = class_figure(made.results)
    assert classes is not None
    assert {row["row"] for row in classes.panels[0].all_rows} >= {"Weight pruning, 90% sparsity"}


def test_a_layer_has_one_row_though_it_is_excluded_at_some_levels_only(run: Any) -> None:
    figure = layer_figure(run.results)
    assert figure is not None
    for panel in figure.panels:
        assert len({row["row"] for row in panel.all_rows}) == 5
        last = {row["place"] for row in panel.all_rows if row["row"] == "output *"}
        assert {"0", "25", "99"} <= last


def test_arm_by_arm_no_other_network_stands_in_for_an_arm(make_run: Any) -> None:
    made = make_run({("dense", 0.0): [0.98, 0.97], ("weight", 0.9): [0.2, 0.3]})
    figure = class_figure(made.results)
    assert figure is not None
    rows = [row["row"] for row in figure.panels[0].all_rows]
    assert list(dict.fromkeys(rows)) == ["Dense", "Weight pruning, 90% sparsity"]


@pytest.mark.parametrize("percent", range(0, 101, 5))
def test_numbers_can_be_read_on_every_shade(percent: int) -> None:
    step, rest = divmod(percent, 20)
    ends = [rgb(SHADES[min(step + more, 5)]) for more in (0, 1)]
    shade = luminance([a + (b - a) * rest / 20 for a, b in zip(*ends, strict=True)])
    text = luminance(rgb("#ffffff" if percent > LIGHT else INK))
    low, high = sorted((shade, text))
    assert (high + 0.05) / (low + 0.05) > 3.9


def rgb(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def luminance(colour: list[float]) -> float:
    """Relative luminance, as the contrast of WCAG 2 has it."""
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
