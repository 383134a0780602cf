import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gossamer.core.errors import InputError, StoreError, TrainingError
from gossamer.data import Dataset
from gossamer.networks import NetworkSpec, build
from gossamer.recipes import (
    DataSpec,
    KeyedTrial,
    MeasureSpec,
    Pack,
    Prune,
    Regrow,
    Rewind,
    Train,
    Trial,
    keyed,
)
from gossamer.recipes.state import State, load_state, save_state
from gossamer.recipes.trial_runner import TrialRunner
from gossamer.records.record import Phase
from gossamer.training import Adadelta, Adam, AdamW, Cosine, EarlyStop, OptimizerOptions, Sgd
from gossamer.training.loop import Interrupted, Standing

MLP = NetworkSpec(name="mlp", hidden=(16,))
CNN = NetworkSpec(name="fashion-cnn")
SGD = Sgd(momentum=0.9, weight_decay=1e-3)
OPTIMIZERS: list[OptimizerOptions] = [
    SGD, Sgd(momentum=0.9, nesterov=True), Adam(), AdamW(), Adadelta(),
]  # fmt: skip
MakeRunner = Callable[..., TrialRunner]


def trial(*steps: Any, network: NetworkSpec = MLP, **others: Any) -> Trial:
    data = DataSpec(name="synthetic", validation=others.pop("validation", 0.0))
    return Trial(data=data, network=network, steps=steps, **{"seed": 3, **others})


def training(optimizer: OptimizerOptions = SGD, epochs: int = 2, **others: Any) -> Train:
    return Train(epochs=epochs, batch=16, optimizer=optimizer, **others)


def do_all(runner: TrialRunner, found: KeyedTrial) -> State:
    for position in found.trial.trainings:
        runner.train(found, position)
    return runner.state(found, len(found.trial.steps))


def same(first: State, second: State, optimizer: bool = True) -> bool:
    parts = [(first.network, second.network)]
    if optimizer:
        parts.append((first.optimizer, second.optimizer))
    return (
        all(one.keys() == two.keys() for one, two in parts)
        and all(torch.equal(one[name], two[name]) for one, two in parts for name in one)
        and first.mask == second.mask
        and first.epochs == second.epochs
    )


def without_seconds(phase: Phase) -> dict[str, Any]:
    values = phase.model_dump()
    values.pop("seconds")
    for epoch in values["history"]:
        epoch.pop("seconds")
    return values


# Steps


def test_the_start_is_the_initial_network(make_runner: MakeRunner, points: Dataset) -> None:
    start = make_runner(points).state(keyed(trial(), points), 0)
    network = build(MLP, (6,), 3, seed=3)
    assert same(start, State(network.state_dict()))


def test_a_training_is_kept_as_a_state_and_described_by_its_phase(
    make_runner: MakeRunner, points: Dataset, tmp_path: Path
) -> None:
    found = keyed(trial(training(epochs=3), validation=0.1), points)
    runner = make_runner(points)
    phase = runner.train(found, 0)
    state = runner.state(found, 1)
    kept, _ = load_state(tmp_path / "states" / f"{found.states[1]}.safetensors")
    assert same(kept, state)
    assert state.epochs == 3
    assert not same(state, runner.state(found, 0))
    assert (phase.key, phase.parent) == (found.states[1], found.states[0])
    assert phase.step["epochs"] == 3
    assert phase.optimizer_steps == 3 * 4
    assert phase.examples == 3 * 54
    assert len(phase.history) == 3
    assert phase.stopped is None
    assert [path.suffix for path in (tmp_path / "states").iterdir()] == [".safetensors"]


def test_an_early_stop_shows_in_phase_and_state(make_runner: MakeRunner, points: Dataset) -> None:
    stop = EarlyStop(watch="train_accuracy", target=0.0)
    found = keyed(trial(training(epochs=5, early_stop=stop)), points)
    runner = make_runner(points)
    phase = runner.train(found, 0)
    assert (phase.stopped or "").startswith("train_accuracy reached")
    assert (phase.optimizer_steps, phase.examples) == (4, 60)
    assert runner.state(found, 1).epochs == 1


