from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gossamer.records.record import Arm
from gossamer.reporting.answer import answer, contrast
from gossamer.reporting.results import Results
from paired_differences import paired_difference

BASE = [0.981, 0.982, 0.980]


def shifted(by: float, values: Sequence[float] = BASE) -> list[float]:
    return [round(value - by, 6) for value in values]


def said(made: Any, records: Any = None) -> tuple[str, str]:
    found = answer(Results(made.study, made.records if records is None else records))
    return found.first, found.second


@pytest.fixture
def two_arms(make_run: Any) -> Any:
    return make_run(
        {
            ("dense", 0.0): BASE,
            ("weight", 0.25): shifted(0.001),
            ("weight", 0.5): shifted(0.004),
            ("weight", 0.8): [0.60, 0.64, 0.62],
            ("unit", 0.25): shifted(0.003),
            ("unit", 0.5): [0.60, 0.62, 0.61],
            ("unit", 0.8): [0.45, 0.50, 0.46],
        }
    )


def test_both_sentences(two_arms: Any) -> None:
    assert said(two_arms) == (
        "The unpruned network reaches 98.1 ± 0.2% on the test set; on average within half a point "
        "of it, weight pruning goes to 50% sparsity (0.40 [0.39, 0.41] points below it) and unit "
        "pruning to 25% sparsity (0.30 [0.29, 0.31] points below it).",
        "The two differ most at 50% sparsity: weight pruning reaches 97.7% and unit pruning "
        "61.0%, a paired difference of 36.7 [32.5, 40.9] points over 3 seeds.",
    )


def test_picked_difference_has_a_simultaneous_interval(two_arms: Any) -> None:
    results = Results(two_arms.study, two_arms.records)
    found = contrast(results)
    assert found is not None
    assert found.searched == 3
    ours, theirs = (list(results.values(arm, 0.5).values()) for arm in ("weight", "unit"))
    assert found.difference == paired_difference(ours, theirs, 1 - 0.05 / 3)
    assert answer(results).note == (
        "Means over seeds with 95% Student-t intervals, each for its own level alone; the "
        "difference is the largest of 3, and its [ , ] a simultaneous 95% interval (Bonferroni)."
    )


def test_interval_stays_within_what_accuracies_can_differ(make_run: Any) -> None:
    made = make_run({("dense", 0.0): BASE, ("weight", 0.5): [0.9, 0.9], ("unit", 0.5): [0.1, 0.4]})
    assert "65.0 [−100.0, 100.0] points over 2 seeds" in said(made)[1]


@pytest.fixture
def retrained_arm(make_run: Any, longer: tuple[Arm, ...]) -> Any:
    made = make_run(
        {
            ("dense", 0.0): BASE,
            ("weight", 0.5): shifted(0.001),
            ("weight", 0.9): shifted(0.2),
            ("retrained", 0.5): shifted(-0.009),
            ("retrained", 0.9): shifted(0.001),
            ("dense-longer", 0.0): shifted(-0.01),
        },
        arms=longer,
    )
    trials = tuple(
        replace(trial, optimizer_steps=7_800) if trial.arm == "retrained" else trial
        for trial in made.study.trials
    )
    return replace(made, study=made.study.model_copy(update={"trials": trials}))


def test_arm_that_trains_longer_is_held_against_an_unpruned_one_that_does(
    retrained_arm: Any,
) -> None:
    assert said(retrained_arm)[0] == (
        "The unpruned network reaches 98.1 ± 0.2% on the test set; on average within half a point "
        "of it, weight pruning goes to 50% sparsity (0.10 [0.09, 0.11] points below it) and "
        "retraining to 50% sparsity (0.10 [0.09, 0.11] points below an unpruned network trained "
        "as long, 99.1 ± 0.2%)."
    )


def test_arm_that_trains_longer_than_any_unpruned_one_is_said_to(retrained_arm: Any) -> None:
    study = retrained_arm.study
    trials = tuple(trial for trial in study.trials if trial.arm != "dense-longer")
    arms = study.arms[:-1]
    alone = replace(retrained_arm, study=study.model_copy(update={"trials": trials, "arms": arms}))
    assert said(alone)[0].endswith(
        "and retraining to 90% sparsity (0.10 [0.09, 0.11] points below it, after more training; "
        "the highest level tried)."
    )


