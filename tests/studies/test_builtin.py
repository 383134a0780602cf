"""The built-in studies: each can be planned at every scale, and prints what was published."""

import os
from functools import cache, partial
from typing import Any, get_args

import numpy as np
import pytest

from gossamer.data import Dataset, load
from gossamer.measures import measure_named
from gossamer.recipes import DataSpec
from gossamer.recipes.steps import Train
from gossamer.records.canonical import key_of
from gossamer.studies.joint_measures import joint_tasks
from gossamer.studies.plan import arms_at, make_plan, study_trials
from gossamer.studies.preflight import preflight
from gossamer.studies.published_tables import published_figures
from gossamer.studies.spec import Scale, builtin_names, read_study
from gossamer.studies.tasks import dataset_of
from gossamer.studies.written_recipes import mentioned

SHAPES = {
    "mnist": (20_000, (1, 28, 28)),
    "fashion-mnist": (30_000, (1, 28, 28)),
    "cifar10": (5_000, (3, 32, 32)),
}
"""As many examples as the scales below paper take, and the shape of one."""
SCALES: list[tuple[str, Scale]] = [
    (name, scale) for name in builtin_names() for scale in read_study(name)[0].scales
]


@cache
def stand_in(name: str) -> Dataset:
    """Return noise of the shape of a published dataset, as its files may not be here."""
    if name == "digits":
        return load("digits")
    examples, shape = SHAPES[name]
    x = np.random.default_rng(len(name)).integers(0, 256, (examples, *shape), dtype=np.uint8)
    y = np.arange(examples) % 10
    return Dataset(name, x, y, x[:40], y[:40], classes=10, scale=255.0)


def datasets(data: DataSpec) -> Dataset:
    return stand_in(data.name)


@pytest.mark.parametrize("name", builtin_names())
def test_a_study_can_be_read_and_says_its_name(name: str) -> None:
    spec, text = read_study(name)
    assert spec.name == name
    assert f'name = "{name}"' in text
    assert [arm.name for arm in spec.arms if arm.role == "baseline"] == [spec.arms[0].name]
    assert spec.claims


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_every_recipe_fits_together_at_every_level(name: str, scale: Scale) -> None:
    spec, _ = read_study(name)
    values, levels = spec.scales[scale].values, spec.levels_at(scale)
    mentions: set[str] = set()
    for arm in arms_at(spec, scale):
        mentions |= mentioned([one.step for one in spec.steps_of(arm)])
        for level in levels:
            resolved = spec.recipe_of(arm, scale, level)
            assert any(isinstance(step, Train) for step in resolved)
    assert mentions <= {*values, spec.axis}


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_every_trial_is_planned_and_every_arm_compared(name: str, scale: Scale) -> None:
    spec, _ = read_study(name)
    trials = study_trials(spec, scale, 6, datasets, "cpu")
    plan = make_plan(trials, set(), set())
    assert {trial.arm for trial in trials} == {arm.name for arm in arms_at(spec, scale)}
    assert plan.trials_left == len({trial.keyed.record for trial in trials})
    assert plan.steps_shared <= plan.steps_alone
    done: set[str] = set()
    for training in plan.trainings:
        assert training.needs <= done
        done.add(training.key)
    for keyed in (trial.keyed for trial in trials):
        origin, steps = keyed.identity["origin"], keyed.identity["steps"]
        assert keyed.record == key_of(keyed.identity)
        parts = [{"origin": origin, "steps": steps[:count]} for count in range(len(steps) + 1)]
        assert keyed.states == tuple(map(key_of, parts))
    kinds = [task.kind for task in joint_tasks(spec, trials)]
    assert ("leakage" in kinds) == ("releases" in kinds) == (spec.leakage is not None)
    assert ("overlap" in kinds) == bool(spec.overlaps)


@pytest.mark.parametrize("name", builtin_names())
def test_a_larger_scale_trains_no_less(name: str) -> None:
    spec, _ = read_study(name)
    scales: list[Scale] = [scale for scale in get_args(Scale) if scale in spec.scales]
    steps = [
        make_plan(
            study_trials(spec, scale, spec.scales[scale].seeds, datasets, "cpu"), set(), set()
        ).steps_left
        for scale in scales
    ]
    assert steps == sorted(steps)


