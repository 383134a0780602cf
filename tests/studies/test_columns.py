"""The columns that small studies really write, and those that are documented: the same ones."""

import csv
from pathlib import Path

import pytest

from gossamer.leakage.attacks import attack_measures
from gossamer.measures import measure_named
from gossamer.measures import measures as all_measures
from gossamer.records.store import Store
from gossamer.reporting.columns import column_of, columns, headers, results_table
from gossamer.reporting.results import Results
from gossamer.studies import latencies
from gossamer.studies.published_tables import published_figures
from gossamer.studies.spec import builtin_names
from running_studies import run_all

ATTACKED = """
name = "attacked"
title = "Attacks, two overlaps of one mask, and one of another"
question = "Which columns does it write?"
leakage = "paired-halves"
measure = { also = ["one-hot attack"] }
overlaps = [["weight", "lent"], ["weight", "random"], ["random", "lent"]]

[data]
name = "digits"
examples = 240

[network]
name = "mlp"
hidden = [8]

[grid]
sparsity = [0.5]

[scales.quick]
seeds = 8

[parts]
training = [{ step = "train", epochs = 2, batch = 32, optimizer = { name = "adam", rate = 0.01 } }]

[sources.again]
recipe = ["training", { step = "prune", sparsity = 0.5 }]

[[arms]]
name = "dense"
label = "Unpruned"
role = "baseline"
recipe = ["training"]

[[arms]]
name = "weight"
label = "Weights"
recipe = ["training", { step = "prune", sparsity = "$sparsity" }]

[[arms]]
name = "lent"
label = "Borrowed mask"
data = { pool = "all" }
recipe = [{ step = "transfer", source = "again" }, "training"]

[[arms]]
name = "random"
label = "Random weights"
data = { pool = "all" }
recipe = ["training", { step = "prune", sparsity = "$sparsity", score = "random" }]
"""
PACKED = """
name = "packed"
title = "Packed layers, with data held out, timed"
question = "Which columns does it write?"
latency = { arms = ["sparse"], levels = [2], batch = 4 }

[data]
name = "digits"
examples = 240
validation = 0.2

[network]
name = "mlp"
hidden = [16]

[grid]
epsilon = [2, 4]

[scales.quick]
seeds = 1

[parts]
training = [{ step = "train", epochs = 2, batch = 32 }]

[[arms]]
name = "dense"
label = "Unpruned"
role = "baseline"
recipe = ["training"]

[[arms]]
name = "sparse"
label = "Random sparse"
recipe = [
  { step = "prune", score = "random", allocation = { name = "erdos-renyi", epsilon = "$epsilon" } },
  { step = "pack" },
  "training",
]
"""


def results_of(text: str, folder: Path) -> Results:
    """Run a study and return what the report makes of it."""
    folder.mkdir()
    (folder / "study.toml").write_text(text)
    run_all(folder / "study.toml", folder / "out")
    with Store.open(folder / "out") as store:
        study = store.latest_study()
        records = store.records([trial.key for trial in study.trials])
        phases = store.phases({key for trial in study.trials for key in trial.phases})
        joints = store.joints(study.joints)
    return Results(study, records, tuple(joints.values()), phases)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    folder = tmp_path_factory.mktemp("columns")
    with pytest.MonkeyPatch.context() as patch:  # what times are is of no matter here
        patch.setattr(latencies, "_SECONDS", 0.001)
        patch.setattr(latencies, "_CHOOSING_SECONDS", 0.001)
        packed = results_of(PACKED, folder / "packed")
    return {"attacked": results_of(ATTACKED, folder / "attacked"), "packed": packed}


def test_every_column_is_documented(written: dict[str, Results]) -> None:
    for results in written.values():
        header = headers(results)
        assert header == results_table(results).partition("\n")[0].split(",")
        assert [name for name in header if column_of(name) is None] == []
        assert len(header) == len(set(header))


def test_every_documented_column_can_appear(written: dict[str, Results]) -> None:
    seen = {name for results in written.values() for name in headers(results)}
    assert {column.name for column in columns()} == {
        column.name for name in seen if (column := column_of(name))
    }
    # Families of columns that one line documents are complete, too.
    assert {name for name in all_measures() if not name.startswith("mask_overlap")} <= seen
    assert set(attack_measures()) <= seen


def test_columns_are_empty_where_the_documentation_says(written: dict[str, Results]) -> None:
    for results in written.values():
        rows = list(csv.DictReader(results_table(results).splitlines()))
        for name in headers(results):
            column = column_of(name)
            assert column is not None
            if not column.empty:
                assert all(row[name] for row in rows), name
    filled = filled_arms(written["attacked"])
    assert filled["lira_online_auc"] == {"dense", "weight"}
    assert filled["joint_auc"] == {"weight"}
    assert filled["mask_overlap"] == filled["mask_overlap:dense1.weight"] == {"random"}
    assert filled["mask_overlap with lent"] == filled["mask_overlap with random"] == {"weight"}
    assert filled["running_train_loss"] == {"dense", "lent"}
    assert filled_arms(written["packed"])["latency"] == {"dense", "sparse"}


def filled_arms(results: Results) -> dict[str, set[str]]:
    """Return which arms have a value in each column."""
    rows = list(csv.DictReader(results_table(results).splitlines()))
    return {name: {row["arm"] for row in rows if row[name]} for name in rows[0]}


def test_overlaps_with_several_arms_are_told_apart(written: dict[str, Results]) -> None:
    results = written["attacked"]
    rows = list(csv.DictReader(results_table(results).splitlines()))
    arms = {trial.key: trial.arm for trial in results.study.trials}
    pairs = [joint for joint in results.joints if joint.kind == "overlap"]
    assert len(pairs) == 3
    for joint in pairs:
        other = arms[joint.others[0]]
        for key, measures in joint.measures.items():
            (row,) = (row for row in rows if row["key"] == key)
            name = "mask_overlap" if arms[key] == "random" else f"mask_overlap with {other}"
            assert float(row[name]) == measures["mask_overlap"]


def test_published_figures_are_of_documented_measures() -> None:
    published = [one for name in builtin_names() if (one := published_figures(name))]
    measures = {figure.measure for one in published for figure in one.figures}
    assert "test_accuracy" in measures
    for measure in measures:
        assert measure_named(measure)
        assert column_of(measure) is not None
