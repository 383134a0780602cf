"""Right answers pass whatever the order of their sums; wrong ones do not hide behind rounding."""

import copy
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression.checking import wrong_answers
from gossamer.compression.rounding import rounding_errors
from gossamer.graph.arguments import Arguments


class OneByOne(nn.Module):
    """A network whose products are added one after the other: no kernel rounds more."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                inputs = in_turn(inputs, layer.weight) + layer.bias
            elif isinstance(layer, nn.Conv2d):
                inputs = convolved_in_turn(inputs, layer)
            else:
                inputs = layer(inputs)
        return inputs


def in_turn(inputs: Tensor, weight: Tensor) -> Tensor:
    products = inputs[:, None] * weight
    total = torch.zeros_like(products[..., 0])
    for place in range(products.shape[-1]):
        total = total + products[..., place]
    return total


def convolved_in_turn(inputs: Tensor, layer: nn.Conv2d) -> Tensor:
    size = layer.kernel_size[0]
    patches = functional.unfold(inputs, size, padding=int(layer.padding[0]))
    weight = layer.weight.flatten(1)
    rows = in_turn(patches.transpose(1, 2).flatten(0, 1), weight)
    side = inputs.shape[-1] + 2 * int(layer.padding[0]) - size + 1
    images = rows.view(len(inputs), -1, len(weight)).transpose(1, 2)
    assert layer.bias is not None
    return images.reshape(len(inputs), -1, side, side) + layer.bias[:, None, None]


def random_network(seed: int) -> tuple[nn.Sequential, Tensor]:
    """Return a network of a random kind, depth, width and sparsity, and an example."""
    torch.manual_seed(seed)
    depth, width = int(torch.randint(2, 11, ())), int(torch.randint(2, 40, ()))
    between = [nn.ReLU, nn.Tanh, nn.SiLU][seed % 3]
    images = seed % 4 == 0
    layers: list[nn.Module] = []
    for number in range(depth):
        before = 3 if number == 0 else width
        if images:
            width = min(width, 12)
            layers += [nn.Conv2d(before if number == 0 else width, width, 3, padding=1)]
        else:
            layers += [nn.Linear(before, width)]
        layers += [between()]
    # Half of them end in an activation, which leaves some outputs near zero.
    network = nn.Sequential(*layers[: len(layers) - seed % 2])
    for parameter in network.parameters():
        parameter.data *= torch.rand_like(parameter) > (seed % 5) / 5
        parameter.data *= 10 ** float(torch.rand(()) - 0.5)
    shape = (2, 3, 6, 6) if images else (3, 3)
    return network.eval(), torch.randn(shape) * 10 ** float(4 * torch.rand(()) - 2)


def problem(other: nn.Module, model: nn.Module, example: Tensor) -> str:
    given = Arguments.of(model, example)
    return wrong_answers({"dense": model, "other": other}, given, True).get("other", "")


@pytest.mark.parametrize("block", range(4))
def test_right_answers_of_random_networks_raise_no_alarm(block: int) -> None:
    for seed in range(25 * block, 25 * block + 25):
        network, example = random_network(seed)
        assert problem(OneByOne(network), network, example) == "", seed


@pytest.mark.parametrize("seed", range(12))
def test_outputs_that_an_activation_leaves_near_zero_are_no_fault(seed: int) -> None:
    """Of a thousand outputs one is always small, and PyTorch's error there small by luck."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(48, 96), nn.ReLU(), nn.Linear(96, 1000), nn.ReLU()).eval()
    assert problem(OneByOne(network), network, torch.randn(2, 48)) == ""


# --- faults


def classifier() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(256, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 1000),
        nn.ReLU(),
    )  # fmt: skip
    return network.eval(), torch.randn(3, 256)


def convolutions() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return network.eval(), torch.randn(2, 3, 12, 12)


def weighted(network: nn.Sequential, number: int) -> nn.Linear | nn.Conv2d:
    layers = [layer for layer in network if isinstance(layer, nn.Linear | nn.Conv2d)]
    return layers[number]


