import math

import pytest
import torch
from torch import nn

from gossamer.nets import fashion_cnn, initialise


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
