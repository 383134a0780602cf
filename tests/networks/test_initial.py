import math

import pytest
import torch
from torch import nn

from gossamer.networks import fashion_cnn, initialise, mnist_cnn


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize(
    ("name", "fan_in", "fan_out"),
    [
        ("conv1.weight", 1 * 9, 32 * 9),
        ("conv2.weight", 32 * 9, 64 * 9),
        ("dense1.weight", 1600, 250),
        ("output.weight", 250, 10),
    ],
)
def test_weights_are_glorot_uniform(name: str, fan_in: int, fan_out: int) -> None:
    network = fashion_cnn((1, 28, 28), 10)
    initialise(network, seed=3)
    weight = weights(network)[name].double().flatten()
    limit = math.sqrt(6 / (fan_in + fan_out))
    assert weight.abs().max() <= limit * (1 + 1e-6)
    assert weight.abs().max() > 0.97 * limit
    # The standard error of the mean of n uniform numbers is limit / sqrt(3 n).
    assert abs(weight.mean()) < 4 * limit / math.sqrt(3 * len(weight))
    assert weight.var() == pytest.approx(limit**2 / 3, rel=0.2)


def test_biases_are_zero_and_normalisations_stay() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    initialise(network, seed=0)
    drawn = weights(network)
    assert drawn["0.bias"].tolist() == [0, 0, 0]
    assert drawn["1.weight"].tolist() == [1, 1, 1]
    assert drawn["1.bias"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "fan_in"),
    [
        ("conv1.weight", 9),
        ("conv1.bias", 9),
        ("conv2.weight", 32 * 9),
        ("conv2.bias", 32 * 9),
        ("dense1.weight", 9216),
        ("dense1.bias", 9216),
        ("output.weight", 128),
        ("output.bias", 128),
    ],
)
def test_pytorch_weights_and_biases_are_uniform_by_fan_in(name: str, fan_in: int) -> None:
    network = mnist_cnn((1, 28, 28), 10)
    initialise(network, seed=3, initialisation="pytorch")
    drawn = weights(network)[name].double().flatten()
    limit = 1 / math.sqrt(fan_in)
    assert drawn.abs().max() <= limit * (1 + 1e-6)
    # The largest of n is below x limit with probability x**n.
    assert drawn.abs().max() > 1e-6 ** (1 / len(drawn)) * limit
    assert abs(drawn.mean()) < 4 * limit / math.sqrt(3 * len(drawn))


def test_pytorch_limits_are_those_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def noted(tensor: torch.Tensor, low: float, high: float, **_: object) -> torch.Tensor:
        limits.append(high)
        return tensor

    monkeypatch.setattr(torch.Tensor, "uniform_", noted)
    layer = nn.Conv2d(6, 4, (3, 2), groups=2)
    theirs = limits[:]
    limits.clear()
    initialise(layer, seed=0, initialisation="pytorch")
    assert limits == pytest.approx(theirs)
    assert len(limits) == 2


def test_pytorch_normalisations_stay() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    initialise(network, seed=0, initialisation="pytorch")
    drawn = weights(network)
    assert drawn["1.weight"].tolist() == [1, 1, 1]
    assert drawn["1.bias"].tolist() == [0, 0, 0]


def test_draws_depend_on_seed_and_name_alone() -> None:
    first = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(3, 4)})
    second = nn.ModuleDict({"b": nn.Linear(3, 4), "c": nn.Linear(9, 9), "a": nn.Linear(3, 4)})
    initialise(first, seed=5)
    torch.manual_seed(99)
    initialise(second, seed=5)
    assert torch.equal(first.get_parameter("a.weight"), second.get_parameter("a.weight"))
    assert torch.equal(first.get_parameter("b.weight"), second.get_parameter("b.weight"))
    assert not torch.equal(first.get_parameter("a.weight"), first.get_parameter("b.weight"))
    initialise(second, seed=6)
    assert not torch.equal(first.get_parameter("a.weight"), second.get_parameter("a.weight"))


def test_global_generator_is_not_touched() -> None:
    network = nn.Linear(3, 4)
    before = torch.get_rng_state()
    initialise(network, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
