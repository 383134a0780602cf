import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gossamer import find_mask
from gossamer.core.errors import InputError
from gossamer.data import Dataset
from gossamer.masks import ERK, Block, ErdosRenyi, FixedFanIn, NByM
from gossamer.networks import NetworkSpec, build, names
from gossamer.recipes import (
    DataSpec,
    MeasureSpec,
    Pack,
    Prune,
    Regrow,
    Rewind,
    Train,
    Transfer,
    Trial,
    keyed,
)
from gossamer.recipes.steps import Source
from gossamer.records.canonical import key_of
from gossamer.training import Adadelta, Adam, AdamW, Cosine, EarlyStop, Exponential, Sgd, StepDecay


def tiny(change: str = "") -> Dataset:
    x = np.arange(48, dtype=np.float32).reshape(12, 4) / 7
    y = np.arange(12) % 3
    arrays: dict[str, Any] = {"x_train": x[:9], "y_train": y[:9], "x_test": x[9:], "y_test": y[9:]}
    if change.startswith("x_"):
        arrays[change] = np.nextafter(arrays[change], np.float32(9)).astype(np.float32)
    if change.startswith("y_"):
        arrays[change] = (arrays[change] + 1) % 3
    return Dataset(
        "renamed" if change == "name" else "tiny",
        **arrays,
        classes=3,
        scale=2.0 if change == "scale" else 1.0,
    )


TRAIN = Train(epochs=3, optimizer=Sgd(momentum=0.9))
PRUNE = Prune(sparsity=0.5)
TRIAL = Trial(
    data=DataSpec(name="tiny"),
    network=NetworkSpec(name="mlp", hidden=(5,)),
    seed=1,
    steps=(TRAIN, PRUNE, Rewind(to=0), TRAIN),
)


def with_step(position: int, **changes: Any) -> Trial:
    steps = list(TRIAL.steps)
    step = steps[position]
    steps[position] = type(step).model_validate({**step.model_dump(), **changes})
    return replace(TRIAL, steps=tuple(steps))


def with_optimizer(optimizer: Any, **changes: Any) -> Trial:
    return with_step(0, optimizer={**optimizer.model_dump(), **changes})


def with_data(**changes: Any) -> Trial:
    return replace(TRIAL, data=TRIAL.data.model_copy(update=changes))


STARTS = {
    "mean": with_data(mean=0.1),
    "std": with_data(std=2.0),
    "validation": with_data(validation=0.4),
    "validation from": with_data(validation=0.4, validation_from="test"),
    "examples": with_data(examples=6),
    "pool": with_data(pool="half"),
    "hidden": replace(TRIAL, network=NetworkSpec(name="mlp", hidden=(6,))),
    "depth": replace(TRIAL, network=NetworkSpec(name="mlp", hidden=(5, 5))),
    "seed": replace(TRIAL, seed=2),
    "precision": replace(TRIAL, precision="bf16"),
    "device": replace(TRIAL, device="cuda"),
}
TRAININGS = {
    "epochs": with_step(0, epochs=4),
    "batch": with_step(0, batch=64),
    "optimizer_state": with_step(0, optimizer_state="keep"),
    "patience": with_step(0, early_stop=EarlyStop(watch="train_loss", patience=1)),
    "longer patience": with_step(0, early_stop=EarlyStop(watch="train_loss", patience=2)),
    "target": with_step(0, early_stop=EarlyStop(watch="train_loss", patience=1, target=0.1)),
    "min_delta": with_step(0, early_stop=EarlyStop(watch="train_loss", patience=1, min_delta=1)),
    "watch": with_step(0, early_stop=EarlyStop(watch="train_accuracy", patience=1)),
    "schedule": with_step(0, schedule=Cosine()),
    "floor": with_step(0, schedule=Cosine(floor=0.1)),
    "every": with_step(0, schedule=StepDecay(every=1)),
    "every more": with_step(0, schedule=StepDecay(every=2)),
    "step gamma": with_step(0, schedule=StepDecay(every=2, gamma=0.2)),
    "gamma": with_step(0, schedule=Exponential(gamma=0.1)),
    "rate": with_optimizer(TRAIN.optimizer, rate=0.2),
    "momentum": with_optimizer(TRAIN.optimizer, momentum=0.8),
    "nesterov": with_optimizer(TRAIN.optimizer, nesterov=True),
    "weight_decay": with_optimizer(TRAIN.optimizer, weight_decay=0.1),
    "adam": with_optimizer(Adam()),
    "betas": with_optimizer(Adam(), betas=(0.9, 0.99)),
    "epsilon": with_optimizer(Adam(), epsilon=1e-7),
    "adamw": with_optimizer(AdamW()),
    "adadelta": with_optimizer(Adadelta()),
    "rho": with_optimizer(Adadelta(), rho=0.95),
}
PRUNINGS = {
    "sparsity": with_step(1, sparsity=0.6),
    "score": with_step(1, score="random"),
    "allocation": with_step(1, allocation="uniform"),
    "mapping": with_step(1, allocation={"dense1": 0.5, "dense*": 0.2}),
    "erdos-renyi": with_step(1, sparsity=None, allocation=ErdosRenyi(epsilon=2)),
    "epsilon": with_step(1, sparsity=None, allocation=ErdosRenyi(epsilon=3)),
    "erk": with_step(1, allocation=ERK()),
    "fan-in": with_step(1, sparsity=None, allocation=FixedFanIn(connections=2)),
    "n-by-m": with_step(1, sparsity=None, pattern=NByM(n=1, m=2)),
    "block": with_step(1, pattern=Block(rows=2, columns=1)),
    "enforce": with_step(1, enforce=False),
    "pattern": with_step(1, pattern="unit"),
    "exclude": with_step(1, exclude=("output layer",)),
    "regrow": replace(TRIAL, steps=(TRAIN, Regrow(), *TRIAL.steps[2:])),
    "pack": replace(TRIAL, steps=(TRAIN, Pack(), *TRIAL.steps[2:])),
    "pack anew": replace(TRIAL, steps=(TRAIN, Pack(initialisation="he"), *TRIAL.steps[2:])),
}


