from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer.training import Adadelta, Adam, AdamW, OptimizerOptions, Sgd
from gossamer.training.optimizers import (
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_rate,
)

ALL = [Sgd(momentum=0.9), Adam(), AdamW(), Adadelta()]


def convolution() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def step(network: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    inputs = torch.linspace(-1, 1, 2 * 3 * 16).view(2, 3, 4, 4) * number
    network(inputs).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def slots(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}/{slot}": value
        for name, parameter in network.named_parameters()
        for slot, value in optimizer.state[parameter].items()
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            Sgd(rate=0.3, momentum=0.8, nesterov=True, weight_decay=0.1),
            {"lr": 0.3, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1, "dampening": 0},
        ),
        (
            Adam(rate=0.3, betas=(0.8, 0.9), epsilon=1e-4, weight_decay=0.1),
            {"lr": 0.3, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.1, "amsgrad": False},
        ),
        (
            AdamW(rate=0.3, betas=(0.8, 0.9), epsilon=1e-4, weight_decay=0.1),
            {"lr": 0.3, "betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.1, "amsgrad": False},
        ),
        (
            Adadelta(rate=0.3, rho=0.8, epsilon=1e-4, weight_decay=0.1),
            {"lr": 0.3, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.1},
        ),
    ],
)
def test_every_option_reaches_torch(options: OptimizerOptions, expected: dict[str, Any]) -> None:
    optimizer = make_optimizer(options, nn.Linear(2, 2))
    (group,) = optimizer.param_groups
    assert {name: group[name] for name in expected} == expected
    assert type(optimizer).__name__.lower() == options.name


def test_parameters_that_are_frozen_are_left_alone() -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    (group,) = make_optimizer(Sgd(), network).param_groups
    assert [id(p) for p in group["params"]] == [id(network.weight)]


def test_the_rate_of_every_group_is_set() -> None:
    network = nn.Linear(2, 2)
    groups = [{"params": [p]} for p in network.parameters()]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    set_rate(optimizer, 0.05)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05]


@pytest.mark.parametrize("options", ALL)
def test_a_restored_optimizer_has_the_same_numbers_in_the_same_layout(
    options: OptimizerOptions,
) -> None:
    network = convolution()
    optimizer = make_optimizer(options, network)
    step(network, optimizer, 1)
    kept = optimizer_tensors(optimizer, network)
    again = make_optimizer(options, network)
    restore_optimizer(again, network, kept)
    before, after = slots(optimizer, network), slots(again, network)
    assert before.keys() == after.keys() == kept.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value)
        assert (after[name].stride(), after[name].dtype) == (value.stride(), value.dtype)


@pytest.mark.parametrize("options", ALL)
def test_kept_tensors_are_copies(options: OptimizerOptions) -> None:
    network = convolution()
    optimizer = make_optimizer(options, network)
    step(network, optimizer, 1)
    kept = optimizer_tensors(optimizer, network)
    saved = {name: value.clone() for name, value in kept.items()}
    again = make_optimizer(options, network)
    restore_optimizer(again, network, kept)
    step(network, again, 2)
    assert all(torch.equal(kept[name], saved[name]) for name in saved)
    assert all(value.is_contiguous() for value in kept.values())


def test_plain_sgd_keeps_nothing() -> None:
    network = convolution()
    optimizer = make_optimizer(Sgd(), network)
    step(network, optimizer, 1)
    assert optimizer_tensors(optimizer, network) == {}
