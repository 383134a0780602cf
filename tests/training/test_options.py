import math
import operator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gossamer.training import (
    Adadelta,
    Adam,
    AdamW,
    Augmentation,
    Constant,
    Cosine,
    EarlyStop,
    Exponential,
    Schedule,
    Sgd,
    StepDecay,
    TrainingOptions,
)

EPOCHS = 12


def rates(schedule: Schedule, rate: float = 0.5, epochs: int = EPOCHS) -> list[float]:
    options = TrainingOptions(epochs=epochs, optimizer=Sgd(rate=rate), schedule=schedule)
    return [options.rate(epoch) for epoch in range(epochs)]


def test_constant_rate_stays() -> None:
    assert rates(Constant()) == [0.5] * EPOCHS


def test_step_decay_multiplies_every_so_many_epochs() -> None:
    expected = [0.5 * 0.2 ** (epoch // 5) for epoch in range(EPOCHS)]
    assert rates(StepDecay(every=5, gamma=0.2)) == pytest.approx(expected, rel=1e-15)
    assert len(set(expected)) == 3


def test_exponential_rate_is_multiplied_after_each_epoch() -> None:
    found = rates(Exponential(gamma=0.9))
    assert found[0] == 0.5
    ratios = [later / earlier for earlier, later in pairwise(found)]
    assert ratios == pytest.approx([0.9] * (EPOCHS - 1), rel=1e-14)


@given(st.floats(0, 0.99), st.integers(1, 300))
def test_cosine_falls_from_the_rate_towards_its_floor(floor: float, epochs: int) -> None:
    found = rates(Cosine(floor=floor), rate=1.0, epochs=epochs)
    assert found[0] == pytest.approx(1)
    assert all(later < earlier for earlier, later in pairwise(found))
    half_angle = [math.cos(math.pi * epoch / (2 * epochs)) ** 2 for epoch in range(epochs)]
    assert found == pytest.approx([floor + (1 - floor) * h for h in half_angle], rel=1e-9)


def brute_force_stop(stop: EarlyStop, values: list[float]) -> int | None:
    """Return after how many epochs a training with these values ends early."""
    better = operator.lt if stop.watch.endswith("loss") else operator.gt
    sign = -1 if stop.watch.endswith("loss") else 1
    best: float | None = None
    waited = 0
    for count, value in enumerate(values, start=1):
        if stop.target is not None and (value == stop.target or better(value, stop.target)):
            return count
        if best is None or better(value, best + sign * stop.min_delta):
            best, waited = value, 0
        else:
            waited += 1
        if stop.patience is not None and waited == stop.patience:
            return count
    return None


@given(
    st.lists(st.integers(0, 12).map(lambda n: n / 8), min_size=1, max_size=15),
    st.sampled_from(["train_loss", "validation_accuracy"]),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(0, 12).map(lambda n: n / 8),
    st.sampled_from([0.0, 0.125, 0.25]),
)
def test_early_stop_agrees_with_brute_force(
    values: list[float], watch: Any, patience: int | None, target: float | None, min_delta: float
) -> None:
    if patience is None and target is None:
        patience = 1
    stop = EarlyStop(watch=watch, patience=patience, target=target, min_delta=min_delta)
    ended = next((n for n in range(1, len(values) + 1) if stop.reason(values[:n])), None)
    assert ended == brute_force_stop(stop, values)


def test_early_stop_tells_why() -> None:
    stop = EarlyStop(watch="validation_accuracy", target=0.9, patience=1)
    assert stop.reason([0.5, 0.95]) == "validation_accuracy reached 0.95, the target 0.9"
    assert stop.reason([0.5, 0.5]) == "validation_accuracy has not improved for 1 epochs"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({}, "epochs"),
        ({"epochs": 1, "batch": 0}, "batch"),
        ({"epochs": 1, "optimizer": {"name": "sgd", "rate": math.nan}}, "optimizer.sgd.rate"),
        ({"epochs": 1, "optimizer": {"name": "sgd", "rate": math.inf}}, "optimizer.sgd.rate"),
        ({"epochs": 1, "optimizer": {"name": "adam", "rate": 0}}, "optimizer.adam.rate"),
        ({"epochs": 1, "optimizer": {"name": "adam", "betas": (0.9, 1)}}, "optimizer.adam.betas.1"),
        ({"epochs": 1, "optimizer": {"name": "lion"}}, "optimizer"),
        ({"epochs": 1, "optimizer": {"rate": 0.1}}, "optimizer"),
        ({"epochs": 1, "optimizer": {"name": "sgd", "speed": 1}}, "optimizer.sgd.speed"),
        ({"epochs": 1, "optimizer": {"name": "sgd", "nesterov": True}}, "nesterov"),
        ({"epochs": 1, "optimizer": {"name": "sgd", "momentum": 1}}, "optimizer.sgd.momentum"),
        ({"epochs": 1, "optimizer": {"name": "adamw", "weight_decay": -1}}, "weight_decay"),
        ({"epochs": 1, "schedule": {"name": "step", "every": 0}}, "schedule.step.every"),
        ({"epochs": 1, "schedule": {"name": "exponential"}}, "schedule.exponential.gamma"),
        ({"epochs": 1, "schedule": {"name": "cosine", "floor": 1}}, "schedule.cosine.floor"),
        ({"epochs": 1, "early_stop": {}}, "early_stop"),
        ({"epochs": 1, "early_stop": {"patience": 0}}, "early_stop.patience"),
        ({"epochs": 1, "early_stop": {"watch": "test_loss", "patience": 1}}, "early_stop.watch"),
        ({"epochs": 1, "augmentation": {}}, "augmentation changes nothing"),
        ({"epochs": 1, "augmentation": {"rotation": 0, "flip": False}}, "changes nothing"),
        ({"epochs": 1, "augmentation": {"rotation": 181}}, "augmentation.rotation"),
        ({"epochs": 1, "augmentation": {"rotation": -1}}, "augmentation.rotation"),
        ({"epochs": 1, "augmentation": {"shift": 1}}, "augmentation.shift"),
        ({"epochs": 1, "augmentation": {"shear": 90}}, "augmentation.shear"),
        ({"epochs": 1, "augmentation": {"zoom": 1}}, "augmentation.zoom"),
        ({"epochs": 1, "augmentation": {"zoom": math.nan}}, "augmentation.zoom"),
        ({"epochs": 1, "augmentation": {"flip": True, "fill": "nearest"}}, "augmentation.fill"),
        ({"epochs": 1, "colour": "red"}, "colour"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingOptions.model_validate(values)
    assert field in str(caught.value)


@pytest.mark.parametrize("kind", [Sgd, Adam, AdamW, Adadelta])
def test_options_come_back_from_json(kind: Any) -> None:
    options = TrainingOptions(epochs=2, optimizer=kind(), schedule=Cosine())
    again = TrainingOptions.model_validate_json(options.model_dump_json())
    assert again == options
    assert type(again.optimizer) is kind


@pytest.mark.parametrize(
    "choice", [{"rotation": 180}, {"shift": 0.5}, {"shear": 0.2}, {"zoom": 0.5}, {"flip": True}]
)
def test_augmentation_of_one_kind_is_enough(choice: dict[str, Any]) -> None:
    options = TrainingOptions.model_validate({"epochs": 1, "augmentation": choice})
    assert options.augmentation == Augmentation(**choice)


def test_options_without_augmentation_are_written_as_before_there_was_any() -> None:
    # The keys of finished trainings are made of what is written.
    assert "augmentation" not in TrainingOptions(epochs=1).model_dump()
    asked = TrainingOptions(epochs=1, augmentation=Augmentation(shift=0.2))
    written = asked.model_dump(mode="json")["augmentation"]
    assert written == {"rotation": 0.0, "shift": 0.2, "shear": 0.0, "zoom": 0.0, "flip": False}
    assert TrainingOptions.model_validate_json(asked.model_dump_json()) == asked
