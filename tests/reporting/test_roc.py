from typing import Any

import pytest

from gossamer.reporting.charts import Panel
from gossamer.reporting.leakage_figures import Curve, lowest_rate, roc_panel, roc_rows


@pytest.fixture(scope="module")
def curves(make_leakage: Any) -> list[Curve]:
    leakage = make_leakage(1.0)
    return [Curve(one.label, one) for one in leakage.attacks if one.roc]


def test_rows_are_the_points_that_log_axes_can_show(curves: list[Curve]) -> None:
    floor = lowest_rate(curves)
    assert floor == pytest.approx(min(p.fpr for c in curves for p in c.attack.roc))
    rows = roc_rows(curves)
    kept = sum(p.tpr >= floor for c in curves for p in c.attack.roc)
    assert len(rows) == kept > 100
    for row in rows:
        assert floor <= row["fpr"] <= 1
        assert floor <= row["tpr"] <= 1
        assert row["low"] is None or floor <= row["low"] <= row["high"] <= 1


def test_panel_has_log_axes_and_the_diagonal(curves: list[Curve]) -> None:
    panel = roc_panel(Panel("roc"), curves)
    layers = panel.specification["layer"]
    scales = [
        layer["encoding"][axis]["scale"]["type"]
        for layer in layers
        for axis in ("x", "y")
        if "scale" in layer["encoding"].get(axis, {})
    ]
    assert set(scales) == {"log"}
    floor = lowest_rate(curves)
    diagonal = [{"fpr": floor, "tpr": floor}, {"fpr": 1.0, "tpr": 1.0}]
    assert diagonal in panel.rows.values()
