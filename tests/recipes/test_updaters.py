"""Trainings that change the mask on the way: gradual pruning, and an updater added by one class."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from gossamer.core.errors import InputError
from gossamer.data import Dataset
from gossamer.masks import NByM
from gossamer.networks import NetworkSpec
from gossamer.recipes import DataSpec, Pack, Prune, Regrow, Train, Trial, check_recipe, keyed
from gossamer.recipes.steps import any_step, expected_after, register
from gossamer.recipes.trial_runner import TrialRunner
from gossamer.records.store import Store
from gossamer.reporting.results import Results
from gossamer.studies.run import Request, carry_out, prepare
from gossamer.studies.schema import study_schema
from gossamer.training import Adadelta, Adam, AdamW, OptimizerOptions, Sgd
from gossamer.training.loop import Interrupted, Standing
from gossamer.training.updaters import SET, UPDATERS, Gradual, GraNet, Moment, RigL, SRigL, Updater

if TYPE_CHECKING:
    from gossamer.masks import Mask

MakeRunner = Callable[..., TrialRunner]
OPTIMIZERS: list[OptimizerOptions] = [
    Sgd(momentum=0.9, weight_decay=1e-3), Adam(weight_decay=0.01), AdamW(), Adadelta(),
]  # fmt: skip
GRADUAL = Gradual(final=0.75, start=3, every=2, updates=3, allocation="global")
"""60 examples in batches of 16 are four steps an epoch: the last update is after 9 of 12."""
seen: list[Moment] = []


class Mover(Updater):
    """Drop the smallest weight that is kept, and grow the pruned one of largest gradient."""

    version: ClassVar[int] = 1
    name: Literal["mover"] = "mover"

    def after_step(self, moment: Moment) -> "Mask | None":
        from gossamer.masks import Mask

        assert moment.mask is not None
        name, kept = next(iter(moment.mask.weights.items()))
        weight = moment.network.get_parameter(name).detach()
        gradient = moment.gradients()[name]
        drop = int(weight.abs().masked_fill(~kept, torch.inf).argmin())
        grow = int(gradient.abs().masked_fill(kept, -1).argmax())
        moved = kept.clone()
        moved.view(-1)[drop], moved.view(-1)[grow] = False, True
        moment.memory.setdefault("moves", torch.zeros(2, dtype=torch.int64))
        moment.memory["moves"] += torch.tensor([1, drop])
        moment.memory["last"] = torch.tensor([drop, grow])
        seen.append(replace(moment, memory=dict(moment.memory)))
        return Mask({**moment.mask.weights, name: moved})


MOVING: dict[str, Updater] = {
    "gradual": GRADUAL,
    "mover": Mover(),
    "set": SET(every=2),
    "rigl": RigL(every=2),
    "srigl": SRigL(every=2, salient=0.6),
    "granet": GraNet(final=0.75, initial=0.25, start=3, every=2, updates=3),
}


@pytest.fixture(autouse=True)
def mover() -> Iterator[None]:
    register(Mover)
    seen.clear()
    yield
    del UPDATERS["mover"]
    register()


def training(optimizer: OptimizerOptions = OPTIMIZERS[0], **others: Any) -> Train:
    return Train(**{"epochs": 3, "batch": 16, "optimizer": optimizer, **others})


def trial(*steps: Any, network: str = "mlp", **others: Any) -> Trial:
    spec = NetworkSpec(name="mlp", hidden=(16,)) if network == "mlp" else NetworkSpec(name=network)
    return Trial(DataSpec(name="points"), spec, steps=steps, **{"seed": 3, **others})


# The schedule


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 50), st.integers(1, 20), st.integers(1, 30))
def test_the_schedule_is_that_of_the_paper(
    one: float, other: float, start: int, every: int, updates: int
) -> None:
    initial, final = sorted((one, other))
    gradual = Gradual(initial=initial, final=final, start=start, every=every, updates=updates)
    for update in range(updates + 1):
        expected = final + (initial - final) * (1 - update / updates) ** 3
        assert gradual.sparsity(start + update * every) == pytest.approx(expected, abs=1e-12)
    values = [gradual.sparsity(step) for step in range(gradual.last + 3)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(initial)
    assert values[-1] == final
    linear = gradual.model_copy(update={"schedule": "linear"})
    rise = (final - initial) / (every * updates)
    for step in (start, start + 1, linear.last - 1, linear.last):
        assert linear.sparsity(step) == pytest.approx(initial + rise * (step - start), abs=1e-12)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"final": 0.5, "initial": 0.6, "updates": 1}, "sparsity can only rise to final"),
        ({"final": 1.5, "updates": 1}, "less than or equal to 1"),
        ({"final": 0.5, "updates": 0}, "greater than 0"),
        ({"final": 0.5}, "updates"),
        ({"updates": 3}, "final"),
        ({"final": 0.5, "updates": 1, "until": 3}, "until"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        training(updater={"name": "gradual", **values})


# Gradual pruning


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_after_each_update_exactly_the_scheduled_weights_are_zero(
    make_runner: MakeRunner,
    points: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: OptimizerOptions,
    allocation: Any,
) -> None:
    counts: dict[int, list[int]] = {}
    gone: list[list[torch.Tensor]] = []
    after_step = Gradual.after_step

    def watched(self: Gradual, moment: Moment) -> "Mask | None":
        weights = [p.detach() for p in moment.network.parameters() if p.dim() == 2]
        # Before the update: what the last one left, after further steps of the optimizer.
        counts[moment.step - 1] = [int((weight == 0).sum()) for weight in weights]
        gone.append([weight == 0 for weight in weights])
        return after_step(self, moment)

    monkeypatch.setattr(Gradual, "after_step", watched)
    updater = GRADUAL.model_copy(update={"allocation": allocation})
    found = keyed(trial(training(optimizer, updater=updater)), points)
    runner = make_runner(points)
    phase = runner.train(found, 0)
    state = runner.state(found, 1)
    assert phase.optimizer_steps == 12
    sizes = (96, 48)
    # Updates come after steps 3, 5, 7 and 9; the first is at the initial sparsity of 0.
    shares = {3: 0.0, 5: 0.75 * (1 - (2 / 3) ** 3), 7: 0.75 * (1 - (1 / 3) ** 3), 9: 0.75}
    for step in range(1, 12):
        share = shares[max((at for at in shares if at <= step), default=3)]
        if allocation == "global":
            assert sum(counts[step]) == round(share * 144), step
        else:
            assert counts[step] == [round(share * size) for size in sizes], step
    for earlier, later in pairwise(gone):
        assert all(bool((two | ~one).all()) for one, two in zip(earlier, later, strict=True))
    assert state.mask is not None
    assert state.mask.zeros == 108
    assert all(not state.network[name][~kept].any() for name, kept in state.mask.items())
    densities = [epoch.density for epoch in phase.history]
    pruned = [sum(counts[step]) for step in (4, 8)]
    assert densities == pytest.approx([1 - pruned[0] / 144, 1 - pruned[1] / 144, 0.25])
    measures = runner.measure(found).measures
    assert measures["sparsity"] == 0.75
    assert measures["sparsity_requested"] == 0.75


def test_what_was_pruned_before_stays_pruned(make_runner: MakeRunner, points: Dataset) -> None:
    before = Prune(sparsity=0.5, score="random")
    found = keyed(trial(before, training(updater=GRADUAL)), points)
    runner = make_runner(points)
    phase = runner.train(found, 1)
    first, last = runner.state(found, 1).mask, runner.state(found, 2).mask
    assert first is not None
    assert last is not None
    assert all(not last[name][~kept].any() for name, kept in first.items())
    assert [epoch.density for epoch in phase.history] == [0.5, pytest.approx(1 - 104 / 144), 0.25]


def test_an_excluded_layer_stays_whole(make_runner: MakeRunner, points: Dataset) -> None:
    updater = GRADUAL.model_copy(update={"exclude": ("output layer",)})
    found = keyed(trial(training(updater=updater)), points)
    runner = make_runner(points)
    runner.train(found, 0)
    mask = runner.state(found, 1).mask
    assert mask is not None
    assert list(mask.weights) == ["dense1.weight"]
    assert mask.zeros == round(0.75 * 96)


# Moving weights


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_grown_starts_from_zero_without_memory_and_learns(
    make_runner: MakeRunner,
    points: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: OptimizerOptions,
) -> None:
    grown: list[tuple[float, float, list[float]]] = []
    from gossamer.training.updating import Updating

    after_step = Updating.after_step

    def watched(self: Updating, step: int, gradients: Any) -> None:
        if seen:
            place = int(seen[-1].memory["last"][1])
            learnt.append(float(weight(self).view(-1)[place].detach()))
        after_step(self, step, gradients)
        drop, grow = seen[-1].memory["last"].tolist()
        parameter = weight(self)
        for place in (drop, grow):
            held = [
                float(value.view(-1)[place])
                for value in self._optimizer.state[parameter].values()
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape
            ]
            grown.append((float(parameter.detach().view(-1)[place]), len(held), held))

    def weight(updating: Updating) -> nn.Parameter:
        return updating._network.get_parameter("dense1.weight")

    learnt: list[float] = []
    monkeypatch.setattr(Updating, "after_step", watched)
    found = keyed(
        trial(Prune(sparsity=0.5, score="random"), training(optimizer, updater=Mover())), points
    )
    runner = make_runner(points)
    phase = runner.train(found, 1)
    assert len(grown) == 2 * 12
    for value, slots, held in grown:
        assert value == 0
        assert slots >= 1
        assert held == [0] * len(held)
    assert len(learnt) == 11
    assert all(learnt)  # after one more step each has a value
    first, last = runner.state(found, 1).mask, runner.state(found, 2).mask
    assert first is not None
    assert last is not None
    assert [epoch.density for epoch in phase.history] == [0.5] * 3
    assert last.zeros == first.zeros == 72
    assert first != last
    for before, after in pairwise(seen):
        assert before.mask is not None
        assert after.mask is not None
        changed = before.mask["dense1.weight"] ^ after.mask["dense1.weight"]
        assert int(changed.sum()) == 2
    assert seen[-1].memory["moves"][0] == 12


def test_gradients_are_those_of_the_dense_network_and_disturb_nothing(
    make_runner: MakeRunner, points: Dataset, home_made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Looker(Updater):
        """Look at the gradients, and change nothing."""

        version: ClassVar[int] = 1
        name: Literal["looker"] = "looker"

        def after_step(self, moment: Moment) -> None:
            before = {n: b.clone() for n, b in moment.network.named_buffers()}
            found.append(dict(moment.gradients()))
            again.append(dict(moment.gradients()))
            after = dict(moment.network.named_buffers())
            assert all(torch.equal(before[name], after[name]) for name in before)

    found: list[dict[str, torch.Tensor]] = []
    again: list[dict[str, torch.Tensor]] = []
    register(Looker)
    try:
        steps = (Prune(sparsity=0.5, score="random"), training(updater=Looker()))
        looked, plain = (
            keyed(trial(steps[0], step, network=f"{home_made}:dropout"), points)
            for step in (steps[1], training())
        )
        runner = make_runner(points)
        runner.train(looked, 1)
        runner.train(plain, 1)
    finally:
        del UPDATERS["looker"]
        register()
    first, second = runner.state(looked, 2), runner.state(plain, 2)
    assert all(torch.equal(first.network[n], second.network[n]) for n in first.network)
    mask = first.mask
    assert mask is not None
    assert len(found) == 12
    for one, other in zip(found, again, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)  # dropout drew the same
    assert all(bool(one[name][~mask[name]].any()) for one in found for name in mask.weights)


def test_gradients_are_those_by_hand(make_runner: MakeRunner, points: Dataset) -> None:
    found = keyed(
        trial(Prune(sparsity=0.5, score="random"), training(epochs=1, batch=60, updater=Mover())),
        points,
    )
    make_runner(points).train(found, 1)
    (moment,) = seen
    network = moment.network
    x, y = torch.tensor(points.x_train, dtype=torch.float64), torch.tensor(points.y_train)
    first, second = (
        network.get_parameter(f"{name}.weight").detach().double().requires_grad_()
        for name in ("dense1", "output")
    )
    loss = nn.functional.cross_entropy((x @ first.T).relu() @ second.T, y)
    expected, _ = torch.autograd.grad(loss, [first, second])
    found_now = moment.gradients()["dense1.weight"]
    torch.testing.assert_close(found_now.double(), expected, rtol=1e-5, atol=1e-6)


# Going on


class Stop:
    """A pulse that asks to stop at one of its calls."""

    def __init__(self, call: int) -> None:
        self.left = call

    def __call__(self, total: int, standing: Standing) -> bool:
        self.left -= 1
        return self.left == 0


@pytest.mark.usefixtures("look_at_every_batch")
@pytest.mark.parametrize(
    ("updater", "network"),
    [*((name, "mlp") for name in MOVING), ("gradual", "dropout"), ("rigl", "dropout")],
)
def test_going_on_from_any_batch_gives_the_same_bits(
    make_runner: MakeRunner,
    points: Dataset,
    home_made: str,
    tmp_path: Path,
    updater: str,
    network: str,
) -> None:
    steps = (Prune(sparsity=0.25, score="random"), training(Adam(), updater=MOVING[updater]))
    name = "mlp" if network == "mlp" else f"{home_made}:{network}"
    found = keyed(trial(*steps, network=name), points)
    calls = Stop(0)
    whole = make_runner(points, pulse=calls)
    phase, state = whole.train(found, 1), whole.state(found, 2)
    assert -calls.left >= 12
    for call in range(1, -calls.left + 1):
        folder = f"stopped-{call}"
        with pytest.raises(Interrupted):
            make_runner(points, folder, Stop(call)).train(found, 1)
        on = make_runner(points, folder)
        again, ended = on.train(found, 1), on.state(found, 2)
        assert [one.density for one in again.history] == [one.density for one in phase.history]
        assert ended.mask == state.mask, call
        for one, two in ((ended.network, state.network), (ended.optimizer, state.optimizer)):
            assert one.keys() == two.keys()
            assert all(torch.equal(one[name], two[name]) for name in one), call
        shutil.rmtree(tmp_path / folder)


def test_an_updaters_memory_goes_on(
    make_runner: MakeRunner, points: Dataset, look_at_every_batch: None
) -> None:
    found = keyed(trial(Prune(sparsity=0.5), training(updater=Mover())), points)
    make_runner(points).train(found, 1)
    whole = [moment.memory["moves"].tolist() for moment in seen]
    seen.clear()
    with pytest.raises(Interrupted):
        make_runner(points, "stopped", Stop(6)).train(found, 1)
    seen.clear()
    make_runner(points, "stopped").train(found, 1)
    assert 0 < len(seen) < 12
    assert [moment.memory["moves"].tolist() for moment in seen] == whole[-len(seen) :]


# Recipes


def test_steps_around_an_updater_know_of_its_mask() -> None:
    gradual = training(updater=GRADUAL)
    check_recipe([gradual, Pack(), training()], 0)
    check_recipe([gradual, Regrow(), training()], 0)
    check_recipe([Prune(sparsity=0.5), training(updater=Mover())], 0)
    assert expected_after([gradual]).sparsity == 0.75
    with pytest.raises(InputError, match=r"asks for a sparsity of 0\.5 in all, but 0\.75 is"):
        check_recipe([gradual, Prune(sparsity=0.5)], 0)
    with pytest.raises(InputError, match=r"step 3 of the recipe \(train\) needs dense weights"):
        check_recipe([Prune(sparsity=0.5), Pack(), gradual], 0)
    moving: tuple[Updater, ...] = (SET(), RigL(), SRigL(), MOVING["granet"])
    for updater in (Mover(), *moving[:2]):
        with pytest.raises(InputError, match="moves the weights of a mask, but nothing is pruned"):
            check_recipe([training(updater=updater)], 0)
        check_recipe([gradual, training(updater=updater)], 0)
    units = Prune(sparsity=0.5, pattern="unit")
    for updater in moving:
        with pytest.raises(
            InputError, match=r"weights of the pattern .* but the pattern 'unit' is"
        ):
            check_recipe([units, training(updater=updater)], 0)
    runs = Prune(pattern=NByM(2, 4))
    check_recipe([runs, training(updater=RigL())], 0)
    with pytest.raises(InputError, match=r"pattern weight, but the pattern NByM\(.*\) is pruned"):
        check_recipe([runs, training(updater=SRigL())], 0)


def test_an_updater_enters_the_keys_with_its_version(
    points: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, first = (keyed(trial(training(updater=u)), points) for u in (None, GRADUAL))
    other = keyed(trial(training(updater=GRADUAL.model_copy(update={"final": 0.5}))), points)
    monkeypatch.setattr(Gradual, "version", 2)
    newer = keyed(trial(training(updater=GRADUAL)), points)
    assert len({one.states[1] for one in (plain, first, other, newer)}) == 4
    assert "updater" not in training().described()


def test_a_training_that_is_too_short_is_refused(points: Dataset) -> None:
    with pytest.raises(InputError) as caught:
        keyed(trial(training(epochs=2, updater=GRADUAL)), points)
    assert str(caught.value) == (
        "the updater prunes for the last time after step 9 (start + every x updates), but the "
        "training has 8 steps: let it have fewer updates, or the training more epochs"
    )
    keyed(trial(training(epochs=3, updater=GRADUAL)), points)
    before = Prune(sparsity=0.5)
    with pytest.raises(InputError, match="every 100 steps before step 9 of a training of 12"):
        keyed(trial(before, training(updater=RigL())), points)
    keyed(trial(before, training(updater=RigL(every=8))), points)


def test_the_schedule_that_was_first_is_not_written() -> None:
    assert "schedule" not in training(updater=GRADUAL).described()["updater"]
    linear = GRADUAL.model_copy(update={"schedule": "linear"})
    assert training(updater=linear).described()["updater"]["schedule"] == "linear"


STUDY = """
name = "gradual"
title = "T"
question = "Q?"
data = { name = "digits", examples = 100 }
network = { name = "mlp", hidden = [5] }
grid.final = [0.5, 0.9]
scales.quick = { seeds = 1 }

