from typing import Any

import pytest

from gossamer.records.record import Claim, ControlComparison
from gossamer.reporting.charts import NARROW
from gossamer.reporting.claims import judged_claims
from gossamer.reporting.claims_figure import (
    CONTROL,
    LETTER,
    PLACE_WIDTH,
    axis_title,
    claim_rows,
    claims_figure,
    panel_title,
)

CELLS = {
    ("dense", 0.0): [0.980, 0.981, 0.979, 0.980],
    ("weight", 0.5): [0.981, 0.981, 0.980, 0.981],
    ("weight", 0.9): [0.900, 0.905, 0.895, 0.901],
    ("unit", 0.5): [0.850, 0.851, 0.860, 0.852],
    ("unit", 0.9): [0.200, 0.210, 0.190, 0.200],
}


def claim(**given: Any) -> Claim:
    standard = {"name": "a", "text": "So.", "says": "higher", "compare": "weight", "margin": 0.005}
    return Claim(**{**standard, "against": ("unit",), **given})


def test_rows_are_the_judged_comparisons_in_points(make_run: Any) -> None:
    results = make_run(CELLS, claims=(claim(),)).results
    (judged,) = judged_claims(results)
    rows = claim_rows(results, judged)
    assert [row["place"] for row in rows] == ["50%", "90%"]
    for row, comparison in zip(rows, judged.comparisons, strict=True):
        interval = comparison.interval
        assert interval is not None
        assert interval.low is not None
        assert row["mean"] == pytest.approx(100 * interval.mean)
        assert row["low"] == pytest.approx(100 * interval.low)
        assert row["verdict"] == comparison.verdict == "supported"


def test_several_others_are_named_in_the_rows(make_run: Any) -> None:
    results = make_run(CELLS, claims=(claim(against=("unit", "dense"), levels=(0.5,)),)).results
    rows = claim_rows(results, judged_claims(results)[0])
    assert [row["place"] for row in rows] == ["unit pruning, 50%", "dense, 50%"] or [
        row["place"] for row in rows
    ] == ["Unit pruning, 50%", "Dense, 50%"]


def test_control_is_the_last_row(make_run: Any) -> None:
    control = ControlComparison(compare="weight", against="dense", text="Beside nothing pruned.")
    results = make_run(CELLS, claims=(claim(control=control),)).results
    rows = claim_rows(results, judged_claims(results)[0])
    assert [row["verdict"] for row in rows] == ["supported", "supported", CONTROL]


def test_margin_is_drawn_where_it_decides(make_run: Any) -> None:
    parity = claim(name="b", says="on-par", against=("dense",), levels=(0.5,), margin=0.02)
    results = make_run(CELLS, claims=(claim(), parity)).results
    figure = claims_figure(results, judged_claims(results))
    assert figure is not None
    guides = [[row["mean"] for row in panel.rows[f"{panel.name}-2"]] for panel in figure.panels]
    assert guides == [[0.5], [-2.0, 2.0]]
    assert [panel.name for panel in figure.panels] == ["claim-a", "claim-b"]
    assert figure.panels[0].specification["title"] == "(a) Weight pruning minus unit pruning"


def test_what_is_not_measured_has_no_panel(make_run: Any) -> None:
    results = make_run(CELLS, claims=(claim(against=("random-unit",)),)).results
    assert claims_figure(results, judged_claims(results)) is None


def test_one_seed_is_drawn_without_an_interval(make_run: Any) -> None:
    one = {cell: values[:1] for cell, values in CELLS.items()}
    results = make_run(one, claims=(claim(),)).results
    rows = claim_rows(results, judged_claims(results)[0])
    assert {(row["low"], row["high"], row["verdict"]) for row in rows} == {
        (None, None, "undecided")
    }


def test_axis_says_of_what_and_in_which_unit(make_run: Any) -> None:
    results = make_run(CELLS, claims=(claim(),)).results
    (panel,) = panels(results)
    assert titles(panel) == ["Difference in test accuracy (points)"]
    long = claim(measure="modified_entropy_curve_tpr@0.001")
    lines = axis_title(long, longest=30)
    assert isinstance(lines, list)
    assert " ".join(lines) == (
        "Difference in TPR on the ROC curve at 0.1% FPR of modified entropy attack by class "
        "(points)"
    )
    assert max(map(len, lines)) * LETTER <= NARROW - PLACE_WIDTH


def test_no_interval_and_no_margin_touches_the_edge(make_run: Any) -> None:
    parity = claim(says="on-par", against=("dense",), margin=0.9)
    for one in (claim(), parity, claim(compare="unit", against=("weight",))):
        results = make_run(CELLS, claims=(one,)).results
        (panel,) = panels(results)
        (low, high) = next(scale(layer)["domain"] for layer in layers(panel) if scale(layer))
        shown = [
            row[key]
            for row in panel.all_rows
            for key in ("low", "mean", "high")
            if row.get(key) is not None
        ]
        assert low < min(shown)
        assert max(shown) < high


def test_titles_say_at_what_a_comparison_is_made(make_run: Any) -> None:
    matched = claim(matched_on="effective_parameters")
    results = make_run(CELLS, claims=(matched,)).results
    assert panel_title(results, matched) == (
        "Weight pruning minus unit pruning at equal effective parameters"
    )
    at = claim(against=("weight",), levels=(0.5,), against_level=0.9)
    assert panel_title(results, at) == "Weight pruning minus weight pruning at 90%"
    connections = make_run({("weight", 20): [0.9], ("unit", 20): [0.8]}, axis="epsilon").results
    assert connections.short_place(20) == "epsilon 20"


def panels(results: Any) -> Any:
    figure = claims_figure(results, judged_claims(results))
    assert figure is not None
    return figure.panels


def layers(panel: Any) -> Any:
    return panel.specification["layer"]


def scale(layer: Any) -> Any:
    return layer["encoding"].get("x", {}).get("scale")


def titles(panel: Any) -> list[Any]:
    found = [layer["encoding"].get("x", {}).get("title") for layer in layers(panel)]
    return [title for title in found if title]