def test_a_level_beyond_a_failed_one_does_not_count(make_run: Any) -> None:
    made = make_run(
        {
            ("dense", 0.0): BASE,
            ("weight", 0.25): shifted(0.006),
            ("weight", 0.5): shifted(0.001),
        }
    )
    first, _ = said(made)
    assert first.endswith(
        "; weight pruning is 0.60 [0.59, 0.61] points below it already at 25% sparsity, its lowest "
        "level."
    )


def test_one_goes_and_one_does_not(make_run: Any) -> None:
    made = make_run(
        {
            ("dense", 0.0): BASE,
            ("weight", 0.25): shifted(-0.001),
            ("unit", 0.25): shifted(0.2),
        }
    )
    first, second = said(made)
    assert first == (
        "The unpruned network reaches 98.1 ± 0.2% on the test set; on average within half a point "
        "of it, weight pruning goes to 25% sparsity (0.10 [0.09, 0.11] points above it; the "
        "highest level tried); unit pruning is 20.00 [19.99, 20.01] points below it already at 25% "
        "sparsity, its lowest level."
    )
    assert "weight pruning reaches 98.2% and unit pruning 78.1%" in second


def test_one_seed_gives_numbers_without_intervals(make_run: Any) -> None:
    made = make_run(
        {("dense", 0.0): [0.981], ("weight", 0.5): [0.979], ("unit", 0.5): [0.61]},
    )
    found = answer(Results(made.study, made.records))
    assert found.first == (
        "The unpruned network reaches 98.1% on the test set; on average within half a point of it, "
        "weight pruning goes to 50% sparsity (0.20 points below it; the highest level tried); unit "
        "pruning is 37.10 points below it already at 50% sparsity, its lowest level."
    )
    assert found.second == (
        "The two differ most at 50% sparsity: weight pruning reaches 97.9% and unit pruning "
        "61.0%, a difference of 36.9 points with one seed."
    )
    assert found.note.startswith("One seed gives a number, never a verdict")


def test_half_finished_run_says_how_far_it_got(two_arms: Any) -> None:
    done = {
        trial.key: two_arms.records[trial.key]
        for trial in two_arms.study.trials
        if trial.level <= 0.25 or (trial.arm == "unit" and trial.level == 0.5)
    }
    first, second = said(two_arms, done)
    assert "[0.09, 0.11] points below it; the highest level done so far) and unit" in first
    assert first.endswith("and unit pruning to 25% sparsity (0.30 [0.29, 0.31] points below it).")
    assert second.startswith("The two differ most at 25% sparsity:")


def test_contrast_prefers_the_levels_with_most_seeds(two_arms: Any) -> None:
    lone = [
        trial.key
        for trial in two_arms.study.trials
        if trial.level == 0.5 and trial.arm == "unit" and trial.seed > 0
    ]
    done = {key: one for key, one in two_arms.records.items() if key not in lone}
    assert said(two_arms, done)[1].startswith("The two differ most at 80% sparsity:")


def test_one_main_arm_is_held_against_the_baseline(make_run: Any) -> None:
    made = make_run(
        {("dense", 0.0): BASE, ("weight", 0.5): shifted(0.001), ("weight", 0.9): shifted(0.3)},
        keep=("dense", "weight"),
    )
    assert said(made)[1] == (
        "Weight pruning and the unpruned network differ most at 90% sparsity: the unpruned network "
        "reaches 98.1% and weight pruning 68.1%, a paired difference of 30.0 [30.0, 30.0] points "
        "over 3 seeds."
    )


def test_small_contrast_is_not_sold_as_one(make_run: Any) -> None:
    made = make_run(
        {("dense", 0.0): BASE, ("weight", 0.5): [0.98, 0.97], ("unit", 0.5): [0.97, 0.979]},
    )
    assert said(made)[1].endswith(" points over 2 seeds, which these seeds cannot tell from none.")


