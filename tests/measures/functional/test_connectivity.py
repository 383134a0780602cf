import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.measures.functional import effective_weights
from gossamer.networks import fashion_cnn

Node = tuple[int, int]
"""A unit of a layer; (layer, -1) is the constant that the layer's biases stand for."""


def count(effective: dict[str, Tensor]) -> dict[str, int]:
    return {name: int(weights.sum()) for name, weights in effective.items()}


def fill(network: nn.Module, value: float = 1.0) -> None:
    for parameter in network.parameters():
        parameter.data.fill_(value)


class Ends(nn.Module):
    """Ends in a function of what a dense layer of 3 inputs and 2 units gives."""

    def __init__(self, ending: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.dense = nn.Linear(3, 2, bias=False)
        self.ending = ending

    def forward(self, values: Tensor) -> Any:
        return self.ending(self.dense(values))


def perceptron(weights: Sequence[Tensor], biases: Sequence[Tensor], active: nn.Module) -> nn.Module:
    layers: list[nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = weight, bias
        layers += [layer, active]
    return nn.Sequential(*layers[:-1])


def paths(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """Enumerate every path by depth-first search, and mark the weights on those that end well."""
    marked = [torch.zeros_like(weight, dtype=torch.bool) for weight in weights]

    def follow(layer: int, unit: int, behind: list[tuple[int, int, int]]) -> None:
        if layer == len(weights):
            for number, row, column in behind:
                marked[number][row, column] = True
            return
        for row in weights[layer][:, unit].nonzero().flatten().tolist():
            follow(layer + 1, row, [*behind, (layer, row, unit)])

    for unit in range(weights[0].shape[1]):
        follow(0, unit, [])
    for layer, bias in enumerate(biases):
        for unit in bias.nonzero().flatten().tolist():
            follow(layer + 1, unit, [])
    return marked


@settings(max_examples=150)
@given(
    widths=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    density=st.sampled_from([0.15, 0.3, 0.5, 0.8]),
    biased=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_perceptrons_against_all_paths(
    widths: list[int], density: float, biased: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def sparse(shape: tuple[int, ...], share: float) -> Tensor:
        keep = torch.rand(shape, generator=generator) < share
        return torch.randn(shape, generator=generator) * keep

    weights = [sparse((after, before), density) for before, after in pairwise(widths)]
    biases = [sparse((after,), biased) for after in widths[1:]]
    network = perceptron(weights, biases, nn.ReLU())
    found = effective_weights(network, torch.zeros(1, widths[0]))
    for marked, effective in zip(paths(weights, biases), found.values(), strict=True):
        assert torch.equal(marked, effective)


@pytest.mark.parametrize("density", [0.01, 0.03, 0.2, 1.0])
def test_deep_and_wide_networks_neither_overflow_nor_vanish(density: float) -> None:
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(200, 50, 50, generator=generator) < density
    weights = list(torch.randn(200, 50, 50, generator=generator) * keep)
    biases = [torch.zeros(50)] * 200
    reached = [torch.ones(50, dtype=torch.bool)]
    for weight in weights:
        reached.append((weight[:, reached[-1]] != 0).any(1))
    leading = [torch.ones(50, dtype=torch.bool)]
    for weight in weights[::-1]:
        leading.insert(0, (weight[leading[0]] != 0).any(0))
    found = effective_weights(perceptron(weights, biases, nn.Tanh()), torch.zeros(1, 50))
    for layer, effective in enumerate(found.values()):
        expected = (weights[layer] != 0) & reached[layer] & leading[layer + 1][:, None]
        assert torch.equal(effective, expected)
    assert all(effective.any() for effective in found.values()) == (density > 0.02)


ZERO_PRESERVING = [
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.LeakyReLU(),
    nn.PReLU(),
    nn.RReLU(),
    nn.ELU(),
    nn.CELU(),
    nn.SELU(),
    nn.GELU(),
    nn.SiLU(),
    nn.Mish(),
    nn.Tanh(),
    nn.Hardtanh(),
    nn.Hardswish(),
    nn.Softsign(),
    nn.Softshrink(),
    nn.Hardshrink(),
    nn.Tanhshrink(),
    nn.Dropout(),
    nn.Identity(),
]
CONSTANT = [nn.Sigmoid(), nn.Hardsigmoid(), nn.Softplus(), nn.LogSigmoid(), nn.Threshold(0.1, 20.0)]


@pytest.mark.parametrize("active", ZERO_PRESERVING + CONSTANT, ids=lambda module: repr(module))
def test_activations(active: nn.Module) -> None:
    """Unit 0 is alive, unit 1 has nothing behind it, unit 2 leads nowhere."""
    weights = [torch.tensor([[-9.0], [0.0], [9.0]]), torch.tensor([[-7.0, 5.0, 0.0]])]
    network = perceptron(weights, [torch.zeros(3), torch.zeros(1)], active)
    found = list(effective_weights(network, torch.zeros(1, 1)).values())
    assert found[0].tolist() == [[True], [False], [False]]
    assert found[1].tolist() == [[True, any(active is module for module in CONSTANT), False]]


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()])
def test_normalised_outputs(last: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), last)
    fill(network)
    assert count(effective_weights(network, torch.zeros(1, 3))) == {"0.weight": 12, "2.weight": 8}


def test_dense_cnn_is_wholly_effective() -> None:
    network = fashion_cnn((1, 28, 28), 10)
    fill(network)
    found = effective_weights(network, torch.zeros(1, 1, 28, 28))
    assert sum(count(found).values()) == 421_576 - 32 - 64 - 250 - 10


def test_dead_channels_of_a_cnn() -> None:
    network = fashion_cnn((1, 12, 12), 3)
    for name, parameter in network.named_parameters():
        parameter.data.fill_(0.0 if name.endswith("bias") else -1.0)
    network.get_parameter("conv1.weight").data[:30] = 0
    network.get_parameter("dense1.weight").data[:, : 64 - 4] = 0  # one position a channel
    network.get_parameter("output.weight").data[:, 5:] = 0
    assert count(effective_weights(network, torch.zeros(1, 1, 12, 12))) == {
        "conv1.weight": 2 * 9,
        "conv2.weight": 4 * 2 * 9,
        "dense1.weight": 5 * 4,
        "output.weight": 3 * 5,
    }


def test_weights_that_only_meet_padding() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Flatten())
    fill(network)
    found = effective_weights(network, torch.zeros(1, 1, 1, 1))["0.weight"]
    assert found.flatten().tolist() == [False] * 4 + [True] + [False] * 4


def test_grouped_convolutions() -> None:
    network = nn.Sequential(
        nn.Conv1d(4, 4, 1, groups=2, bias=False), nn.Conv1d(4, 2, 1, groups=2, bias=False)
    )
    fill(network)
    network.get_parameter("1.weight").data[1] = 0
    found = effective_weights(network, torch.zeros(1, 4, 5))
    assert found["0.weight"].flatten(1).tolist() == [[True, True]] * 2 + [[False, False]] * 2
    assert count(found) == {"0.weight": 4, "1.weight": 2}


def test_transposed_convolutions() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(2, 3, 2, bias=False), nn.Conv2d(3, 1, 1, bias=False))
    fill(network)
    network.get_parameter("1.weight").data[0, 1] = 0
    found = effective_weights(network, torch.zeros(1, 2, 3, 3))
    assert found["0.weight"].flatten(2).all(2).tolist() == [[True, False, True]] * 2


