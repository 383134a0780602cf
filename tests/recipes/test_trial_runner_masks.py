"""Masks lifted, borrowed and packed: the steps beside plain pruning, on real numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from gossamer.core.errors import InputError
from gossamer.data import Dataset
from gossamer.masks import ERK, Block, ErdosRenyi, FixedFanIn, Mask, NByM
from gossamer.networks import NetworkSpec, packing
from gossamer.recipes import (
    DataSpec,
    KeyedTrial,
    Pack,
    Prune,
    Regrow,
    Rewind,
    Train,
    Transfer,
    Trial,
    keyed,
    resumable_training,
)
from gossamer.recipes.state import State
from gossamer.recipes.steps import Source
from gossamer.recipes.trial_runner import TrialRunner
from gossamer.training import Adam, OptimizerOptions, Sgd
from gossamer.training.loop import Interrupted
from gossamer.training.updaters import SET, RigL, Updater

MLP = NetworkSpec(name="mlp", hidden=(16,))
WIDE = NetworkSpec(name="mlp", hidden=(100, 80))
CNN = NetworkSpec(name="fashion-cnn")
SGD = Sgd(momentum=0.9, weight_decay=1e-3)
FAN_IN = FixedFanIn(connections=2)
"""Leaves every unit some inputs, so that every weight can grow back."""
MakeRunner = Callable[..., TrialRunner]


@pytest.fixture
def other_points(points: Dataset) -> Dataset:
    """Other numbers of the same shape."""
    turned = (points.x_train[::-1].copy(), points.x_test * 2)
    return replace(points, name="other", x_train=turned[0], x_test=turned[1])


def trial(*steps: Any, network: NetworkSpec = MLP, seed: int = 3) -> Trial:
    return Trial(data=DataSpec(name="points"), network=network, steps=steps, seed=seed)


def training(optimizer: OptimizerOptions = SGD, epochs: int = 2) -> Train:
    return Train(epochs=epochs, batch=16, optimizer=optimizer)


def do_all(runner: TrialRunner, found: KeyedTrial) -> State:
    for source in found.sources.values():
        do_all(runner, source)
    for position in found.trial.trainings:
        runner.train(found, position)
    return runner.state(found, len(found.trial.steps))


def kept(state: State) -> Mask:
    assert state.mask is not None
    return state.mask


def zeros(state: State, mask: Mask) -> list[int]:
    return [int((state.network[name][~mask[name]] == 0).sum()) for name in mask.weights]


def stuck(mask: Mask) -> list[int]:
    """Count the pruned weights that cannot grow: those of units without any input left.

    Their output is zero, and so is the slope of a ReLU there.
    """
    dead = ~mask["dense1.weight"].any(dim=1)
    return [6 * int(dead.sum()), int((~mask["output.weight"])[:, dead].sum())]


# What a pruning may fix


@pytest.mark.parametrize(
    ("step", "counts"),
    [
        # Layers of 6 x 16 and 16 x 3 weights.
        (Prune(score="random", allocation=ErdosRenyi(epsilon=2)), [44, 38]),
        (Prune(score="random", allocation=FixedFanIn(connections=2)), [32, 6]),
        (Prune(pattern=NByM(n=1, m=2)), [48, 24]),
        # ERK: densities 22/96 and 19/48 times s, with s (22 + 19) = 72 weights in all.
        (Prune(sparsity=0.5, allocation=ERK()), [39, 33]),
        (Prune(sparsity=0.5, pattern=Block(rows=1, columns=2)), None),
    ],
)
def test_allocations_and_patterns_keep_what_they_say(
    make_runner: MakeRunner, points: Dataset, step: Prune, counts: list[int] | None
) -> None:
    found = keyed(trial(step, training()), points)
    runner = make_runner(points)
    state = do_all(runner, found)
    mask = kept(state)
    counted = [int(value.sum()) for value in mask.weights.values()]
    assert sum(counted) == 72 if counts is None else counted == counts
    assert [int((state.network[name] != 0).sum()) for name in mask] == counted
    assert runner.measure(found).measures["sparsity"] == pytest.approx(1 - sum(counted) / 144)


# Zeroed once


def test_weights_zeroed_once_grow_back(make_runner: MakeRunner, points: Dataset) -> None:
    once, held = (Prune(sparsity=0.75, enforce=enforce) for enforce in (False, True))
    runner = make_runner(points)
    states, found = {}, {}
    for step in (once, held):
        found[step.enforce] = keyed(trial(step, training()), points)
        states[step.enforce] = do_all(runner, found[step.enforce])
    start = runner.state(found[False], 1)
    mask = kept(runner.state(found[True], 1))
    assert start.mask is None
    assert zeros(start, mask) == [int((~value).sum()) for value in mask.values()]
    assert states[False].mask is None
    assert zeros(states[False], mask) == stuck(mask)
    assert sum(zeros(states[True], mask)) == 108
    sparsities = {e: runner.measure(found[e]).measures["sparsity"] for e in (False, True)}
    assert sparsities == pytest.approx({False: sum(stuck(mask)) / 144, True: 0.75})
    assert sparsities[False] < 0.25


def test_zeroing_once_leaves_an_earlier_mask_in_force(
    make_runner: MakeRunner, points: Dataset
) -> None:
    held = Prune(allocation=FixedFanIn(connections=4))
    steps = (held, Prune(allocation=FAN_IN, enforce=False))
    found = keyed(trial(*steps, training()), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    assert after.mask == runner.state(found, 1).mask
    start = runner.state(found, 2)
    assert zeros(after, kept(after)) == [int((~value).sum()) for value in kept(after).values()]
    counts = [[int((v != 0).sum()) for v in state.network.values()] for state in (start, after)]
    assert counts[0] == [2 * 16, 2 * 3]
    assert counts[1][0] > counts[0][0]
    assert counts[1][1] == 4 * 3


# Regrow


def test_regrowing_lifts_the_mask_and_pruned_weights_restart_from_zero(
    make_runner: MakeRunner, points: Dataset
) -> None:
    steps = (training(), Prune(sparsity=0.75), training(), Regrow(), training())
    found = keyed(trial(*steps), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    sparse, regrown = runner.state(found, 3), runner.state(found, 4)
    assert regrown.mask is None
    assert after.mask is None
    assert sparse.optimizer
    assert regrown.optimizer == {}
    assert (sparse.epochs, regrown.epochs, after.epochs) == (4, 4, 6)
    assert regrown.network.keys() == sparse.network.keys()
    assert all(torch.equal(regrown.network[n], sparse.network[n]) for n in sparse.network)
    assert sum(zeros(regrown, kept(sparse))) == 108
    assert zeros(after, kept(sparse)) == stuck(kept(sparse))
    assert sum(stuck(kept(sparse))) < 36
    assert runner.measure(found).measures["sparsity"] == pytest.approx(
        sum(stuck(kept(sparse))) / 144
    )
    assert runner.measure(found).measures["sparsity_requested"] == 0


def test_the_first_step_after_a_regrow_is_that_of_plain_gradient_descent_from_zero(
    make_runner: MakeRunner, points: Dataset
) -> None:
    one_step = Train(epochs=1, batch=60, optimizer=Sgd(rate=0.1))
    found = keyed(trial(Prune(sparsity=0.75), training(), Regrow(), one_step), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    start = runner.state(found, 3).network
    weights = {name: value.double().requires_grad_() for name, value in start.items()}
    x = torch.tensor(points.x_train, dtype=torch.float64)
    logits = (x @ weights["dense1.weight"].T).relu() @ weights["output.weight"].T
    torch.nn.functional.cross_entropy(logits, torch.tensor(points.y_train)).backward()  # type: ignore[no-untyped-call]
    for name, weight in weights.items():
        assert weight.grad is not None
        expected = weight.detach() - 0.1 * weight.grad
        torch.testing.assert_close(after.network[name].double(), expected, rtol=0, atol=1e-6)


def test_dense_again_is_not_sparse_trained_on(make_runner: MakeRunner, points: Dataset) -> None:
    start = (training(), Prune(allocation=FAN_IN), training())
    runner = make_runner(points)
    redense = do_all(runner, keyed(trial(*start, Regrow(), training()), points))
    sparse = do_all(runner, keyed(trial(*start, training()), points))
    mask = kept(sparse)
    for name in mask.weights:
        assert not sparse.network[name][~mask[name]].any()
        assert redense.network[name][~mask[name]].all()
        assert not torch.equal(redense.network[name][mask[name]], sparse.network[name][mask[name]])


# Transfer


def borrowed(recipe: tuple[Any, ...], **others: Any) -> Transfer:
    choices = {name: others.pop(name) for name in ("data", "seed_offset") if name in others}
    return Transfer(source=Source(recipe=recipe, **choices), **others)


FOUND = (training(epochs=3), Prune(sparsity=0.75))


def test_a_transferred_mask_is_that_of_the_source_bit_for_bit(
    make_runner: MakeRunner, points: Dataset, other_points: Dataset
) -> None:
    found = keyed(
        trial(borrowed(FOUND, data="other"), training()),
        points,
        elsewhere=lambda _: other_points,
    )
    runner = make_runner(points, "states", lambda *_: False, other_points)
    after = do_all(runner, found)
    alone = replace(trial(*FOUND, seed=1003), data=DataSpec(name="other"))
    source = keyed(alone, other_points)
    expected = do_all(make_runner(other_points, "alone"), source)
    assert found.sources[0].states == source.states
    assert found.sources[0].trial.seed == 1003
    assert after.mask == expected.mask
    assert kept(after).sparsity == 0.75
    start, given = runner.state(found, 0), runner.state(found, 1)
    for name, value in given.network.items():
        assert torch.equal(value, start.network[name] * kept(after)[name])
        assert not after.network[name][~kept(after)[name]].any()
    assert runner.measure(found).measures["sparsity"] == 0.75
    assert runner.measure(found).measures["sparsity_requested"] == 0.75


def test_with_the_same_start_a_transfer_is_a_lottery_ticket(
    make_runner: MakeRunner, points: Dataset
) -> None:
    runner = make_runner(points)
    ticket = keyed(trial(*FOUND, Rewind(to=0)), points)
    lent = keyed(trial(borrowed(FOUND, seed_offset=0)), points)
    assert lent.sources[0].states == ticket.states[:3]
    first, second = do_all(runner, ticket), do_all(runner, lent)
    assert first.mask == second.mask
    assert all(torch.equal(first.network[n], second.network[n]) for n in first.network)


@pytest.mark.parametrize("within", ["layer", "unit"])
def test_a_shuffled_mask_keeps_the_counts(
    make_runner: MakeRunner, points: Dataset, within: Any
) -> None:
    runner = make_runner(points)
    plain, shuffled = (
        keyed(trial(borrowed(FOUND, shuffle=shuffle)), points) for shuffle in (None, within)
    )
    before, after = kept(do_all(runner, plain)), kept(do_all(runner, shuffled))
    assert before != after
    assert before.densities == after.densities
    units = [[(mask[name].sum(dim=1)).tolist() for name in mask] for mask in (before, after)]
    assert (units[0] == units[1]) == (within == "unit")
    assert kept(do_all(make_runner(points, "again"), shuffled)) == after


def test_a_mask_transferred_once_is_not_enforced(make_runner: MakeRunner, points: Dataset) -> None:
    found = keyed(trial(borrowed(FOUND, enforce=False), training()), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    mask = runner.mask(found.sources[0])
    assert runner.state(found, 1).mask is None
    assert sum(zeros(runner.state(found, 1), mask)) == 108
    assert after.mask is None
    assert zeros(after, mask) == stuck(mask)


def test_a_transferred_mask_comes_on_top_of_an_earlier_one(
    make_runner: MakeRunner, points: Dataset
) -> None:
    earlier = Prune(sparsity=0.5, score="random")
    found = keyed(trial(earlier, borrowed(FOUND), training()), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    both = kept(runner.state(found, 1)) & runner.mask(found.sources[1])
    assert after.mask == both
    assert not runner.measure(found).measures["nonzero_prunable"] > 144 - both.zeros


@pytest.mark.usefixtures("look_at_every_batch")
def test_a_source_that_was_stopped_goes_on_to_the_same_mask(
    make_runner: MakeRunner, points: Dataset
) -> None:
    found = keyed(trial(borrowed(FOUND), training()), points)
    whole = do_all(make_runner(points), found)
    calls = iter([False] * 5 + [True])
    with pytest.raises(Interrupted):
        make_runner(points, "stopped", lambda *_: next(calls)).train(found.sources[0], 0)
    again = do_all(make_runner(points, "stopped"), found)
    assert again.mask == whole.mask
    assert all(torch.equal(again.network[n], whole.network[n]) for n in whole.network)


def test_a_recipe_without_a_mask_has_none_to_compare(
    make_runner: MakeRunner, points: Dataset
) -> None:
    with pytest.raises(InputError, match="ends without a mask"):
        make_runner(points).mask(keyed(trial(), points))


# Pack


def test_a_packed_network_trains_its_connections_only(
    make_runner: MakeRunner, points: Dataset
) -> None:
    random = Prune(score="random", allocation=ErdosRenyi(epsilon=2))
    found = keyed(trial(random, Pack(initialisation="he"), training()), points)
    runner = make_runner(points)
    state = do_all(runner, found)
    assert state.packed
    assert {n: v.shape for n, v in state.network.items() if n.endswith("values")} == {
        "dense1.values": (44,),
        "output.values": (38,),
    }
    measures = runner.measure(found).measures
    assert measures["trainable_parameters"] == 44 + 38
    assert measures["parameters"] == 144
    assert measures["nonzero_parameters"] == 44 + 38
    assert measures["macs_nonzero"] == 44 + 38
    mask = kept(runner.state(found, 1))
    for name in ("dense1", "output"):
        positions = mask[f"{name}.weight"].flatten().nonzero().flatten()
        assert torch.equal(state.network[f"{name}.positions"], positions)


def test_layers_left_whole_stay_as_they_are(make_runner: MakeRunner, points: Dataset) -> None:
    step = Prune(sparsity=0.75, exclude=("output layer",))
    found = keyed(trial(step, Pack(), training()), points)
    runner = make_runner(points)
    state = do_all(runner, found)
    assert set(state.network) == {"dense1.values", "dense1.positions", "output.weight"}
    assert runner.measure(found).measures["trainable_parameters"] == 24 + 48


def test_a_packed_state_holds_non_zeros_only(
    make_runner: MakeRunner, points: Dataset, tmp_path: Path
) -> None:
    runner = make_runner(points)
    sizes = {}
    for packed in (False, True):
        steps = (Prune(sparsity=0.95), *((Pack(),) if packed else ()), training(Adam(), 1))
        found = keyed(trial(*steps, network=WIDE), points)
        do_all(runner, found)
        path = tmp_path / "states" / f"{found.states[-1]}.safetensors"
        sizes[packed] = path.stat().st_size
    weights = 6 * 100 + 100 * 80 + 80 * 3
    with safe_open(path, framework="np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    values = [shape for name, shape in shapes.items() if name.endswith("values")]
    assert sum(shape[0] for shape in values) == weights - round(0.95 * weights)
    moments = [shape for name, shape in shapes.items() if name.endswith("values/exp_avg")]
    assert sorted(moments) == sorted(values)
    assert not [name for name, shape in shapes.items() if len(shape) > 1]
    assert sizes[True] < sizes[False] / 3


@pytest.mark.parametrize(
    ("network", "data", "optimizer"),
    [(MLP, "points", SGD), (WIDE, "points", Adam()), (CNN, "images", SGD)],
)
def test_training_packed_is_training_masked(
    make_runner: MakeRunner,
    points: Dataset,
    images: Dataset,
    network: NetworkSpec,
    data: str,
    optimizer: OptimizerOptions,
) -> None:
    dataset = points if data == "points" else images
    runner = make_runner(dataset)
    states, measures = [], []
    for pack in ((), (Pack(),)):
        steps = (Prune(sparsity=0.8), *pack, training(optimizer))
        found = keyed(trial(*steps, network=network), dataset)
        do_all(runner, found)
        states.append(do_all(runner, keyed(trial(*steps, Regrow(), network=network), dataset)))
        measures.append(dict(runner.measure(found).measures))
    masked, packed = states
    for name, value in masked.network.items():
        torch.testing.assert_close(packed.network[name], value, rtol=1e-4, atol=1e-5)
        assert torch.equal(packed.network[name] == 0, value == 0)
    assert measures[1].pop("trainable_parameters") < measures[0].pop("trainable_parameters")
    assert measures[1] == pytest.approx(measures[0], rel=1e-4)


def test_a_packed_network_measures_the_same_from_its_file(
    make_runner: MakeRunner, points: Dataset
) -> None:
    found = keyed(trial(Prune(sparsity=0.8), Pack(), training()), points)
    runner = make_runner(points)
    do_all(runner, found)
    records = [w.measure(found) for w in (runner, make_runner(points))]
    assert records[0].measures == records[1].measures
    assert records[0].layers == records[1].layers


def test_regrowing_a_packed_network_gives_dense_layers(
    make_runner: MakeRunner, points: Dataset
) -> None:
    steps = (Prune(allocation=FAN_IN), Pack(), training(), Regrow(), training())
    found = keyed(trial(*steps), points)
    runner = make_runner(points)
    after = do_all(runner, found)
    packed, regrown = runner.state(found, 3), runner.state(found, 4)
    assert (packed.packed, regrown.packed, after.packed) == (True, False, False)
    assert regrown.mask is None
    mask = kept(packed)
    for name, value in regrown.network.items():
        stored = packed.network[name.replace("weight", "values")]
        assert torch.equal(value[mask[name]], stored)
        assert not value[~mask[name]].any()
        assert after.network[name][~mask[name]].all()
    assert runner.measure(found).measures["trainable_parameters"] == 144


def test_packed_values_are_kept_or_drawn_anew(make_runner: MakeRunner, points: Dataset) -> None:
    runner = make_runner(points)
    values = {}
    for how in ("keep", "he", "vector-glorot"):
        steps = (Prune(sparsity=0.5, score="random", allocation="uniform"),)
        found = keyed(trial(*steps, Pack(initialisation=how), network=WIDE), points)
        state = runner.state(found, 2)
        values[how] = state.network["dense2.values"].double()
        weight = runner.state(found, 1).network["dense2.weight"]
    kept_values = weight[kept(state)["dense2.weight"]]
    assert torch.equal(values["keep"], kept_values.double())
    # 4,000 connections: uniform within sqrt(3 / 4,000), or normal with variance 2 / fan-in.
    assert 0.99 < float(values["vector-glorot"].abs().max() / (3 / 4000) ** 0.5) <= 1
    fan_in = kept(state)["dense2.weight"].sum(dim=1)
    units = np.repeat(np.arange(80), fan_in.numpy())
    standard = values["he"].numpy() * np.sqrt(fan_in.numpy()[units] / 2)
    assert standard.std() == pytest.approx(1, abs=0.04)  # 3.6 standard errors


def test_a_mask_of_whole_units_cannot_be_packed(
    make_runner: MakeRunner, points: Dataset, home_made: str
) -> None:
    network = NetworkSpec(name=f"{home_made}:dropout")
    units = Prune(sparsity=0.5, pattern="unit", exclude=("output layer",))
    found = keyed(trial(borrowed((units,)), Pack(), network=network), points)
    with pytest.raises(InputError, match="pack is for single weights, but the mask prunes whole"):
        make_runner(points).state(found, 2)


@pytest.mark.parametrize("updater", [SET(every=2), RigL(every=2, fraction=0.5)])
def test_connections_move_packed_as_they_do_masked(
    make_runner: MakeRunner, points: Dataset, updater: Updater
) -> None:
    runner, masks = make_runner(points), []
    for pack in ((), (Pack(),)):
        step = Train(epochs=3, batch=16, optimizer=SGD, updater=updater)
        found = keyed(trial(Prune(sparsity=0.8, score="random"), *pack, step), points)
        state = do_all(runner, found)
        masks.append(kept(state))
        assert state.packed == bool(pack)
        assert sum(int(weight.sum()) for weight in masks[-1].values()) == 144 - round(0.8 * 144)
        runner.measure(found)
    before = kept(runner.state(found, 1))
    for name, where in masks[0].items():
        assert torch.equal(masks[1][name], where)
        assert not torch.equal(before[name], where)


@pytest.fixture
def packs_small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LEAST_SIZES", dict.fromkeys(packing.LEAST_SIZES, 1))
    monkeypatch.setattr(packing, "MOST_DENSITIES", dict.fromkeys(packing.MOST_DENSITIES, 0.25))


@pytest.fixture
def packed_layers(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Return what was packed for trainings, one set for each."""
    chosen: list[set[str]] = []
    found = packing.faster_packed

    def noting(*given: Any) -> dict[str, torch.Tensor]:
        masks = found(*given)
        chosen.append(set(masks))
        return masks

    monkeypatch.setattr(resumable_training, "faster_packed", noting)
    return chosen