def lent(recipe: tuple[Any, ...] = (TRAIN, PRUNE), **others: Any) -> Trial:
    source = {name: others.pop(name) for name in ("data", "seed_offset") if name in others}
    transfer = Transfer(source=Source(recipe=recipe, **source), **others)
    return replace(TRIAL, steps=(transfer, TRAIN))


LENT = lent()
LENDERS = {
    "recipe": lent((Train(epochs=4, optimizer=Sgd(momentum=0.9)), PRUNE)),
    "pruning": lent((TRAIN, Prune(sparsity=0.6))),
    "seed_offset": lent(seed_offset=1),
    "shuffle": lent(shuffle="layer"),
    "shuffle in units": lent(shuffle="unit"),
    "enforce": lent(enforce=False),
}


def test_whatever_determines_numbers_changes_the_keys() -> None:
    original = keyed(TRIAL, tiny())
    seen = {original.record}
    for first_changed, trials in ((0, STARTS), (1, TRAININGS), (2, PRUNINGS)):
        for what, trial in trials.items():
            other = keyed(trial, tiny())
            same = [a == b for a, b in zip(original.states, other.states, strict=True)]
            expected = [position < first_changed for position in range(len(same))]
            assert same == expected, what
            assert other.record not in seen, what
            seen.add(other.record)


def test_what_a_mask_is_borrowed_from_changes_the_keys() -> None:
    original = keyed(LENT, tiny())
    seen = {original.states[1]}
    for what, trial in LENDERS.items():
        other = keyed(trial, tiny())
        assert other.states[0] == original.states[0], what
        assert other.states[1] not in seen, what
        assert other.states[2] != original.states[2], what
        seen.add(other.states[1])


def test_the_dataset_of_a_source_changes_the_keys_by_its_content() -> None:
    def with_source(name: str, change: str) -> list[str]:
        found = keyed(lent(data=name), tiny(), elsewhere=lambda _: tiny(change))
        return [*found.states, found.record]

    own = keyed(LENT, tiny())
    assert with_source("tiny", "x_train") == [*own.states, own.record]  # its own, not elsewhere
    assert with_source("a", "") == [*own.states, own.record]
    assert with_source("a", "x_train") == with_source("b", "x_train")
    assert with_source("a", "x_train")[0] == own.states[0]
    assert not set(with_source("a", "x_train")[1:]) & set(own.states)


def test_a_source_has_the_keys_of_the_trial_that_it_is() -> None:
    found = keyed(LENT, tiny()).sources[0]
    alone = keyed(replace(TRIAL, seed=1001, steps=(TRAIN, PRUNE)), tiny())
    assert found.states == alone.states
    # Its training comes first among what the borrower rests on.
    assert keyed(LENT, tiny()).phases == (alone.states[1], keyed(LENT, tiny()).states[2])


def test_sources_may_borrow_themselves() -> None:
    inner = LENT.steps[0]
    found = keyed(lent((inner, TRAIN)), tiny())
    assert found.sources[0].trial.seed == 1001
    assert found.sources[0].sources[0].trial.seed == 2001
    assert len(found.phases) == 3