@pytest.mark.parametrize(("name", "scale"), [one for one in SCALES if one[1] != "paper"])
def test_every_pruning_of_a_shortened_study_can_be_done(name: str, scale: Scale) -> None:
    spec, _ = read_study(name)
    plan = make_plan(study_trials(spec, scale, 2, datasets, "cpu"), set(), set())
    preflight(spec, plan, datasets)


@pytest.mark.parametrize("name", builtin_names())
def test_seeds_come_in_pairs_where_leakage_is_measured(name: str) -> None:
    spec, _ = read_study(name)
    for scale in spec.scales.values():
        assert spec.leakage is None or scale.seeds % 2 == 0


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_the_real_data_suits_the_study(name: str, scale: Scale) -> None:
    if not os.environ.get("GOSSAMER_DATA"):
        pytest.skip("GOSSAMER_DATA names no folder of datasets")
    spec, _ = read_study(name)
    real = partial(dataset_of, root=None)
    for arm in arms_at(spec, scale):
        data = spec.data_of(arm, scale)
        found = real(data)
        assert found.input_shape == stand_in(data.name).input_shape
        assert len(found.y_train) >= (data.examples or 0)
    assert study_trials(spec, scale, 2, real, "cpu")


# What was published


PUBLISHED = [name for name in builtin_names() if published_figures(name) is not None]
CELLS: dict[str, dict[tuple[str, str, float], float]] = {
    "sparsity-leakage": {
        ("train_accuracy", "dense-whole", 0): 0.99348,
        ("test_accuracy", "dense-whole", 0): 0.9053,
        ("one_hot_attack_accuracy", "dense-whole", 0): 0.55310,
        ("train_accuracy", "weight-whole", 0.1): 0.99852,
        ("test_accuracy", "weight-whole", 0.3): 0.9139,
        ("one_hot_attack_accuracy", "weight-whole", 0.3): 0.57802,
        ("train_accuracy", "weight-whole", 0.9): 0.96562,
        ("test_accuracy", "weight-whole", 0.9): 0.8826,
        ("one_hot_attack_accuracy", "weight-whole", 0.9): 0.52043,
        ("train_accuracy", "cifar-dense-whole", 0): 0.99528,
        ("test_accuracy", "cifar-dense-whole", 0): 0.8131,
        ("one_hot_attack_accuracy", "cifar-dense-whole", 0): 0.59832,
        ("train_accuracy", "cifar-weight-whole", 0.5): 0.99918,
        ("test_accuracy", "cifar-weight-whole", 0.8): 0.7906,
        ("one_hot_attack_accuracy", "cifar-weight-whole", 0.3): 0.61835,
        ("one_hot_attack_accuracy", "cifar-weight-whole", 0.9): 0.53415,
    },
    "dense-sparse-dense": {
        ("train_accuracy", "dense-whole", 0): 0.9977,
        ("test_accuracy", "dense-whole", 0): 0.9089,
        ("one_hot_attack_accuracy", "dense-whole", 0): 0.5789,
        ("test_accuracy", "sparse-whole", 0.3): 0.9117,
        ("one_hot_attack_accuracy", "sparse-whole", 0.3): 0.5695,
        ("train_accuracy", "sparse-whole", 0.5): 0.9988,
        ("train_accuracy", "redense-whole", 0.3): 1.0,
        ("test_accuracy", "redense-whole", 0.5): 0.9161,
        ("one_hot_attack_accuracy", "redense-whole", 0.5): 0.5760,
    },
    "random-sparse-layers": {
        ("running_train_accuracy", "run-1-dense", 0): 0.8205,
        ("running_train_loss", "run-1-dense", 0): 0.5181,
        ("validation_accuracy", "run-1-dense", 0): 0.8552,
        ("validation_loss", "run-2-sparse-published", 0): 0.3727,
        ("test_accuracy", "run-1-dense", 0): 0.8658,
        ("test_loss", "run-1-dense", 0): 0.4207,
        ("running_train_accuracy", "run-1-sparse-vector", 0): 0.7938,
        ("test_accuracy", "run-1-sparse-vector", 0): 0.8400,
        ("test_loss", "run-1-sparse-vector", 0): 0.4804,
        ("running_train_loss", "run-2-dense", 0): 0.3214,
        ("validation_accuracy", "run-2-dense", 0): 0.8884,
        ("test_accuracy", "run-2-sparse-published", 0): 0.8456,
        ("test_loss", "run-2-sparse-published", 0): 0.4677,
    },
    "weight-vs-unit": {
        ("test_accuracy", "weight", 0): 0.9709,
        ("test_accuracy", "unit", 0): 0.9709,
        ("test_accuracy", "weight", 0.7): 0.6421,
        ("test_accuracy", "unit", 0.25): 0.8253,
        ("test_accuracy", "weight", 0.99): 0.0870,
        ("test_accuracy", "unit", 0.99): 0.0647,
    },
    "mask-transfer": {
        ("test_accuracy", "mnist-transferred-once", 0.975): 0.9923,
        ("test_accuracy", "mnist-random", 0.975): 0.9019,
        ("test_accuracy", "fashion-transferred-once", 0.975): 0.9248,
        ("test_accuracy", "fashion-random", 0.975): 0.7804,
        ("test_accuracy", "mnist-transferred-once", 0.92): 0.9917,
        ("test_accuracy", "fashion-random", 0.92): 0.8869,
        ("test_accuracy", "mnist-transferred-short-once", 0.92): 0.9909,
        ("test_accuracy", "fashion-transferred-short-once", 0.975): 0.9257,
    },
}
COUNTS = {
    "sparsity-leakage": 2 * 10 * 3,
    "dense-sparse-dense": 5 * 3,
    "random-sparse-layers": 4 * 6,
    "weight-vs-unit": 2 * 10,
    "mask-transfer": 6 * 2,
}