POOLINGS = [
    nn.MaxPool1d(3),
    nn.MaxPool1d(3, stride=2, padding=1),
    nn.MaxPool1d(2, dilation=3),
    nn.MaxPool1d(2, ceil_mode=True),
    nn.MaxPool1d(4, stride=5, ceil_mode=True),
    nn.MaxPool1d(3, stride=2, padding=1, dilation=2, ceil_mode=True),
    nn.AdaptiveMaxPool1d(2),
    nn.MaxPool2d((3, 1)),
    nn.MaxPool2d((2, 1), stride=(3, 1), padding=(1, 0), ceil_mode=True),
    nn.AdaptiveMaxPool2d((3, 1)),
    nn.MaxPool3d((3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)),
]


def reach(pool: nn.Module, length: int, dimensions: int) -> list[bool]:
    """Tell which positions some window sees: raising one alone raises the output."""
    seen = []
    for position in range(length):
        spike = torch.zeros(1, 1, length, *[1] * (dimensions - 1))
        spike[0, 0, position] = 1.0
        seen.append(bool(pool(spike).max() > 0))
    return seen


@pytest.mark.parametrize("pool", POOLINGS, ids=lambda module: repr(module))
def test_max_pooling_connects_all_that_it_sees(pool: nn.Module) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            dimensions = int(repr(pool).partition("d(")[0][-1])
            self.scale = nn.Parameter(torch.ones(1, 1, 11, *[1] * (dimensions - 1)))
            self.pool = pool

        def forward(self, values: Tensor) -> Tensor:
            return cast("Tensor", self.pool(values * self.scale))

    network = Scaled()
    found = effective_weights(network, torch.zeros_like(network.scale))["scale"]
    assert found.flatten().tolist() == reach(pool, 11, network.scale.dim() - 2)


