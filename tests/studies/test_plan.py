"""Plans: what is shared, what is left, in which order."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.data import load
from gossamer.networks import NetworkSpec
from gossamer.recipes import (
    DataSpec,
    Pack,
    Prune,
    Regrow,
    Rewind,
    Train,
    Transfer,
    Trial,
    keyed,
)
from gossamer.recipes.steps import Source, Step
from gossamer.studies.plan import (
    Measuring,
    PlannedTrial,
    Training,
    chosen_scale,
    make_plan,
    study_trials,
)
from gossamer.studies.run import Request, prepare
from gossamer.studies.spec import read_study

DIGITS = load("digits")


def planned(steps: tuple[Any, ...], seed: int = 0) -> PlannedTrial:
    trial = Trial(DataSpec(name="digits"), NetworkSpec(name="mlp", hidden=(4,)), seed, steps)
    return PlannedTrial("arm", 0.0, keyed(trial, DIGITS))


def train_prune_train(levels: int, epochs: int) -> list[PlannedTrial]:
    dense = planned((Train(epochs=epochs, batch=32),))
    return [dense] + [
        planned(
            (
                Train(epochs=epochs, batch=32),
                Prune(sparsity=level / 10),
                Train(epochs=epochs, batch=32),
            )
        )
        for level in range(1, levels + 1)
    ]


def test_nine_sparsities_share_one_dense_training() -> None:
    """Study 1's recipe: 50 epochs dense, then 9 times 50 epochs; alone it is 50 + 9 * 100."""
    plan = make_plan(train_prune_train(9, 50), set(), set())
    steps_an_epoch = -(-len(DIGITS.y_train) // 32)
    assert plan.steps_shared == 10 * 50 * steps_an_epoch
    assert plan.steps_alone == (50 + 9 * 100) * steps_an_epoch
    assert plan.steps_alone / plan.steps_shared == pytest.approx(1.9)
    assert len(plan.trainings) == 10
    assert plan.steps_left == plan.steps_shared


def test_weight_against_unit_pruning_trains_once_a_seed() -> None:
    spec, _ = read_study("weight-vs-unit")
    images = replace(DIGITS, name="stand-in")
    trials = study_trials(spec, "paper", 5, lambda _: images, "cpu")
    plan = make_plan(trials, set(), set())
    assert len(trials) == 5 * (1 + 6 * 9)
    assert len(plan.trainings) == 5
    assert plan.steps_alone == 55 * plan.steps_shared


def test_nothing_is_left_once_every_record_is_there() -> None:
    trials = train_prune_train(3, 2)
    plan = make_plan(trials, set(), {trial.keyed.record for trial in trials})
    assert plan.tasks == ()
    assert plan.steps_left == plan.trials_left == 0


def test_a_done_state_is_not_trained_again_and_a_recorded_trial_needs_no_state() -> None:
    trials = train_prune_train(2, 2)
    dense, first, second = (trial.keyed for trial in trials)
    plan = make_plan(trials, {dense.phases[0], first.phases[1]}, {first.record})
    assert [training.key for training in plan.trainings] == [second.phases[1]]
    assert {t.record for m in plan.measurings for t in m.trials} == {dense.record, second.record}
    assert plan.trainings[0].needs == {dense.phases[0]}


def test_a_lost_dense_state_is_not_needed_where_a_later_one_is_there() -> None:
    (_, first) = train_prune_train(1, 2)
    plan = make_plan([first], {first.keyed.phases[1]}, set())
    assert plan.trainings == ()
    assert plan.measurings[0].needs == {first.keyed.phases[1]}


def test_a_rewind_needs_the_state_that_it_goes_back_to() -> None:
    steps = (
        Train(epochs=1, batch=32),
        Train(epochs=1, batch=32),
        Prune(sparsity=0.5),
        Rewind(to=1),
        Train(epochs=1, batch=32),
    )
    trial = planned(steps)
    plan = make_plan([trial], {trial.keyed.states[2]}, set())
    assert [training.position for training in plan.trainings] == [0, 4]
    assert plan.trainings[-1].needs == {trial.keyed.states[2], trial.keyed.states[1]}


def lending(*after: Pack | Train, epochs: int = 1, **choices: Any) -> PlannedTrial:
    """A trial that borrows its mask from one that is trained."""
    source = Source(recipe=(Train(epochs=epochs, batch=32), Prune(sparsity=0.5)))
    return planned((Transfer(source=source, **choices), *after))


def test_a_source_is_trained_once_however_many_arms_borrow_from_it() -> None:
    train = Train(epochs=3, batch=32)
    trials = [
        lending(train),
        lending(train, shuffle="layer"),
        lending(train, shuffle="unit"),
        lending(train, enforce=False),
        lending(Pack(), train),
        lending(),
    ]
    source = trials[0].keyed.sources[0]
    plan = make_plan(trials, set(), set())
    assert {trial.keyed.sources[0].states for trial in trials} == {source.states}
    assert [training.key for training in plan.trainings].count(source.states[1]) == 1
    assert plan.trainings[0].key == source.states[1]
    assert plan.trainings[0].needs == frozenset()
    assert len(plan.trainings) == 1 + 5
    assert all(training.needs == {source.states[1]} for training in plan.trainings[1:])
    steps_an_epoch = -(-len(DIGITS.y_train) // 32)
    assert plan.steps_shared == (1 + 5 * 3) * steps_an_epoch
    assert plan.steps_alone == (6 * 1 + 5 * 3) * steps_an_epoch
    needed = {trial.record: task.needs for task in plan.measurings for trial in task.trials}
    assert needed[trials[5].keyed.record] == {source.states[1]}


def test_another_recipe_of_a_source_is_another_training() -> None:
    trials = [lending(Train(epochs=1, batch=32), epochs=epochs) for epochs in (1, 2)]
    assert len(make_plan(trials, set(), set()).trainings) == 4


def test_a_source_that_is_done_is_not_trained_again() -> None:
    trial = lending(Train(epochs=1, batch=32))
    source, own = trial.keyed.phases
    assert [t.key for t in make_plan([trial], {source}, set()).trainings] == [own]
    assert [t.key for t in make_plan([trial], {own}, set()).trainings] == []
    plan = make_plan([trial], {own}, set())
    assert plan.measurings[0].needs == {own}


def test_a_source_with_the_seed_of_the_trial_shares_its_training() -> None:
    recipe = (Train(epochs=1, batch=32), Prune(sparsity=0.5))
    ticket = planned((*recipe, Rewind(to=0), Train(epochs=1, batch=32)))
    lent = planned(
        (Transfer(source=Source(recipe=recipe, seed_offset=0)), Train(epochs=1, batch=32))
    )
    plan = make_plan([ticket, lent], set(), set())
    assert len(plan.trainings) == 3


@pytest.mark.parametrize("between", [(Regrow(),), (Pack(), Regrow()), (Rewind(to=0), Pack())])
def test_quick_steps_need_the_trainings_around_them(between: tuple[Any, ...]) -> None:
    train = Train(epochs=1, batch=32)
    trial = planned((train, Prune(sparsity=0.5), *between, train))
    plan = make_plan([trial], set(), set())
    assert [training.position for training in plan.trainings] == [0, 2 + len(between)]
    assert plan.trainings[1].needs == {trial.keyed.states[1]}


def test_leakage_is_measured_where_a_study_asks_for_it(write_study: Callable[..., Path]) -> None:
    def leaking(study: Path) -> set[bool]:
        trials = prepare(Request(study=str(study), folder=study.parent), None).plan.trials
        return {trial.keyed.trial.measure.leakage for trial in trials}

    assert leaking(write_study()) == {False}
    assert leaking(write_study(leaky=True)) == {True}


def test_every_training_comes_after_what_it_needs() -> None:
    lent = [lending(Train(epochs=n, batch=32)) for n in (1, 2)]
    plan = make_plan([*lent, *train_prune_train(5, 2)], set(), set())
    done: set[str] = set()
    for task in plan.tasks:
        assert task.needs <= done
        if isinstance(task, Training):
            done.add(task.key)
        else:
            assert isinstance(task, Measuring)


def test_a_scale_that_a_study_lacks_is_refused(study_file: Path) -> None:
    spec, _ = read_study(str(study_file))
    only_paper = spec.model_copy(update={"scales": {"paper": spec.scales["paper"]}})
    assert chosen_scale(only_paper, None)[0] == "paper"
    with pytest.raises(InputError, match="no scale 'quick', only paper"):
        chosen_scale(only_paper, "quick")


def test_more_seeds_keep_the_keys_of_fewer(study_file: Path, tmp_path: Path) -> None:
    few = prepare(Request(study=str(study_file), folder=tmp_path, seeds=1), None)
    many = prepare(Request(study=str(study_file), folder=tmp_path, seeds=3), None)
    keys = [trial.keyed.record for trial in many.plan.trials]
    assert [trial.keyed.record for trial in few.plan.trials] == keys[: len(few.plan.trials)]
    assert len(set(keys)) == len(keys)


def test_small_batches_get_one_thread_and_a_user_may_say_otherwise(
    study_file: Path, tmp_path: Path
) -> None:
    small = prepare(Request(study=str(study_file), folder=tmp_path), None)
    assert (small.jobs, small.threads) == (1, 1)
    asked = prepare(Request(study=str(study_file), folder=tmp_path, jobs=2, threads=3), None)
    assert (asked.jobs, asked.threads) == (2, 3)


def test_more_seeds_do_not_write_the_steps_of_a_recipe_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[Step] = []
    plain = Prune.keyed_for

    def counted(step: Prune, network: NetworkSpec) -> dict[str, Any]:
        written.append(step)
        return plain(step, network)

    monkeypatch.setattr(Prune, "keyed_for", counted)
    spec, _ = read_study("weight-vs-unit")
    images = replace(DIGITS, name="stand-in")
    counts = []
    for seeds in (1, 3):
        written.clear()
        study_trials(spec, "paper", seeds, lambda _: images, "cpu")
        counts.append(len(written))
    assert counts == [6 * 9, 6 * 9]


def test_a_file_that_changed_since_the_last_run_of_this_process_is_read_anew(
    write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = write_study(('"digits"', '"mine.npz"'), ("seeds = 2", "seeds = 1"))
    generator = np.random.default_rng(0)
    keys = []
    for examples in (60, 60, 40):
        images = generator.random((examples, 4), dtype=np.float32)
        labels = generator.integers(0, 3, examples)
        np.savez("mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
        plan = prepare(Request(study=str(study), folder=tmp_path), None).plan
        keys.append({trial.keyed.record for trial in plan.trials})
    assert not keys[0] & keys[1]
    assert not keys[1] & keys[2]