def test_a_mask_does_not_go_to_a_network_of_another_shape() -> None:
    x = np.arange(45, dtype=np.float32).reshape(9, 5)
    wider = Dataset("wider", x, np.arange(9) % 3, x, np.arange(9) % 3, classes=3, scale=1.0)
    more = replace(tiny(), name="more", y_train=np.arange(9) % 4, classes=4)
    for other, numbers in ((wider, "(5,) and 3 classes"), (more, "(4,) and 4 classes")):
        with pytest.raises(InputError) as caught:
            keyed(lent(data="elsewhere"), tiny(), elsewhere=lambda _, other=other: other)  # type: ignore[misc]
        assert str(caught.value) == (
            f"a mask cannot go from {other.name} to tiny: the network of one has examples of shape "
            f"{numbers}, of the other (4,) and 3"
        )


def test_the_keys_know_how_many_examples_are_trained_on() -> None:
    assert keyed(TRIAL, tiny()).train_examples == 9
    assert keyed(with_data(pool="half"), tiny()).train_examples == 5  # seed 1 has the larger half
    assert keyed(with_data(examples=6, validation=0.5), tiny()).train_examples == 3
    with pytest.raises(InputError, match="examples asks for a pool of 10, but tiny has 9"):
        keyed(with_data(examples=10), tiny())


@pytest.mark.parametrize("change", ["x_train", "y_train", "x_test", "y_test", "scale"])
def test_the_content_of_the_dataset_changes_every_key(change: str) -> None:
    original, other = keyed(TRIAL, tiny()), keyed(TRIAL, tiny(change))
    assert not set(original.states) & set(other.states)
    assert original.record != other.record


def test_names_do_not_change_the_keys() -> None:
    other = keyed(with_data(name="elsewhere.npz"), tiny("name"))
    assert other.states == keyed(TRIAL, tiny()).states
    assert other.record == keyed(TRIAL, tiny()).record


def test_what_is_measured_changes_the_record_alone() -> None:
    original = keyed(TRIAL, tiny())
    records = {original.record}
    for measure in (MeasureSpec(train_examples=4), MeasureSpec(leakage=True)):
        other = keyed(replace(TRIAL, measure=measure), tiny())
        assert other.states == original.states
        records.add(other.record)
    assert len(records) == 3


def test_the_same_trial_written_otherwise_has_the_same_keys() -> None:
    other = replace(
        TRIAL,
        data=DataSpec(name="tiny", mean=0, std=1, validation=0),
        steps=(
            Train(epochs=3, batch=128, optimizer=Sgd(rate=0.1, momentum=0.9, weight_decay=0)),
            Prune(sparsity=0.5, exclude=()),
            Rewind(),
            TRAIN,
        ),
    )
    assert keyed(other, tiny()) == replace(keyed(TRIAL, tiny()), trial=other)


def test_the_order_of_steps_changes_the_keys() -> None:
    one = keyed(replace(TRIAL, steps=(TRAIN, PRUNE)), tiny())
    two = keyed(replace(TRIAL, steps=(PRUNE, TRAIN)), tiny())
    assert one.states[0] == two.states[0]
    assert not set(one.states[1:]) & set(two.states[1:])


def test_trials_that_start_alike_share_the_keys_of_their_start() -> None:
    original, other = keyed(TRIAL, tiny()), keyed(with_step(1, sparsity=0.9), tiny())
    assert original.states[:2] == other.states[:2]
    assert original.phases[0] == other.phases[0]
    assert not set(original.states[2:]) & set(other.states)


def test_phases_are_the_states_after_trainings() -> None:
    found = keyed(TRIAL, tiny())
    assert found.phases == (found.states[1], found.states[4])
    assert len(set(found.states)) == 5


def test_the_record_is_the_hash_of_its_identity() -> None:
    found = keyed(TRIAL, tiny())
    assert found.record == key_of(found.identity)
    assert json.loads(json.dumps(found.identity)) == found.identity


def test_a_network_that_does_not_suit_the_data_is_refused() -> None:
    with pytest.raises(InputError):
        keyed(replace(TRIAL, network=NetworkSpec(name="fashion-cnn")), tiny())


def test_a_users_network_is_known_by_its_source_and_weights(
    home_made: str, points: Dataset
) -> None:
    trial = replace(TRIAL, network=NetworkSpec(name=f"{home_made}:dropout"))
    identity = keyed(trial, points).identity
    assert set(identity["origin"]["network"]) == {"name", "sources", "weights"}
    other = keyed(replace(trial, seed=2), points).identity
    weights = [found["origin"]["network"]["weights"] for found in (identity, other)]
    assert weights[0] != weights[1]