def test_no_main_arm(make_run: Any) -> None:
    made = make_run({("dense", 0.0): BASE}, keep=("dense",))
    assert said(made) == (
        "The unpruned network reaches 98.1 ± 0.2% on the test set; the study has no pruned arm "
        "to hold against it.",
        "",
    )


def test_no_baseline(make_run: Any) -> None:
    made = make_run(
        {("weight", 0.5): [0.9, 0.91], ("unit", 0.5): [0.5, 0.52]}, keep=("weight", "unit")
    )
    first, second = said(made)
    assert first == "The study has no unpruned network, so what pruning costs cannot be said."
    assert second.startswith("The two differ most at 50% sparsity: weight pruning reaches 90.5%")


def test_one_arm_without_baseline(make_run: Any) -> None:
    made = make_run({("weight", 0.5): [0.9, 0.91]}, keep=("weight",))
    assert said(made)[1] == "With one arm alone there is nothing to compare it with."


def test_baseline_alone_done_so_far(two_arms: Any) -> None:
    done = {t.key: two_arms.records[t.key] for t in two_arms.study.trials if t.arm == "dense"}
    assert said(two_arms, done) == (
        "The unpruned network reaches 98.1 ± 0.2% on the test set; no pruned network is measured "
        "beside it yet.",
        "No two arms are measured at the same level and seed yet, so none can be compared.",
    )


def test_baseline_not_done_yet(two_arms: Any) -> None:
    done = {t.key: two_arms.records[t.key] for t in two_arms.study.trials if t.arm != "dense"}
    assert said(two_arms, done)[0] == (
        "The unpruned network is not measured yet, so what pruning costs cannot be said."
    )


def test_nothing_done(two_arms: Any) -> None:
    assert said(two_arms, {}) == ("No trial is done yet, so there is nothing to say.", "")


def plain(name: str, role: str = "main", **given: str) -> Arm:
    """Make an arm without a grid; its recipe says no more than its name."""
    setting = {"dataset": "mnist", "network": "cnn", **given}
    borrowed = ({"step": "transfer", "source": name},) if role != "baseline" else ()
    recipe = (*borrowed, {"step": "train"})
    return Arm(name=name, label=name.capitalize(), role=role, recipe=recipe, **setting)


def test_study_without_a_grid(make_run: Any) -> None:
    arms = (plain("dense", "baseline"), plain("transferred"), plain("random"))
    cells = {
        ("dense", 0.0): BASE,
        ("transferred", 0.0): shifted(0.002),
        ("random", 0.0): shifted(0.1),
    }
    assert said(make_run(cells, arms=arms)) == (
        "The unpruned network reaches 98.1 ± 0.2% on the test set; transferred (0.20 [0.19, 0.21] "
        "points below it) is on average within half a point of it; random is 10.00 [9.99, 10.01] "
        "points below it.",
        "Transferred reaches 97.9% and random 88.1%, a paired difference of 9.8 [9.8, 9.8] points "
        "over 3 seeds.",
    )


def test_study_without_a_grid_and_with_more_arms(make_run: Any) -> None:
    names = ("first", "second", "third")
    arms = (plain("dense", "baseline"), *map(plain, names))
    cells = {("dense", 0.0): BASE, **{(name, 0.0): shifted(0.001) for name in names}}
    first, second = said(make_run(cells, arms=arms))
    assert first.endswith(
        " and third (0.10 [0.09, 0.11] points below it) are on average within half a point of it."
    )
    assert second.startswith("The largest contrast: ")


def test_arm_without_a_grid_beside_one_with(make_run: Any, longer: tuple[Arm, ...]) -> None:
    setting = {"dataset": longer[0].dataset, "network": longer[0].network}
    arms = (*longer[:2], plain("moved", **setting))
    cells = {("dense", 0.0): BASE, ("weight", 0.5): shifted(0.2), ("moved", 0.0): shifted(0.001)}
    assert said(make_run(cells, arms=arms))[0].endswith(
        "; moved (0.10 [0.09, 0.11] points below it, trained in another way) is on average within "
        "half a point of it; weight pruning is 20.00 [19.99, 20.01] points below it already at 50% "
        "sparsity, its lowest level."
    )