@pytest.mark.parametrize(
    "ending",
    [
        torch.relu,
        torch.Tensor.relu,
        functional.relu,
        lambda values: functional.hardtanh(input=values),
        lambda values: values.clamp(0, 0.1),
        lambda values: torch.clip(values, max=0.1),
        lambda values: values.amax(1),
        lambda values: torch.amax(input=values, dim=(1,)),
        lambda values: torch.maximum(values[:, 0], values[:, 1]),
        lambda values: torch.minimum(values[:, 0], values[:, 1]),
        lambda values: values[:, torch.arange(3).clamp(max=1)],
    ],
)
def test_functional_activations_and_maxima(ending: Callable[[Tensor], Any]) -> None:
    # A hundred times as large, the second unit always wins a maximum and saturates.
    network = Ends(lambda values: ending(values * values.new_tensor([1.0, 100.0])))
    network.dense.weight.data = torch.tensor([[-1.0, 0.0, 5.0], [1.0, -1.0, 0.0]])
    found = effective_weights(network, torch.zeros(1, 3))["dense.weight"]
    assert found.tolist() == [[True, False, True], [True, True, False]]


class Residual(nn.Module):
    """Adds two dense layers to their input; the second sees the first through a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.head = nn.Linear(3, 1, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        hidden = values + self.second(torch.relu(self.first(values)))
        return cast("Tensor", self.head(hidden))


def test_residual_connections() -> None:
    network = Residual()
    fill(network, -1.0)
    network.first.weight.data[0] = 0  # unit 0 is dead; the second layer does not hear of it
    network.head.weight.data[0, 2] = 0  # sum 2 leads nowhere
    found = effective_weights(network, torch.zeros(1, 3))
    assert found["first.weight"].tolist() == [[False] * 3, [True] * 3, [True] * 3]
    assert found["second.weight"].tolist() == [[False, True, True]] * 2 + [[False] * 3]
    assert found["head.weight"].tolist() == [[True, True, False]]
    network.second.weight.data.zero_()
    assert count(effective_weights(network, torch.zeros(1, 3))) == {
        "first.weight": 0,
        "second.weight": 0,
        "head.weight": 2,
    }


@pytest.mark.parametrize(
    ("scale", "shift", "mean", "before", "after"),
    [
        (1.0, 0.0, 0.0, True, False),
        (-1.0, 0.0, 0.0, True, False),
        (1.0, 0.5, 0.0, True, True),
        (1.0, 0.0, 0.5, True, True),
        (0.0, 0.5, 0.0, False, True),
        (0.0, 0.0, 0.5, False, False),
    ],
)
def test_batch_normalisation(
    scale: float, shift: float, mean: float, before: bool, after: bool
) -> None:
    """Unit 0 is alive before the normalisation; unit 1 has no weights into it."""
    network = nn.Sequential(
        nn.Linear(1, 2, bias=False), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1, bias=False)
    )
    fill(network)
    network.get_parameter("0.weight").data[1] = 0
    network.get_parameter("1.weight").data[:] = scale
    network.get_parameter("1.bias").data[:] = shift
    network.get_buffer("1.running_mean")[:] = mean
    network.get_buffer("1.running_var")[:] = 1e-12
    found = effective_weights(network, torch.zeros(1, 1))
    assert found["0.weight"].tolist() == [[before], [False]]
    assert found["3.weight"].tolist() == [[before or after, after]]


def test_batch_normalisation_by_the_batch() -> None:
    network = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)
    )
    assert count(effective_weights(network, torch.zeros(1, 3))) == {"0.weight": 12, "2.weight": 8}


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.GroupNorm(1, 4), nn.RMSNorm(4)])
def test_normalisation_over_units_stays_connected(norm: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(3, 4), norm, nn.ReLU(), nn.Linear(4, 2))
    assert count(effective_weights(network, torch.zeros(1, 3))) == {"0.weight": 12, "3.weight": 8}


def test_group_normalisation_connects_within_its_groups_only() -> None:
    network = nn.Sequential(
        nn.Linear(1, 4, bias=False), nn.GroupNorm(2, 4), nn.Linear(4, 1, bias=False)
    )
    fill(network)
    network.get_parameter("2.weight").data[0, 1:] = 0
    found = effective_weights(network, torch.zeros(1, 1))
    assert found["0.weight"].flatten().tolist() == [True, True, False, False]


def test_every_row_of_an_embedding_may_be_looked_up() -> None:
    network = nn.Sequential(
        nn.Embedding(5, 3, padding_idx=0), nn.Flatten(), nn.Linear(6, 1, bias=False)
    )
    network.get_parameter("2.weight").data = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]])
    found = effective_weights(network, torch.tensor([[1, 1]]))
    assert found["0.weight"].tolist() == [[False] * 3] + [[True, True, False]] * 4


def test_attention() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, batch_first=True)
    found = effective_weights(layer, torch.zeros(1, 5, 4))
    assert all(weights.all() for weights in found.values())
    layer.self_attn.out_proj.weight.data.zero_()
    found = effective_weights(layer, torch.zeros(1, 5, 4))
    assert not found["self_attn.in_proj_weight"].any()
    assert found["linear1.weight"].all()


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_recurrent(kind: str) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = getattr(nn, kind)(3, 2, batch_first=True, bias=False)
            self.head = nn.Linear(2, 1)

        def forward(self, values: Tensor) -> Tensor:
            return cast("Tensor", self.head(self.memory(values)[0][:, -1]))

    network = Last()
    found = effective_weights(network, torch.zeros(1, 4, 3))
    assert all(weights.all() for weights in found.values())
    network.head.weight.data.zero_()
    found = effective_weights(network, torch.zeros(1, 4, 3))
    assert not any(weights.any() for weights in found.values())


def test_parametrisations_count_as_they_act() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    fill(network)
    nn.utils.parametrize.register_parametrization(
        network[0], "weight", Masked(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    )
    (found,) = effective_weights(network, torch.zeros(1, 2)).values()
    assert found.tolist() == [[True, False], [True, True]]


class Masked(nn.Module):
    """A parametrisation that multiplies with a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = nn.Buffer(mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def test_shared_and_unused_weights() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(2, 2, bias=False)
            self.again = nn.Linear(2, 2, bias=False)
            self.again.weight = self.dense.weight
            self.unused = nn.Linear(2, 2, bias=False)

        def forward(self, values: Tensor) -> Tensor:
            return cast("Tensor", self.again(self.dense(values))[:, :1])

    network = Twice()
    network.dense.weight.data = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    # The second row counts in the first use alone, as the output of the second is cut off.
    found = effective_weights(network, torch.zeros(1, 2))
    assert found["dense.weight"].tolist() == [[False, True], [False, True]]
    assert list(found) == ["dense.weight", "unused.weight"]
    assert not found["unused.weight"].any()


def test_frozen_weights_count_and_no_grad_does_not_matter() -> None:
    network = nn.Sequential(nn.Linear(2, 3).requires_grad_(False), nn.Linear(3, 1))
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            found = effective_weights(network, torch.zeros(1, 2))
        assert count(found) == {"0.weight": 6, "1.weight": 3}


def test_network_and_generator_are_left_as_they_were() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten())
    network[1].eval()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    first = effective_weights(network, torch.zeros(1, 1, 4, 4))
    second = effective_weights(network, torch.zeros(1, 1, 4, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network] == [True, False, True, True]
    assert {t.dtype for t in network.parameters()} == {torch.float32}
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (lambda values: values.argmax(1), "output of type Tensor that no gradient leads to"),
        (lambda values: (values, values), "output of type tuple that no gradient leads to"),
        (
            lambda values: values @ torch.ones(2, 2),
            r"on torch.float64 input of shape \(3, 3\)",
        ),
        (lambda values: values * math.inf, "The gradient of 'dense.weight' is not finite"),
    ],
)
def test_what_cannot_be_told(ending: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        effective_weights(Ends(ending), torch.zeros(1, 3))


def test_network_that_cannot_be_copied() -> None:
    network = nn.Linear(2, 2)
    network.cache = network.weight * 2
    with pytest.raises(InputError, match=r"The network Linear cannot be copied .*prune\.remove"):
        effective_weights(network, torch.zeros(1, 2))