WAYS = [(MLP, "points", SGD), (WIDE, "points", Adam()), (CNN, "images", SGD)]


@pytest.mark.usefixtures("packs_small_layers")
@pytest.mark.parametrize(("network", "data", "optimizer"), WAYS)
def test_layers_that_train_faster_packed_train_to_the_same(
    make_runner: MakeRunner,
    points: Dataset,
    images: Dataset,
    packed_layers: list[set[str]],
    monkeypatch: pytest.MonkeyPatch,
    network: NetworkSpec,
    data: str,
    optimizer: OptimizerOptions,
) -> None:
    dataset = points if data == "points" else images
    first = Train(epochs=1, batch=32, optimizer=optimizer)
    again = first.model_copy(update={"optimizer_state": "keep"})
    found = keyed(trial(Prune(sparsity=0.8), first, again, network=network), dataset)
    states = []
    for least in (32, 33):  # examples of a batch, of which there are 32
        monkeypatch.setattr(packing, "LEAST_EXAMPLES", least)
        states.append(do_all(make_runner(dataset, f"at least {least}"), found))
    assert packed_layers[0] == packed_layers[1] != set()
    assert packed_layers[2] == packed_layers[3] == set()
    packed, masked = states
    assert packed.mask == masked.mask
    assert not packed.packed
    for ours, theirs in ((packed.network, masked.network), (packed.optimizer, masked.optimizer)):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)
            assert torch.equal(ours[name] == 0, value == 0)


