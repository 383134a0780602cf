"""In which precision candidates are trained."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.masks import find_mask
from gossamer.shrinking import precision, shrink
from gossamer.shrinking.descent import Ground
from gossamer.shrinking.fine_tuning import Lesson, lesson, loss_of, train_epochs
from gossamer.shrinking.options import options_of
from gossamer.shrinking.precision import Taken, quickest
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification, task_of

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
SPLIT = Split(X, (X[:, 0] > 0).long())
Seconds = Callable[..., Taken]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()


def learnt(model: nn.Module, **asked: Any) -> Lesson:
    return lesson(SPLIT, classification(), model, options_of(train_batch=8, **asked), None)


def ground(**asked: Any) -> Ground:
    return Ground(SPLIT.example(4), SPLIT, classification(), options_of(**asked), 0.01)


def taking(**seconds: float) -> Seconds:
    """Return what says that an epoch in a precision takes so long."""

    def found(_: nn.Module, lessons: list[Lesson], __: Ground) -> Taken:
        taken = np.array([[seconds[one.precision]] * 3 for one in lessons])
        return Taken(own=taken, wall=10 * taken)

    return found


class Float32Alone(nn.Linear):
    """A layer that fails where another one gives it bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [examples, features]."""
        return (x.view(torch.int32).view(torch.float32)) @ self.weight.T


class Cancelling(nn.Linear):
    """A layer whose answer is the small difference of large numbers."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [examples, features]."""
        return super().forward(x + 1e4) - super().forward(torch.full_like(x, 1e4))


def chosen(monkeypatch: pytest.MonkeyPatch, model: nn.Module, **given: Any) -> str:
    has, known = given.pop("has", True), given.pop("known", None)
    seconds = taking(**{"float32": 3.0, "bf16": 2.0} | given.pop("seconds", {}))
    monkeypatch.setattr(precision, "processor_has_bf16", lambda: has)
    monkeypatch.setattr(precision, "epochs_seconds", seconds)
    found, taken = quickest(model, learnt(model, **given), ground(), known)
    assert taken == {"float32": 30.0, "bf16": 20.0}[found.precision]
    return found.precision


def test_candidates_are_trained_in_bfloat16_where_that_is_faster_and_nearly_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert chosen(monkeypatch, network()) == "bf16"
    assert chosen(monkeypatch, network(), has=False) == "float32"
    assert chosen(monkeypatch, network(), precision="float32") == "float32"
    assert chosen(monkeypatch, network(), precision="bf16", has=False) == "bf16"
    for layer in (Float32Alone(6, 2), Cancelling(6, 2)):
        assert chosen(monkeypatch, nn.Sequential(nn.Linear(4, 6), layer).eval()) == "float32"
    # A search that goes on stays with what it began in.
    assert chosen(monkeypatch, network(), known="float32") == "float32"


def test_what_is_hardly_faster_is_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "processor_has_bf16", lambda: True)
    monkeypatch.setattr(precision, "epochs_seconds", taking(float32=2.4, bf16=2.0))
    assert quickest(network(), learnt(network()), ground(), None)[0].precision == "float32"


def test_losses_in_bfloat16_are_those_of_rounded_products_and_their_gradients_float32() -> None:
    model = network()
    exact = replace(learnt(model), answers=None)  # so that the dense network runs in it, too
    x, y = SPLIT.at(torch.arange(16))

    def gradient(one: Lesson) -> tuple[float, Tensor]:
        model.zero_grad()
        loss = loss_of(model, one, x, y)
        assert loss.dtype == torch.float32
        loss.backward()  # type: ignore[no-untyped-call]
        grad = model.get_parameter("0.weight").grad
        assert grad is not None
        return float(loss.detach()), grad.clone()

    (loss, grad), (rounded, near) = (
        gradient(one) for one in (exact, replace(exact, precision="bf16"))
    )
    assert rounded != loss
    assert rounded == pytest.approx(loss, rel=2**-6)
    assert near.dtype == torch.float32
    assert float((near - grad).norm()) < 2**-5 * float(grad.norm())


def test_weights_stay_float32_and_what_is_pruned_zero() -> None:
    model = network()
    mask = find_mask(model, 0.5, allocation="uniform")
    mask.apply(model)
    train_epochs(model, mask, replace(learnt(model), precision="bf16"), 2, 0, lambda _: None)
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert not mask.violations(model)
    weight = model.get_parameter("0.weight").detach()
    assert not torch.equal(weight, weight.bfloat16().float())


def test_what_candidates_were_trained_in_is_told() -> None:
    data = dict.fromkeys(("train", "validation", "test"), (X, SPLIT.targets))
    options: Any = {
        "max_drop": 0.9, "target": "flops", "pattern": "weight", "epochs": 1, "seconds": 0.02,
    }  # fmt: skip
    with pytest.warns(RuntimeWarning):
        found = shrink(network(), data, precision="bf16", **options).report
    assert found.precision == "bf16"
    assert any("bfloat16 over weights in float32" in one for one in found.findings)


def test_other_tasks_and_trainings_compute_in_what_they_are() -> None:
    options = options_of(precision="bf16")
    error = task_of(
        lambda given, wanted: (given - wanted).square().mean(),
        lambda given, wanted: (given - wanted).abs().mean(1),
        higher_is_better=False,
    )
    for task, train in ((error, None), (classification(), print)):
        with pytest.raises(InputError, match="precision is 'bf16'"):
            lesson(SPLIT, task, network(), options, train)
    with pytest.raises(InputError, match="precision is 'half'"):
        options_of(precision="half")
    assert "precision" not in options_of().key()  # as keys were before
    assert options.key()["precision"] == "bf16"
