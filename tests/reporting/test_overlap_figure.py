from typing import Any

import numpy as np
import pytest

from gossamer.records.joint import JointRecord
from gossamer.records.record import Layer
from gossamer.reporting.heat_figures import WHOLE, chance_overlap, overlap_figure, overlaps
from gossamer.reporting.results import Results
from gossamer.stats.intervals import mean_interval


@pytest.fixture
def compared(make_run: Any) -> Results:
    made = make_run({("weight", 0.5): [0.9, 0.8], ("unit", 0.5): [0.9, 0.8]})
    keys = {
        arm: tuple(t.key for t in made.study.trials if t.arm == arm) for arm in ("weight", "unit")
    }
    joint = JointRecord(
        key="overlap",
        kind="overlap",
        records=keys["weight"],
        others=keys["unit"],
        measures={
            key: {
                "mask_overlap": 0.4 + shift,
                "mask_overlap_by_chance": 0.33,
                "mask_overlap:hidden1.weight": 0.5,
            }
            for key, shift in zip(keys["weight"], (0.0, 0.02), strict=True)
        },
        seconds=1.0,
        environment=next(iter(made.records.values())).environment,
    )
    return Results(made.study, made.records, (joint,), made.phases)


def test_overlap_is_a_mean_over_seeds_beside_chance(compared: Results) -> None:
    (pair,) = overlaps(compared)
    assert (pair.first, pair.second, pair.level) == ("weight", "unit", 0.5)
    whole, layer = pair.layers
    assert whole.layer == WHOLE
    assert whole.chance == pytest.approx(0.33)
    expected = mean_interval([0.4, 0.42])
    assert (whole.measured.mean, whole.measured.low) == pytest.approx((expected.mean, expected.low))
    assert layer.chance == pytest.approx(0.25 / 0.75)


def test_chance_is_what_random_masks_share() -> None:
    first, second = (
        Layer(name="x", shape=(400, 50), prunable=True, weights=20_000, nonzero=n, effective=None)
        for n in (2_000, 10_000)
    )
    generator = np.random.default_rng(0)
    masks = [generator.permutation(20_000) < layer.nonzero for layer in (first, second)]
    drawn = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert chance_overlap(first, second) == pytest.approx(drawn, abs=0.01)


def test_figure_has_a_panel_a_pair(compared: Results, run: Any) -> None:
    figure = overlap_figure(compared)
    assert figure is not None
    (panel,) = figure.panels
    assert panel.specification["title"] == "Weight pruning and unit pruning"
    assert [row["layer"] for row in panel.rows["overlap-0-0"]] == [WHOLE, "hidden1"]
    assert overlap_figure(run.results) is None


def test_pairs_of_another_study_are_left_out(compared: Results) -> None:
    other = compared.joints[0].model_copy(update={"others": ("elsewhere",)})
    assert overlaps(Results(compared.study, compared.records, (other,))) == ()
