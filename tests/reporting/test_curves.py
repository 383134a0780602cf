import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gossamer.reporting.curves import (
    MOST_LINES,
    Chain,
    boundaries,
    chosen_chains,
    curve_figure,
    curve_points,
    curve_rows,
    epoch_ticks,
    histories,
    own_phases,
)
from gossamer.reporting.series import groups


def phases_of(run: Any, chains: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Make phases by name: the epoch before their first, and how many they have."""
    like = next(iter(run.phases.values()))
    found = {}
    for name, (start, count) in chains.items():
        history = tuple(
            like.history[0].model_copy(
                update={"epoch": start + i + 1, "train_loss": 1 / (start + i + 1)}
            )
            for i in range(count)
        )
        found[name] = like.model_copy(update={"key": name, "history": history})
    return found


def test_a_training_that_all_arms_share_is_one_line(run: Any) -> None:
    results = run.results
    (chain,) = chosen_chains(results, run.phases, results.study.arms)
    assert chain.arm == "dense"
    assert sorted(chain.phases) == [0, 1, 2, 3, 4]
    rows = curve_rows(results, run.phases, groups(results)[0], (chain,))
    assert {row["series"] for row in rows} == {"All arms"}


def test_points_are_mean_and_range_over_the_seeds(run: Any) -> None:
    (chain,) = chosen_chains(run.results, run.phases, run.study.arms)
    points = curve_points(histories(chain, run.phases))
    third = next(
        p for p in points if (p.part, p.quantity, p.epoch) == ("validation", "accuracy", 3)
    )
    values = [run.phases[keys[0]].history[2].validation_accuracy for keys in chain.phases.values()]
    assert third.mean == pytest.approx(sum(values) / 5)
    assert (third.lowest, third.highest) == (min(values), max(values))


def test_epochs_that_some_seed_lacks_are_not_averaged(run: Any) -> None:
    short = phases_of(run, {"a": (0, 4), "b": (0, 2)})
    points = curve_points({0: short["a"].history, 1: short["b"].history})
    assert {point.epoch for point in points} == {1, 2}


def test_what_a_mask_was_found_in_is_no_part_of_a_network(run: Any) -> None:
    found = phases_of(run, {"source": (0, 5), "first": (0, 3), "second": (3, 2)})
    assert own_phases(("source", "first", "second"), found) == ("first", "second")
    assert own_phases(("first", "second"), found) == ("first", "second")


def test_shared_beginnings_are_drawn_once(retrained: Any) -> None:
    results, phases = retrained.results, retrained.phases
    shown = chosen_chains(results, phases, results.study.arms)
    assert [(one.arm, one.level) for one in shown] == [("weight", 0.5), ("weight", 0.9)]
    rows = [
        row
        for row in curve_rows(results, phases, groups(results)[0], shown)
        if (row["part"], row["quantity"]) == ("training", "loss")
    ]
    epochs = {
        series: [row["epoch"] for row in some]
        for series, some in itertools.groupby(rows, key=lambda row: row["series"])
    }
    assert epochs == {
        "Weight pruning, 50% sparsity": list(range(1, 14)),
        "Weight pruning, 90% sparsity": [10, 11, 12, 13],
    }
    assert boundaries(shown, phases) == (10,)


def test_a_stopped_training_is_the_beginning_of_the_longer_one(run: Any, make_run: Any) -> None:
    cells = {("dense", 0.0): [0.9], ("weight", 0.0): [0.9]}
    made = make_run(cells, keep=("dense", "weight"))
    phases = phases_of(run, {"short": (0, 3), "long": (0, 8)})
    keys = {"dense": ("short",), "weight": ("long",)}
    trials = tuple(replace(t, phases=keys[t.arm]) for t in made.study.trials)
    study = made.study.model_copy(update={"trials": trials})
    results = type(made)(study, made.records, phases).results
    (chain,) = chosen_chains(results, phases, study.arms)
    assert chain == Chain("weight", 0.0, {0: ("long",)})


def test_no_more_lines_than_can_be_told_apart(run: Any, make_run: Any) -> None:
    levels = [round(0.1 * i, 1) for i in range(1, 10)]
    made = make_run({("dense", 0.0): [0.9], **{("weight", one): [0.9] for one in levels}})
    like = next(iter(made.phases.values()))
    phases, trials = dict(made.phases), []
    for trial in made.study.trials:
        name = f"more {trial.level}"
        history = tuple(
            epoch.model_copy(update={"epoch": epoch.epoch + 10, "train_loss": trial.level})
            for epoch in like.history
        )
        phases[name] = like.model_copy(update={"key": name, "history": history})
        more = (*trial.phases, name) if trial.level else trial.phases
        trials.append(replace(trial, phases=more))
    study = made.study.model_copy(update={"trials": tuple(trials)})
    results = type(made)(study, made.records, phases).results
    shown = chosen_chains(results, phases, study.arms)
    assert [one.level for one in shown] == [0.1, 0.4, 0.6, 0.9]
    assert len(shown) <= MOST_LINES
    figure = curve_figure(results)
    assert figure is not None
    assert len(figure.panels) == 2


@pytest.mark.parametrize("last", [1, 2, 3, 4, 10, 11, 17, 34, 200])
def test_ticks_are_whole_epochs_that_there_are(last: int) -> None:
    ticks = epoch_ticks(range(1, last + 1))
    assert min(last, 5) <= len(ticks) <= 10
    assert set(ticks) <= set(range(1, last + 1))
    assert len(set(itertools.starmap(int.__sub__, zip(ticks[1:], ticks, strict=False)))) <= 1


def test_the_axis_of_epochs_has_no_ticks_but_those(run: Any) -> None:
    figure = curve_figure(run.results)
    assert figure is not None
    epochs = {row["epoch"] for panel in figure.panels for row in panel.all_rows}
    axes = list(axes_of(figure.file_spec(""), "epoch"))
    assert axes
    assert all(axis["values"] == epoch_ticks(epochs) for axis in axes)


def axes_of(spec: Any, field: str) -> Iterator[dict[str, Any]]:
    """Return the axes along a field, wherever they stand in a specification."""
    if isinstance(spec, list):
        for part in spec:
            yield from axes_of(part, field)
    elif isinstance(spec, dict):
        if spec.get("field") == field and "axis" in spec:
            yield spec["axis"]
        for part in spec.values():
            yield from axes_of(part, field)
