import math
from typing import Any

import pytest

from gossamer.reporting.heat_figures import class_accuracies, layer_sparsities
from gossamer.reporting.results import Results
from gossamer.reporting.summaries import reaching


def test_layers_hold_masked_and_effective_sparsity(results: Results) -> None:
    rows = {(one.arm, one.level, one.layer): one for one in layer_sparsities(results)}
    hidden = rows["unit", 0.5, "hidden2.weight"]
    assert (hidden.masked, hidden.effective) == (0.5, 0.75)
    output = rows["unit", 0.5, "output.weight"]
    assert (output.prunable, output.masked, output.effective) == (False, 0.0, 0.5)
    assert rows["weight", 0.0, "hidden1.weight"].masked == 0.0
    assert len(rows) == (1 + 2 * 10 + 4 * 9) * 5


def test_unknown_connectivity_is_left_out(make_run: Any, forget: Any) -> None:
    made = make_run({("weight", 0.5): [0.9, 0.8], ("unit", 0.5): [0.9, 0.8]})
    unknown = {t.key for t in made.study.trials if t.arm == "weight" or t.seed == 1}
    records = {key: forget(one) if key in unknown else one for key, one in made.records.items()}
    results = Results(made.study, records)
    assert reaching(results, "weight", 0.5) is None
    assert reaching(results, "unit", 0.5) == 784_000 * 0.5 + 1_600_000 * 0.25 + 2_000 * 0.5
    rows = {(one.arm, one.layer): one for one in layer_sparsities(results)}
    weight, unit = rows["weight", "hidden2.weight"], rows["unit", "hidden2.weight"]
    assert (weight.masked, weight.effective) == (0.5, None)
    assert (unit.masked, unit.effective) == (0.5, 0.75)


def test_class_accuracies_are_means_over_seeds(run: Any, results: Results) -> None:
    keys = [t.key for t in run.study.trials if t.arm == "unit" and t.level == 0.7]
    row = next(
        one
        for one in class_accuracies(results)
        if (one.arm, one.level, one.class_index) == ("unit", 0.7, 3)
    )
    assert row.accuracy == pytest.approx(
        math.fsum(run.records[key].per_class["test"][3] for key in keys) / 5
    )