def table(name: str) -> dict[tuple[str, str, float], float]:
    published = published_figures(name)
    assert published is not None
    found = {(f.measure, f.arm, f.level): f.value for f in published.figures}
    assert len(found) == len(published.figures), "a cell is given twice"
    return found


def test_every_study_but_two_was_published() -> None:
    assert {*PUBLISHED} == {*builtin_names()} - {"demo", "method-zoo"} == {*CELLS}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures_are_as_printed(name: str) -> None:
    found = table(name)
    assert len(found) == COUNTS[name]
    cells = {cell: found[cell] for cell in CELLS[name]}
    assert cells == pytest.approx(CELLS[name], abs=1e-12)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures_are_about_trials_of_the_study(name: str) -> None:
    spec, _ = read_study(name)
    arms = {arm.name: arm for arm in spec.arms}
    for measure, arm, level in table(name):
        assert measure_named(measure)
        assert "paper" in arms[arm].scales
        over_grid = spec.varies(arms[arm])
        unpruned: Any = name == "weight-vs-unit"  # its table has a column without pruning
        assert level in (spec.levels_at("paper") if over_grid else (0,)) or (unpruned and not level)


def test_published_figures_stand_beside_the_nearest_arm_that_is_run() -> None:
    everything = published_figures("sparsity-leakage")
    few = published_figures("sparsity-leakage", ["dense", "weight"])
    assert everything is not None
    assert few is not None
    assert everything.note == ""
    assert "half of a smaller pool" in few.note
    found = {(f.arm, f.measure, f.level): f.value for f in few.figures}
    assert found["weight", "test_accuracy", 0.9] == 0.8826
    assert found["dense", "one_hot_attack_accuracy", 0.0] == 0.5531
    assert found["cifar-weight-whole", "test_accuracy", 0.9] == 0.7347
    whole = published_figures("sparsity-leakage", ["weight", "weight-whole"])
    assert whole is not None
    assert "weight" not in {figure.arm for figure in whole.figures}
