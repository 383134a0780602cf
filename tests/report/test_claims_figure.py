from typing import Any

import pytest

from gossamer.records.record import Claim, ControlComparison
from gossamer.report.claims import judged_claims
from gossamer.report.claims_figure import CONTROL, claim_rows, claims_figure

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
