import random
import warnings

import pytest
import torch
from torch import Tensor, nn

from gossamer.networks import NetworkSpec, accepts_channels_last, build, names


class Viewing(nn.Module):
    """The network of a tutorial, which flattens with `view`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.output = nn.Linear(4 * 6 * 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(x))
        return self.output(x.view(x.size(0), -1))  # type: ignore[no-any-return]


class Reshaping(Viewing):
    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("a warning", stacklevel=1)
        random.random()
        x = self.norm(self.convolution(x)) + torch.rand(1)
        return self.output(x.reshape(x.size(0), -1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", names())
def test_published_networks_accept_it(name: str) -> None:
    network = build(NetworkSpec(name=name), (1, 28, 28), 10, seed=0)
    assert accepts_channels_last(network, (1, 28, 28))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_of_images_does_not(channels: int) -> None:
    network = Viewing(channels)
    assert network(torch.zeros(2, channels, 8, 8)).shape == (2, 3)
    assert not accepts_channels_last(network, (channels, 8, 8))


def test_other_examples_than_images() -> None:
    assert not accepts_channels_last(nn.Linear(4, 3), (4,))
    assert not accepts_channels_last(nn.Linear(4, 3), (2, 4))


def test_network_and_generators_stay_as_they_were() -> None:
    network = Reshaping(2)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    drawn = torch.get_rng_state(), random.getstate()
    assert accepts_channels_last(network, (2, 8, 8))
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert network.training
    assert network.convolution.weight.is_contiguous()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name])