def change_a_weight(network: nn.Sequential) -> None:
    weight = weighted(network, 1).weight.data.flatten(1)
    weight[1, int(weight[1].abs().argsort()[len(weight[1]) // 2])] *= 1.01


def swap_channels(network: nn.Sequential) -> None:
    layer = weighted(network, 1)
    layer.weight.data[[4, 5]] = layer.weight.data[[5, 4]]


def swap_inputs(network: nn.Sequential) -> None:
    layer = weighted(network, 1)
    layer.weight.data[:, [4, 5]] = layer.weight.data[:, [5, 4]]


def forget_a_bias(network: nn.Sequential) -> None:
    cast("Tensor", weighted(network, -1).bias).data[3] = 0


def forget_a_class(network: nn.Sequential) -> None:
    weighted(network, -1).weight.data[7] *= 1.001


FAULTS = (change_a_weight, swap_channels, swap_inputs, forget_a_bias, forget_a_class)


@pytest.mark.parametrize("make", [classifier, convolutions])
def test_no_fault_is_seen_where_there_is_none(
    make: Callable[[], tuple[nn.Sequential, Tensor]],
) -> None:
    network, example = make()
    assert problem(OneByOne(network), network, example) == ""


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("make", [classifier, convolutions])
def test_faults_are_seen(
    fault: Callable[[nn.Sequential], None], make: Callable[[], tuple[nn.Sequential, Tensor]]
) -> None:
    network, example = make()
    other = copy.deepcopy(network)
    fault(other)
    assert "fault of gossamer" in problem(other, network, example)


@pytest.mark.parametrize("place", range(0, 16, 5))
def test_a_hundredth_of_one_weight_of_a_first_layer_is_seen(place: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 4)
    )
    other = copy.deepcopy(network)
    weight = weighted(other, 0).weight.data
    weight[int(weight[:, place].abs().argmax()), place] *= 1.01
    assert "differs" in problem(other, network, torch.randn(8, 16))


class WrongLastRow(nn.Module):
    """Goes wrong in the last example of a batch that does not fill its vectors."""

    def __init__(self, network: nn.Module, lanes: int) -> None:
        super().__init__()
        self.network, self.lanes = network, lanes

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.network(inputs)
        if len(inputs) % self.lanes:
            found[-1] *= 1.001
        return found


@pytest.mark.parametrize("batch", [1, 2, 8, 16])
@pytest.mark.parametrize("lanes", [2, 8, 16])
def test_a_wrong_last_example_is_seen(batch: int, lanes: int) -> None:
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    assert "differs" in problem(WrongLastRow(network, lanes), network, torch.randn(batch, 8))


class Scales(nn.Module):
    """Outputs of ordinary size, and some that are a millionth of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(32, 64), nn.Linear(64, 20)
        self.register_buffer("scale", torch.tensor([1.0, 1e-6]).repeat(10))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(self.head(torch.relu(self.body(inputs))) * self.scale)


def test_small_outputs_are_held_to_what_float32_can_give() -> None:
    network, other = Scales().eval(), Scales().eval()
    other.head.weight.data[::2] *= 1 + 1e-6  # rounding could do as much to the large ones
    assert problem(other, network, torch.randn(4, 32)) == ""
    other.head.weight.data[1] *= 1 + 1e-4
    assert "differs" in problem(other, network, torch.randn(4, 32))


# --- the bound itself


@pytest.mark.parametrize("terms", [10, 1000])
def test_a_sum_is_off_by_a_few_roundoffs_of_its_absolute_terms(terms: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(terms, 50).double()
    inputs = torch.randn(4, terms, dtype=torch.float64)
    exact = layer(inputs).detach()
    (found,) = rounding_errors(layer, Arguments.of(layer, inputs), [exact])
    assert found is not None
    absolute = inputs.abs() @ layer.weight.detach().abs().T + layer.bias.detach().abs()
    share = found / absolute * 2**24
    assert 4 < float(share.mean()) <= float(share.max()) <= 8 * (1 + 1e-6)


def test_errors_travel_through_what_amplifies_them() -> None:
    class Squared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1) ** 2 - 1 - 2 * x  # x ** 2, from numbers near 1

    inputs = torch.full((3, 1), 1e-3, dtype=torch.float64)
    (found,) = rounding_errors(Squared(), Arguments.of(Squared(), inputs), [Squared()(inputs)])
    assert found is not None
    assert float(found.max()) > 0.3 * float(inputs[0, 0] ** 2)


@pytest.mark.parametrize(
    "far",
    [
        lambda x: torch.sub(x + 0.0, 1000.0),
        lambda x: torch.rsub(x + 0.0, 1000.0),
        lambda x: torch.rsub(-(x + 0.0), torch.tensor(-2000.0), alpha=2),
        lambda x: torch.sub(x, torch.full_like(x, 500.0), alpha=2),
    ],
)
def test_a_difference_of_large_numbers_keeps_their_rounding_errors(
    far: Callable[[Tensor], Tensor],
) -> None:
    class Far(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return far(inputs)

    inputs = 1000 + torch.randn(200, 1, dtype=torch.float64)
    (found,) = rounding_errors(Far(), Arguments.of(Far(), inputs), [far(inputs)])
    assert found is not None
    # At most 8 u times the sum of the absolute values, and twice as much for the sum before it.
    assert 0.5 * 8 * 2000 < float(found.max()) * 2**24 < 8 * 6100
