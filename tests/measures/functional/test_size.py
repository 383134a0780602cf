from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.measures.functional import count_layers, effective_weights, size
from gossamer.networks import fashion_cnn


def with_zeros(network: nn.Module, name: str, zeros: int) -> None:
    weight = network.get_parameter(name)
    weight.data.fill_(1.0)
    weight.data.flatten()[:zeros] = 0


def test_dense_network() -> None:
    network = fashion_cnn((1, 28, 28), 10)
    with_zeros(network, "dense1.weight", 0)
    counted = size(network, [])
    assert counted.parameters == 421_576
    assert counted.bytes_dense == counted.bytes_compressed == 4 * 421_576
    assert counted.prunable == counted.prunable_nonzero == 0
    assert counted.sparsity == 0.0


def test_pruned_network() -> None:
    network = nn.Sequential(nn.Linear(10, 7), nn.Linear(7, 3))
    with_zeros(network, "0.weight", 60)
    with_zeros(network, "1.weight", 5)
    network.get_parameter("0.bias").data.zero_()
    network.get_parameter("1.bias").data.fill_(1.0)
    counted = size(network, {"0.weight"})
    assert (counted.parameters, counted.nonzero) == (70 + 7 + 21 + 3, 10 + 0 + 16 + 3)
    assert (counted.prunable, counted.prunable_nonzero) == (70, 10)
    assert counted.sparsity == pytest.approx(60 / 70)
    assert counted.total_sparsity == pytest.approx(72 / 101)
    # 70 bits are 9 bytes; the second layer is not prunable, so its zeros take their place.
    assert counted.bytes_compressed == 9 + 4 * 10 + 4 * (7 + 21 + 3)


def test_bytes_follow_the_dtype_and_buffers_do_not_count() -> None:
    network = nn.Sequential(nn.Linear(8, 4, bias=False).bfloat16(), nn.BatchNorm1d(4))
    with_zeros(network, "0.weight", 16)
    counted = size(network, ["0.weight"])
    assert counted.bytes_dense == 2 * 32 + 4 * 8
    assert counted.bytes_compressed == 4 + 2 * 16 + 4 * 8


def test_shared_weights_count_once() -> None:
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    network[1].weight = network[0].weight
    counted = size(network, ["0.weight"])
    assert (counted.parameters, counted.prunable, counted.bytes_dense) == (9, 9, 36)
    (layer,) = count_layers(network, ["0.weight"], effective_weights(network, torch.ones(1, 3)))
    assert layer.name == "0.weight"


def test_negative_zero_is_zero() -> None:
    network = nn.Linear(2, 1, bias=False)
    network.weight.data = torch.tensor([[-0.0, 1.0]])
    assert size(network, ["weight"]).prunable_nonzero == 1


def test_network_without_parameters() -> None:
    assert size(nn.ReLU(), []).total_sparsity == 0.0


def test_layers_are_the_weights_in_order() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    with_zeros(network, "0.weight", 9)
    with_zeros(network, "3.weight", 1)
    effective = effective_weights(network, torch.ones(1, 1, 3, 3))
    effective["0.weight"][:] = False
    convolution, dense = count_layers(network, ["0.weight"], effective)
    assert asdict(convolution) == {
        "name": "0.weight",
        "shape": (2, 1, 3, 3),
        "prunable": True,
        "weights": 18,
        "nonzero": 9,
        "effective": 0,
    }
    assert (dense.name, dense.prunable, dense.nonzero) == ("3.weight", False, 3)


def test_unknown_prunable() -> None:
    message = "The prunable parameter 'weights' is not in the network"
    with pytest.raises(InputError, match=message):
        size(nn.Linear(2, 2), ["weights"])
    with pytest.raises(InputError, match=message):
        count_layers(nn.Linear(2, 2), ["weights"], {})


@pytest.mark.parametrize(
    ("effective", "message"),
    [({}, "this entry is missing"), ({"weight": torch.ones(3)}, r"this entry has shape \(3,\)")],
)
def test_effective_weights_of_another_network(effective: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        count_layers(nn.Linear(2, 2), ["weight"], effective)
