"""Sensitivity: each layer alone, on the same examples, by the definition and by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer.core.errors import InputError
from gossamer.records.sensitivity import LayerSensitivity, Level
from gossamer.reporting.sensitivity import sensitivity_figure, sensitivity_lines
from gossamer.shrinking.data import read_data
from gossamer.shrinking.sensitivity import probe, summary
from gossamer.shrinking.task import classification


class Residual(nn.Module):
    """Two convolutions whose units a sum ties, one whose units are its own, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.inner = nn.Conv2d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x + self.last(torch.relu(self.norm(self.inner(x))))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


@pytest.fixture(scope="module")
def model() -> Residual:
    torch.manual_seed(0)
    return Residual()


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(120, 1, 6, 6, generator=generator), torch.arange(120) % 4
    return {"train": (x[:60], y[:60]), "validation": (x[60:], y[60:])}


def test_each_number_is_that_of_the_layer_pruned_by_hand(
    model: Residual, data: dict[str, Any]
) -> None:
    found = gossamer.sensitivity(model, data, levels=[0.5, 0.9])
    x, y = data["validation"]
    assert [one.label for one in found.layers] == ["first", "inner", "last", "head"]
    model.eval()
    before = (model(x).argmax(1) == y).double()
    assert found.before == pytest.approx(float(before.mean()))
    for layer in found.layers:
        for level in layer.levels:
            copy = Residual().eval()
            copy.load_state_dict(model.state_dict())
            weight = copy.get_parameter(layer.names[0])
            count = round(level.asked * weight.numel())
            with torch.no_grad():
                weight.view(-1)[weight.abs().flatten().argsort(stable=True)[:count]] = 0
                outputs = copy(x)
            after = (outputs.argmax(1) == y).double()
            assert level.drop == pytest.approx(float((before - after).mean()), abs=1e-12)
            assert level.low <= level.drop <= level.high
            grows = functional.cross_entropy(outputs, y) - functional.cross_entropy(model(x), y)
            assert level.loss == pytest.approx(grows.item(), abs=1e-5)
            assert level.sparsity == pytest.approx(count / weight.numel())


def test_units_that_go_together_are_one_layer_and_go_with_their_normalisation(
    model: Residual, data: dict[str, Any]
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = gossamer.sensitivity(model, data, levels=[0.5], pattern="unit")
    assert [one.names for one in found.layers] == [
        ("first.weight", "last.weight"),
        ("inner.weight",),
    ]
    inner = found.layers[1]
    copy = Residual().eval()
    copy.load_state_dict(model.state_dict())
    gossamer.prune(copy, 0.0, allocation={"inner": 0.5}, pattern="unit", example=data["train"][0])
    assert int((copy.norm.weight == 0).sum()) == 4
    x, y = data["validation"]
    with torch.no_grad():
        after = (copy(x).argmax(1) == y).double().mean()
    assert inner.levels[0].drop == pytest.approx(found.before - float(after), abs=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_seed_decides_and_a_network_in_training_mode_stays_there(
    model: Residual, data: dict[str, Any]
) -> None:
    model.train()
    first, again, other = (
        gossamer.sensitivity(model, data, levels=[0.9], examples=20, seed=seed)
        for seed in (0, 0, 1)
    )
    assert model.training
    assert first.layers == again.layers
    assert first.layers != other.layers
    assert first.examples == 20


def test_any_task_through_its_metric(data: dict[str, Any]) -> None:
    x = torch.randn(60, 5)
    model = nn.Linear(5, 1)
    found = gossamer.sensitivity(
        model,
        {"train": (x, x.sum(1)), "validation": (x, model(x)[:, 0].detach())},
        loss=lambda outputs, targets: functional.mse_loss(outputs[:, 0], targets),
        metric=lambda outputs, targets: (outputs[:, 0] - targets).square(),
        higher_is_better=False,
        levels=[0.2, 1.0],
    )
    assert found.before == 0.0
    small, whole = found.layers[0].levels
    lost = (x @ model.weight[0]).square().mean()
    assert whole.drop == pytest.approx(float(lost.detach()), rel=1e-5)
    assert 0 < small.drop < whole.drop


class Two(nn.Module):
    """Takes two inputs, by order or by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 9), nn.Linear(3, 9), nn.Linear(9, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.left(left) + self.right(right)))
        return out


@pytest.mark.parametrize("pattern", ["weight", "unit"])
def test_several_inputs_by_order_and_by_name_are_the_same(pattern: str) -> None:
    left, right, labels = torch.randn(50, 4), torch.randn(50, 3), torch.arange(50) % 2
    model = Two()
    by_order, by_name = (
        gossamer.sensitivity(
            model, {"train": (inputs, labels), "validation": (inputs, labels)},
            levels=[0.5], pattern=pattern,
        )
        for inputs in ((left, right), {"right": right, "left": left})
    )  # fmt: skip
    assert by_order.layers == by_name.layers
    assert len(by_order.layers) == (3 if pattern == "weight" else 1)  # a sum ties the two


def test_interrupted_halfway_the_weights_are_back(
    model: Residual, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = probe(model, read_data(data, test=False), classification(), levels=[0.9])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(
        "gossamer.shrinking.sensitivity.outputs_of",
        lambda *_: (_ for _ in ()).throw(KeyboardInterrupt),
    )
    with pytest.raises(KeyboardInterrupt):
        list(ready.each())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"levels": []}, "levels is empty"),
        ({"levels": [90]}, "a level must lie .*90% is 0.9"),
        ({"examples": 1}, "examples is 1"),
        ({"pattern": gossamer.NByM(2, 4)}, "fixes the sparsity"),
        ({"exclude": ["nothing"]}, "matches no parameter"),
        ({"score": "sparsegpt"}, "sparsegpt changes the weights that stay, .* masks alone"),
        ({"metric": functional.mse_loss}, "loss is missing"),
    ],
)
def test_what_cannot_be_asked(
    model: Residual, data: dict[str, Any], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        gossamer.sensitivity(model, data, **given)


def test_a_table_and_a_figure_hold_each_cell(model: Residual, data: dict[str, Any]) -> None:
    ready = probe(model, read_data(data, test=False), classification(), levels=[0.5, 0.9])
    layers = [ready.of(ready.groups[0]), ready.of(ready.groups[3])]
    found = summary(ready, layers, read_data(data, test=False), "residual", 0, 1.0)
    assert not found.finished
    lines = sensitivity_lines(found).splitlines()
    assert lines[0].startswith("layer,weights,asked,sparsity,drop")
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["first.weight", "54", "0.5"],
        ["first.weight", "54", "0.9"],
        ["head.weight", "24", "0.5"],
        ["head.weight", "24", "0.9"],
    ]
    cells = sensitivity_figure(found).panels[0].all_rows
    assert {(row["row"], row["place"]) for row in cells} == {
        (layer, place) for layer in ("first (54)", "head (24)") for place in ("50", "90")
    }


def test_what_a_layer_tolerates_ends_at_the_first_level_that_is_too_much() -> None:
    drops = (0.001, 0.02, 0.003)
    levels = tuple(
        Level(asked=s, sparsity=s, drop=d, low=d, high=d, loss=0.0)
        for s, d in zip((0.5, 0.7, 0.9), drops, strict=True)
    )
    layer = LayerSensitivity(names=("a.weight", "b.weight"), weights=10, levels=levels)
    assert (layer.tolerates(0.005), layer.tolerates(0.05), layer.tolerates(0.0)) == (0.5, 0.9, 0.0)
    assert layer.label == "a (+1)"