@pytest.mark.parametrize("pattern", ["weight", "unit"])
def test_pruning_sets_to_zero_what_the_mask_says_and_keeps_the_rest(
    make_runner: MakeRunner, points: Dataset, pattern: Any
) -> None:
    prune = Prune(sparsity=0.5, pattern=pattern, exclude=("output layer",))
    found = keyed(trial(training(), prune), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    before = runner.state(found, 1)
    assert after.mask is not None
    assert list(after.mask.weights) == ["dense1.weight"]
    assert after.mask.sparsity == 0.5
    for name, value in after.network.items():
        mask = after.mask.get(name)
        expected = before.network[name] if mask is None else before.network[name] * mask
        assert torch.equal(value, expected)
    assert after.optimizer.keys() == before.optimizer.keys()
    assert after.epochs == before.epochs


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("state", ["fresh", "keep"])
def test_pruned_weights_stay_zero_through_retraining(
    make_runner: MakeRunner, points: Dataset, optimizer: OptimizerOptions, state: Any
) -> None:
    again = training(optimizer, optimizer_state=state)
    found = keyed(trial(training(optimizer), Prune(sparsity=0.75), again), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    before = runner.state(found, 2)
    assert after.mask == before.mask
    assert after.mask is not None
    for name, mask in after.mask.items():
        assert not after.network[name][~mask].any()
        assert not torch.equal(after.network[name], before.network[name])
    zeros = sum(int((value == 0).sum()) for value in after.network.values())
    assert zeros == 108 == round(0.75 * 9 * 16)


def test_rewinding_gives_the_initial_weights_under_the_mask(
    make_runner: MakeRunner, points: Dataset
) -> None:
    found = keyed(trial(training(), Prune(sparsity=0.8), Rewind(to=0)), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    start, pruned = runner.state(found, 0), runner.state(found, 2)
    assert after.mask is not None
    assert after.mask == pruned.mask
    for name, value in after.network.items():
        assert torch.equal(value, start.network[name] * after.mask[name])
    assert after.optimizer == {}
    assert after.epochs == 2


def test_rewinding_brings_buffers_back_and_later_epochs_are_shuffled_anew(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    network = NetworkSpec(name=f"{home_made}:dropout")
    steps = (training(), training(), Rewind(to=1), training())
    found = keyed(trial(*steps, network=network), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    first, second, rewound = (runner.state(found, n) for n in (1, 2, 3))
    assert same(State(rewound.network), State(first.network))
    assert int(first.network["2.num_batches_tracked"]) == 8
    assert (first.epochs, second.epochs, rewound.epochs, after.epochs) == (2, 4, 4, 6)
    assert not same(after, second, optimizer=False)


def test_a_rewind_without_a_mask_is_the_earlier_network(
    make_runner: MakeRunner, points: Dataset
) -> None:
    found = keyed(trial(training(), Rewind(to=0)), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    assert same(State(after.network), runner.state(found, 0))


def test_iterative_sparsity_is_the_total_and_nothing_comes_back(
    make_runner: MakeRunner, points: Dataset
) -> None:
    levels = (0.25, 0.5, 0.75)
    steps = [training(), *(s for level in levels for s in (Prune(sparsity=level), training()))]
    found = keyed(trial(*steps), points)
    runner = make_runner(points)
    do_all(runner, found)
    gone = torch.zeros(144, dtype=torch.bool)
    for number, level in enumerate(levels):
        state = runner.state(found, 2 * number + 3)
        assert state.mask is not None
        assert state.mask.sparsity == level
        weights = torch.cat([state.network[name].flatten() for name in state.mask])
        assert int((weights == 0).sum()) == round(level * 144)
        assert bool((weights == 0)[gone].all())
        gone = weights == 0


def test_what_one_pruning_removed_stays_away_after_another_of_other_weights(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    network = NetworkSpec(name=f"{home_made}:dropout")
    units = Prune(sparsity=0.5, pattern="unit", exclude=("output layer",))
    steps = (units, training(), Prune(sparsity=0.9, exclude=("1.weight",)), training())
    found = keyed(trial(*steps, network=network), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    first = runner.state(found, 1)
    assert first.mask is not None
    assert after.mask is not None
    assert set(first.mask) == {"1.weight", "1.bias", "2.weight", "2.bias"}
    for name, mask in first.mask.items():
        assert not after.network[name][~mask].any()
        assert torch.equal(after.mask[name], mask)
    assert int((after.network["5.weight"] == 0).sum()) == round(0.9 * 48)
    assert not set(after.mask.attached) & set(after.mask.weights)
    assert runner.measure(found).measures["nonzero_prunable"] == 48 + 48 - 43


def test_scattered_zeros_stay_when_units_go(make_runner: MakeRunner, points: Dataset) -> None:
    units = Prune(sparsity=0.5, pattern="unit", exclude=("output layer",))
    found = keyed(trial(Prune(sparsity=0.5), training(), units, training()), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    first = runner.state(found, 1)
    assert first.mask is not None
    for name, mask in first.mask.items():
        assert not after.network[name][~mask].any()


def test_a_random_prune_depends_on_the_seed(make_runner: MakeRunner, points: Dataset) -> None:
    runner = make_runner(points)
    step = Prune(sparsity=0.5, score="random")
    masks = [runner.state(keyed(trial(step, seed=s), points), 1).mask for s in (1, 1, 2)]
    assert masks[0] == masks[1]
    assert masks[0] != masks[2]


# Going on


class Stop:
    """A pulse that asks to stop at one of its calls."""

    def __init__(self, call: int) -> None:
        self.left = call

    def __call__(self, total: int, standing: Standing) -> bool:
        self.left -= 1
        return self.left == 0


RESUMED: dict[str, tuple[str, str, tuple[Any, ...], dict[str, Any]]] = {
    **{
        f"dropout, {o.name} {number}": ("points", "dropout", (training(o),), {})
        for number, o in enumerate(OPTIMIZERS)
    },
    "mask": ("points", "", (Prune(sparsity=0.6, score="random"), training()), {}),
    "unit mask and batch norm": (
        "points",
        "dropout",
        (Prune(sparsity=0.5, pattern="unit"), training(Adam())),
        {},
    ),
    "convolutions": ("images", "", (training(Adam()),), {}),
    "convolutions and mask": ("images", "", (Prune(sparsity=0.9), training()), {}),
    "bf16": ("points", "", (training(AdamW()),), {"precision": "bf16"}),
    "tied weights": ("points", "Tied", (training(),), {}),
    "a weight and its transpose in one memory": (
        "points",
        "Transposed",
        (Prune(sparsity=0.6, score="random"), training(Adam())),
        {},
    ),
    "schedule, validation and early stop": (
        "points",
        "",
        (
            training(
                epochs=4,
                schedule=Cosine(),
                early_stop=EarlyStop(watch="validation_accuracy", patience=2, min_delta=2),
            ),
        ),
        {"validation": 0.2},
    ),
    "regrown": ("points", "", (Prune(sparsity=0.6), training(), Regrow(), training(Adam())), {}),
    "packed": ("points", "", (Prune(sparsity=0.6), Pack(), training(Adam())), {}),
    "not enforced": ("points", "", (Prune(sparsity=0.6, enforce=False), training()), {}),
    "kept optimizer": ("points", "", (training(), training(optimizer_state="keep")), {}),
}


@pytest.mark.usefixtures("look_at_every_batch")
@pytest.mark.parametrize("case", RESUMED)
def test_going_on_from_any_batch_gives_the_same_bits(
    case: str,
    make_runner: MakeRunner,
    points: Dataset,
    images: Dataset,
    home_made: str,
    tmp_path: Path,
) -> None:
    data, network, steps, others = RESUMED[case]
    dataset = points if data == "points" else images
    spec = NetworkSpec(name=f"{home_made}:{network}") if network else MLP
    spec = CNN if data == "images" else spec
    found = keyed(trial(*steps, network=spec, **others), dataset)
    last = found.trial.trainings[-1]
    before = make_runner(dataset)
    for position in found.trial.trainings[:-1]:
        before.train(found, position)
    shutil.copytree(tmp_path / "states", tmp_path / "untouched")
    calls = Stop(0)
    whole = make_runner(dataset, pulse=calls)
    phase, state = whole.train(found, last), whole.state(found, last + 1)
    assert -calls.left >= 5
    for call in range(1, -calls.left + 1):
        folder = f"stopped-{call}"
        shutil.copytree(tmp_path / "untouched", tmp_path / folder)
        with pytest.raises(Interrupted):
            make_runner(dataset, folder, Stop(call)).train(found, last)
        assert (tmp_path / folder / f"{found.states[last + 1]}.checkpoint").is_file()
        on = make_runner(dataset, folder)
        assert without_seconds(on.train(found, last)) == without_seconds(phase), call
        assert same(on.state(found, last + 1), state), call
        shutil.rmtree(tmp_path / folder)


def test_a_weight_and_its_transpose_train_as_the_one_that_they_are(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    spec = NetworkSpec(name=f"{home_made}:Transposed")
    found = keyed(
        trial(Prune(sparsity=0.5, score="random"), training(Adam()), network=spec), points
    )
    runner = make_runner(points)
    runner.train(found, 1)
    state = runner.state(found, 2)
    assert state.mask is not None
    assert set(state.mask) == {"first.weight", "output.weight"}
    assert torch.equal(state.network["first.weight"], state.network["second.weight"].t())
    assert not state.network["first.weight"][~state.mask["first.weight"]].any()
    record = runner.measure(found)
    assert record.measures["prunable_parameters"] == 6 * 6 + 3 * 6
    assert record.measures["trainable_parameters"] == 6 * 6 + 6 + 6 + 3 * 6 + 3
    assert record.measures["sparsity"] == 0.5
    assert [layer.name for layer in record.layers] == ["first.weight", "output.weight"]


def test_a_tie_that_the_memory_layout_undoes_is_refused(
    make_runner: MakeRunner, images: Dataset, home_made: str
) -> None:
    spec = NetworkSpec(name=f"{home_made}:Aliased")
    found = keyed(trial(Prune(sparsity=0.5), training(Adam()), network=spec), images)
    with pytest.raises(InputError, match=r"first\.weight and second\.weight share memory without"):
        make_runner(images).train(found, 1)


@pytest.mark.usefixtures("look_at_every_batch")
def test_stopping_at_each_batch_in_turn_gives_the_same_bits(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    spec = NetworkSpec(name=f"{home_made}:dropout")
    found = keyed(trial(Prune(sparsity=0.5), training(Adam()), network=spec), points)
    whole = make_runner(points)
    phase = whole.train(found, 1)
    stops = 0
    while True:
        on = make_runner(points, "stopped", Stop(1))
        try:
            ended = on.train(found, 1)
        except Interrupted:
            stops += 1
        else:
            break
    assert stops == 9
    assert without_seconds(ended) == without_seconds(phase)
    assert same(on.state(found, 2), whole.state(found, 2))


@pytest.mark.usefixtures("look_at_every_batch")
@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_counts_as_none(
    make_runner: MakeRunner, points: Dataset, tmp_path: Path, damage: bytes | None
) -> None:
    found = keyed(trial(training()), points)
    whole = make_runner(points)
    phase = whole.train(found, 0)
    with pytest.raises(Interrupted):
        make_runner(points, "stopped", Stop(5)).train(found, 0)
    checkpoint = tmp_path / "stopped" / f"{found.states[1]}.checkpoint"
    if damage is None:  # a whole file of another kind
        save_state(checkpoint, whole.state(found, 1))
    else:
        checkpoint.write_bytes(damage)
    on = make_runner(points, "stopped")
    assert without_seconds(on.train(found, 0)) == without_seconds(phase)
    assert same(on.state(found, 1), whole.state(found, 1))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_trainings_that_keep_the_optimizer_are_one_longer_training(
    make_runner: MakeRunner, points: Dataset, home_made: str, optimizer: OptimizerOptions
) -> None:
    spec = NetworkSpec(name=f"{home_made}:dropout")
    parts = (training(optimizer, 2), training(optimizer, 3, optimizer_state="keep"))
    runner = make_runner(points)
    long = do_all(runner, keyed(trial(training(optimizer, 5), network=spec), points))
    split = do_all(runner, keyed(trial(*parts, network=spec), points))
    assert same(long, split)
    reset = (training(optimizer, 2), training(optimizer, 3))
    fresh = do_all(runner, keyed(trial(*reset, network=spec), points))
    assert not same(long, fresh, optimizer=False)


def test_a_full_disk_fails_the_training_and_leaves_nothing_half(
    make_runner: MakeRunner,
    points: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gossamer.recipes.state.save_file", full)
    found = keyed(trial(training()), points)
    with pytest.raises(StoreError, match="states is full: free some space"):
        make_runner(points).train(found, 0)
    assert not list((tmp_path / "states").iterdir())


# Measuring


def test_measures_are_the_same_from_memory_and_from_files(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    spec = NetworkSpec(name=f"{home_made}:dropout")
    steps = (training(), Prune(sparsity=0.5), training(), Rewind(to=1), Prune(sparsity=0.8))
    found = keyed(trial(*steps, network=spec), points)
    runner = make_runner(points)
    do_all(runner, found)
    first, again, fresh = (w.measure(found) for w in (runner, runner, make_runner(points)))
    for other in (again, fresh):
        assert other.model_dump(exclude={"seconds"}) == first.model_dump(exclude={"seconds"})
    assert first.key == found.record
    assert first.phases == found.phases


def test_other_trials_in_between_change_nothing(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    trials = [
        keyed(trial(training(epochs=1), network=NetworkSpec(name=name), seed=seed), points)
        for name in (f"{home_made}:Fixed", f"{home_made}:dropout")
        for seed in (1, 2)
    ]
    shared = make_runner(points, "shared")
    for position, found in enumerate(trials):
        alone = make_runner(points, f"alone-{position}")
        assert same(do_all(shared, found), do_all(alone, found))
    for position, found in enumerate(trials):
        alone = make_runner(points, f"alone-{position}")
        assert shared.measure(found).measures == alone.measure(found).measures


def test_measures_agree_with_brute_force(make_runner: MakeRunner, points: Dataset) -> None:
    steps = (training(epochs=5), Prune(sparsity=0.7), training(epochs=1))
    found = keyed(trial(*steps, measure=MeasureSpec(train_examples=30)), points)
    runner = make_runner(points)
    state = do_all(runner, found)
    record = runner.measure(found)
    first, second = (state.network[f"{name}.weight"].double() for name in ("dense1", "output"))
    x, y = torch.tensor(points.x_test, dtype=torch.float64), torch.tensor(points.y_test)
    logits = (x @ first.T).relu() @ second.T
    right = logits.argmax(1) == y
    odds = logits.log_softmax(1)[range(30), y]
    nonzero = int((first != 0).sum() + (second != 0).sum())
    # A weight works if its unit has an input and an output that are not zero.
    alive = (first != 0).any(1) & (second != 0).any(0)
    effective = int((first != 0)[alive].sum() + (second != 0)[:, alive].sum())
    packed = 96 // 8 + 48 // 8
    measures = dict(record.measures)
    expected = {
        "test_accuracy": right.double().mean().item(),
        "test_loss": -odds.mean().item(),
        "test_examples": 30,
        "train_examples": 30,
        "parameters": 144,
        "nonzero_parameters": nonzero,
        "prunable_parameters": 144,
        "nonzero_prunable": nonzero,
        "effective_parameters": effective,
        "effective_sparsity": 1 - effective / 144,
        "sparsity": 1 - nonzero / 144,
        "sparsity_all": 1 - nonzero / 144,
        "sparsity_requested": 0.7,
        "bytes_dense": 4 * 144,
        "bytes_compressed": packed + 4 * nonzero,
        "macs_dense": 144,
        "macs_nonzero": nonzero,
        "trainable_parameters": 144,
    }
    assert {name: measures[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert measures.keys() - expected.keys() == {"train_accuracy", "train_loss"}
    assert nonzero == 144 - round(0.7 * 144)
    assert effective <= nonzero
    by_class = [right[y == c].double().mean() for c in range(3)]
    assert record.per_class["test"] == pytest.approx([float(value) for value in by_class])


def test_an_unpruned_network_has_no_sparsity(make_runner: MakeRunner, points: Dataset) -> None:
    found = keyed(trial(training(epochs=1)), points)
    runner = make_runner(points)
    do_all(runner, found)
    measures = runner.measure(found).measures
    assert {measures[name] for name in ("sparsity", "sparsity_all", "sparsity_requested")} == {0}
    assert measures["train_examples"] == 60


def test_the_network_of_a_trial_is_a_copy_in_evaluation_mode(
    make_runner: MakeRunner, points: Dataset
) -> None:
    runner, found = make_runner(points), keyed(trial(training(), Prune(sparsity=0.5)), points)
    state = do_all(runner, found)
    network = runner.network(found)
    assert not network.training
    assert network.state_dict().keys() == state.network.keys()
    assert all(torch.equal(value, state.network[n]) for n, value in network.state_dict().items())
    with torch.no_grad():
        next(network.parameters()).fill_(7.0)
    again = runner.network(found).state_dict()
    assert all(torch.equal(value, state.network[name]) for name, value in again.items())


def test_inputs_are_those_of_the_training_and_come_again(
    make_runner: MakeRunner, points: Dataset
) -> None:
    runner, found = make_runner(points), keyed(trial(training()), points)
    count = len(points.x_train)
    inputs = runner.inputs(found, count + 2)
    expected = (torch.tensor(points.x_train, dtype=torch.float32) / points.scale).reshape(count, -1)
    torch.testing.assert_close(inputs[:count].reshape(count, -1), expected)
    assert torch.equal(inputs[count:], inputs[:2])


def test_a_violated_mask_is_noticed(
    make_runner: MakeRunner, points: Dataset, tmp_path: Path
) -> None:
    found = keyed(trial(Prune(sparsity=0.5), training(epochs=1)), points)
    state = do_all(make_runner(points), found)
    grown = {name: value.clone() for name, value in state.network.items()}
    assert state.mask is not None
    grown["output.weight"][~state.mask["output.weight"]] = 1e-3
    path = tmp_path / "states" / f"{found.states[2]}.safetensors"
    save_state(path, State(grown, state.mask, state.optimizer, state.epochs))
    with pytest.raises(TrainingError, match=r"pruned values of output\.weight are not zero"):
        make_runner(points).measure(found)


def test_a_network_that_overflows_is_not_recorded(make_runner: MakeRunner, points: Dataset) -> None:
    one_step = Train(epochs=1, batch=60, optimizer=Sgd(rate=1e30))
    found = keyed(trial(one_step), points)
    runner = make_runner(points)
    runner.train(found, 0)
    with pytest.raises(TrainingError, match="loss is not a number"):
        runner.measure(found)


def test_a_training_that_diverges_leaves_no_state(
    make_runner: MakeRunner, points: Dataset, tmp_path: Path
) -> None:
    found = keyed(trial(training(Sgd(rate=1e30))), points)
    with pytest.raises(TrainingError, match="epoch 1"):
        make_runner(points).train(found, 0)
    assert not list((tmp_path / "states").iterdir())


def test_a_state_that_is_missing_or_damaged_is_a_sentence(
    make_runner: MakeRunner, points: Dataset, tmp_path: Path
) -> None:
    found = keyed(trial(training(epochs=1)), points)
    with pytest.raises(StoreError, match="cannot be read"):
        make_runner(points).measure(found)
    do_all(make_runner(points), found)
    path = tmp_path / "states" / f"{found.states[1]}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="run the same command again, which sets it aside"):
        make_runner(points).measure(found)


def test_a_network_with_extra_state_is_refused(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    found = keyed(trial(training(), network=NetworkSpec(name=f"{home_made}:Extra")), points)
    with pytest.raises(InputError, match="_extra_state"):
        make_runner(points).train(found, 0)