[[arms]]
name = "dense"
label = "Dense"
role = "baseline"
recipe = [{ step = "train", epochs = 3, batch = 20 }]

[[arms]]
name = "gradual"
label = "Gradual"
recipe = [
  { step = "train", epochs = 3, batch = 20, updater = { name = "gradual", final = "$final", every = 2, updates = 5 } },
]
"""  # noqa: E501


def test_a_study_file_has_updaters(tmp_path: Path) -> None:
    study = tmp_path / "gradual.toml"
    study.write_text(STUDY)
    with Store.create(tmp_path / "out") as store:
        prepared = prepare(Request(study=str(study), folder=tmp_path / "out", jobs=1), store)
        assert carry_out(prepared, store, lambda _: None, lambda: False) == []
        run = store.latest_study()
        records = store.records([one.key for one in run.trials])
        phases = store.phases([key for one in run.trials for key in one.phases])
    results = Results(run, records, phases=phases)
    asked = {0.5: round(0.5 * 320) + round(0.5 * 50), 0.9: round(0.9 * 320) + round(0.9 * 50)}
    for level, zeros in asked.items():
        assert results.values("gradual", level, "sparsity") == {0: pytest.approx(zeros / 370)}
    dense, gradual = run.arms
    assert results.prunes(gradual)
    assert not results.prunes(dense)
    assert results.unpruned("gradual") == dense
    definitions = study_schema()["$defs"]
    assert {"final", "updates"} <= set(definitions["Gradual"]["required"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("every = 2", "evry = 2", "updater.evry: there is no such key: did you mean 'every'?"),
        ("updates = 5", "updates = 50", "prunes for the last time after step 101"),
        ('"gradual", final', '"gradul", final', "did you mean 'gradual'?"),
        ("[0.5, 0.9]", "[0.5, 90]", "must be at most 1 (given: 90)"),
    ],
)
def test_what_is_wrong_with_an_updater_is_told(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    study = tmp_path / "gradual.toml"
    assert old in STUDY
    study.write_text(STUDY.replace(old, new))
    with pytest.raises(InputError) as caught:
        prepare(Request(study=str(study), folder=tmp_path), None)
    assert said in str(caught.value)
    assert "line " in str(caught.value)


def test_updaters_come_back_from_json() -> None:
    for updater in MOVING.values():
        step = training(updater=updater)
        assert any_step().validate_json(step.model_dump_json()) == step