GOLDEN = {
    "plain": "57995823eb50f2c6322efcea0c16e7172c39ff00c8b9dfa37cfa78da0f9b1980",
    "cosine": "b71abce67c304845d3a905426a8e5e7c4675defd2919bf49b512a432c67bf8a2",
    "mapping": "fd3f3063a9740c64647e1008f52e657b56d64c75aca1e057458f7695dfe1ee33",
    "adam": "c16881975027b99fe15a89c885fad395b0db718ac726aeb12fd177b90ef1d38e",
    "transfer": "74b3737a0b78d459741bf76698e311d786c4c4c17c4002da2d1a63c118d7209e",
    "pack": "5f90fc3020b8bfdc4094787965a44112401255aac85801939a0c0cd357b20a33",
}


def pinned() -> dict[str, str]:
    return {
        what: keyed(trial, tiny()).record
        for what, trial in {
            "plain": TRIAL,
            "cosine": TRAININGS["schedule"],
            "mapping": PRUNINGS["mapping"],
            "adam": TRAININGS["betas"],
            "transfer": LENT,
            "pack": replace(TRIAL, steps=(PRUNINGS["erdos-renyi"].steps[1], Pack(), TRAIN)),
        }.items()
    }


def test_keys_stay_what_they_are_from_version_to_version() -> None:
    # A key that changes orphans every result on disk: only a change of meaning may do that.
    assert pinned() == GOLDEN


PROCESS = """
from gossamer.data import load
from gossamer.networks import NetworkSpec, build, names
from gossamer.recipes import *
steps = (Train(epochs=1), Prune(sparsity=0.5, allocation={"b": 0.1, "dense1": 0.2}), Rewind())
trial = Trial(DataSpec(name="digits"), NetworkSpec(name="mlp", hidden=(5,)), 0, steps)
found = keyed(trial, load("digits", None))
print(found.record, *found.states)
"""


def test_whether_units_go_together_is_told_where_it_may_matter() -> None:
    """No published network has tied units, so that keys of these stay what they were."""
    units, single = (
        Prune(sparsity=0.5, pattern="unit", coupled=coupled) for coupled in (True, False)
    )
    for name in names():
        keys = {key_of(step.keyed_for(NetworkSpec(name=name))) for step in (units, single)}
        assert keys == {key_of(units.described())}
    own = NetworkSpec(name="my.networks:small")
    assert units.keyed_for(own) == {**units.described(), "coupled": True}
    assert single.keyed_for(own) == single.described()
    assert Prune(sparsity=0.5).keyed_for(own) == Prune(sparsity=0.5).described()


@pytest.mark.parametrize("name", names())
def test_published_networks_have_no_units_that_are_tied(name: str) -> None:
    shape = (784,) if name == "mlp" else (3, 32, 32) if name.startswith("cifar") else (1, 28, 28)
    network = build(NetworkSpec(name=name), shape, 10, seed=0)
    for allocation in ("global", "uniform"):
        chosen: dict[str, Any] = {"pattern": "unit", "allocation": allocation}
        chosen["example"] = torch.rand(2, *shape)
        together, single = (find_mask(network, 0.5, **chosen, coupled=c) for c in (True, False))
        assert together == single


def test_processes_agree_on_keys() -> None:
    outputs = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", PROCESS],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(run.stdout)
    (output,) = outputs
    assert len(output.split()) == 5


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ({"sparsity": 0.5}, "9f51555ce71d0bff"),
        ({"sparsity": 0.5, "pattern": "unit"}, "0eda89156141c3c7"),
        ({"sparsity": 0.5, "score": "random", "allocation": "uniform"}, "6193399600a7bb4f"),
        ({"sparsity": 0.5, "allocation": {"dense1": 0.5, "dense*": 0.2}}, "57d6041f42b05c4e"),
        ({"allocation": {"name": "erdos-renyi", "epsilon": 20}}, "48eb3b55a973bfff"),
        ({"sparsity": 0.9, "allocation": {"name": "erk"}}, "e24ec423a16ac72e"),
        ({"allocation": {"name": "fixed-fan-in", "connections": 3}}, "76fd84de30dc2ddb"),
        ({"pattern": {"name": "n-by-m", "n": 2, "m": 4}}, "bda02c332d9fae32"),
        (
            {"sparsity": 0.5, "pattern": {"name": "block", "rows": 4, "columns": 1},
             "enforce": False, "exclude": ["output layer"]},
            "00a78a0b6c6fb8a8",
        ),
    ],
)  # fmt: skip
def test_prunings_keep_the_keys_that_they_always_had(written: dict[str, Any], key: str) -> None:
    step = Prune.model_validate({"step": "prune", **written})
    described = step.described()
    assert key_of(described).startswith(key)
    del described["version"]
    assert Prune.model_validate(described) == step