def test_arms_of_another_dataset_are_not_held_against_the_unpruned_network(make_run: Any) -> None:
    arms = (
        plain("dense", "baseline"),
        plain("near"),
        plain("far", dataset="fashion-mnist"),
        plain("wide", network="wide-cnn"),
    )
    cells = {("dense", 0.0): BASE, ("near", 0.0): BASE, ("far", 0.0): BASE, ("wide", 0.0): BASE}
    first, second = said(make_run(cells, arms=arms))
    assert first.endswith(
        "; near (0.00 [−0.01, 0.01] points from it) is on average within half a point of it."
    )
    assert second.startswith("No two arms are measured at the same level and seed yet")
    alone = {key: values for key, values in cells.items() if key[0] in ("dense", "far")}
    assert said(make_run(alone, arms=(arms[0], arms[2]))) == (
        "The unpruned network reaches 98.1 ± 0.2% on the test set; the study has no pruned arm "
        "to hold against it.",
        "With one arm alone there is nothing to compare it with.",
    )


def test_pairs_of_seeds_are_counted_as_such(make_run: Any) -> None:
    base = [0.981, 0.982, 0.980, 0.979]
    cells = {("dense", 0.0): base, ("weight", 0.5): shifted(0.02, base)}
    made = make_run(cells, keep=("dense", "weight"), paired=True)
    found = answer(Results(made.study, made.records))
    assert found.second.endswith(" points over 2 pairs of seeds.")
    assert found.note.startswith("Means over pairs of seeds with 95% Student-t intervals")
    lone = make_run(
        {key: values[:2] for key, values in cells.items()}, keep=("dense", "weight"), paired=True
    )
    found = answer(Results(lone.study, lone.records))
    assert found.second.endswith(" a difference of 2.0 points with one pair of seeds.")
    assert found.note.startswith("One pair of seeds gives a number, never a verdict")


def many_arms(make_run: Any, arms: Sequence[Arm], losses: Sequence[float]) -> Any:
    """Make a study of one level whose pruned arms lose so much."""
    dense, weight = arms[:2]
    pruned = [
        weight.model_copy(update={"name": f"way-{i}", "label": f"Way {i}"})
        for i in range(len(losses))
    ]
    cells = {(one.name, 0.9): shifted(by) for one, by in zip(pruned, losses, strict=True)}
    return make_run({("dense", 0.0): BASE, **cells}, (dense, *pruned))


def test_of_many_arms_only_the_extremes_are_named(make_run: Any, longer: tuple[Arm, ...]) -> None:
    reaches = "The unpruned network reaches 98.1 ± 0.2% on the test set; "
    first, _ = said(many_arms(make_run, longer, [0.03, 0.02, 0.05, 0.04]))
    assert first == reaches + (
        "none of the 4 pruned arms is on average within half a point of it: the nearest is way 1 "
        "at 90% sparsity (2.00 [1.99, 2.01] points below it), the farthest way 2 at 90% sparsity "
        "(5.00 [4.99, 5.01] points below it)."
    )
    first, _ = said(many_arms(make_run, longer, [0.001, 0.02, 0.05, 0.04]))
    assert first == reaches + (
        "1 of the 4 pruned arms is on average within half a point of it: way 0 at 90% sparsity "
        "(0.10 [0.09, 0.11] points below it; the highest level tried); of the others way 1 at 90% "
        "sparsity (2.00 [1.99, 2.01] points below it) is the nearest and way 2 at 90% sparsity "
        "(5.00 [4.99, 5.01] points below it) the farthest."
    )
    first, _ = said(many_arms(make_run, longer, [0.001, 0.002, 0.003, 0.004, 0.05]))
    assert first.startswith(
        f"{reaches}4 of the 5 pruned arms are on average within half a point of it: among them "
        "way 0 at 90% sparsity (0.10 [0.09, 0.11] points below it; the highest level tried), way 1 "
    )
    assert first.endswith(
        "the other one is way 4 at 90% sparsity (5.00 [4.99, 5.01] points below it)."
    )