@pytest.mark.usefixtures("packs_small_layers")
def test_going_on_with_packed_layers_gives_the_same_bits(
    make_runner: MakeRunner, points: Dataset, packed_layers: list[set[str]]
) -> None:
    step = Train(epochs=4, batch=32, optimizer=Adam())
    found = keyed(trial(Prune(sparsity=0.8), step, network=WIDE), points)
    whole = do_all(make_runner(points), found)
    calls = iter([False, True])
    with pytest.raises(Interrupted):
        make_runner(points, "stopped", lambda *_: next(calls)).train(found, 1)
    again = do_all(make_runner(points, "stopped"), found)
    assert packed_layers[0] != set()
    for ours, theirs in ((again.network, whole.network), (again.optimizer, whole.optimizer)):
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_in_bfloat16_and_with_an_updater_layers_stay_as_they_are(
    make_runner: MakeRunner, points: Dataset, packed_layers: list[set[str]]
) -> None:
    step = Train(epochs=1, batch=32, optimizer=SGD)
    moving = step.model_copy(update={"updater": SET(every=1)})
    half = Prune(sparsity=0.5)
    low = replace(trial(half, step), precision="bf16")
    for made in (trial(half, moving), low):
        do_all(make_runner(points), keyed(made, points))
    assert packed_layers == []
