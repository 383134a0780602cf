"""Scores of untrained networks, against their papers' definitions by finite differences."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import InputError, find_mask
from gossamer.masks import ScoreContext, prunable_weights
from gossamer.masks.calibration import Calibration
from gossamer.masks.scores import snip


class Siamese(nn.Module):
    """Two inputs through one convolution; a matrix that is used twice, once transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 2, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.mix = nn.Linear(3, 3)
        self.back = nn.Linear(3, 3, bias=False)
        self.drop = nn.Dropout(0.5)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        hidden = [self.norm(self.conv(x)).tanh().mean((2, 3)) for x in (one, other)]
        result: Tensor = self.drop(self.back(self.mix(hidden[0]).tanh()) - self.mix(hidden[1]))
        return result


def tie(model: Siamese) -> None:
    model.back.weight = nn.Parameter(model.mix.weight.detach().t())  # the same memory


def siamese() -> tuple[Siamese, list[tuple[Any, Tensor]]]:
    torch.manual_seed(0)
    model = Siamese()
    model.norm.running_mean, model.norm.running_var = torch.randn(3), torch.rand(3) + 0.5
    model.double()
    x, y = torch.randn(2, 7, 1, 4, 4).double(), torch.arange(7) % 3
    tie(model)
    return model, [((x[0, :2], x[1, :2]), y[:2]), ((x[0, 2:], x[1, 2:]), y[2:])]


def contexts(model: nn.Module, batches: Any, loss: Any = None) -> dict[str, ScoreContext]:
    layers = prunable_weights(model)
    calibration = Calibration(model, layers, batches, loss)
    return {layer.name: ScoreContext(layer, calibration) for layer in layers}


def mean_loss(model: nn.Module, batches: list[tuple[Any, Tensor]]) -> Tensor:
    losses = [functional.cross_entropy(model(*x), y, reduction="sum") for x, y in batches]
    return sum(losses, torch.zeros(())) / sum(len(y) for _, y in batches)


def slope(of: Callable[[], Tensor], weight: Tensor, place: int, step: float = 1e-5) -> float:
    """Return the derivative of a number along one entry of a weight, by central differences."""
    values = weight.data.view(-1)
    before = values[place].clone()
    found = []
    for sign in (1, -1):
        values[place] = before + sign * step
        found.append(of().item())
    values[place] = before
    return (found[0] - found[1]) / (2 * step)


def test_snip_is_the_sensitivity_of_the_loss_to_each_connection() -> None:
    """Lee et al. (2019), equation 5: the derivative along a factor of the weight, at 1."""
    model, batches = siamese()
    found = contexts(model, batches)
    twin = copy.deepcopy(model).eval()
    tie(twin)
    saliency: list[float] = []
    for name in ("conv.weight", "mix.weight"):
        weight = twin.get_parameter(name)
        for place in range(weight.numel()):
            derivative = slope(lambda: mean_loss(twin, batches), weight, place)
            saliency.append(abs(derivative * weight.view(-1)[place].item()))
    computed = torch.cat([snip(one).flatten() for one in found.values()])
    assert list(found) == ["conv.weight", "mix.weight"]
    torch.testing.assert_close(computed, torch.tensor(saliency).double(), rtol=1e-6, atol=1e-9)
    mask = find_mask(model, 0.5, score="snip", batches=batches)
    kept = torch.cat([value.flatten() for value in mask.weights.values()])
    assert computed[~kept].max() < computed[kept].min()


def test_grasp_is_what_the_gradient_loses_of_its_flow() -> None:
    """Wang et al. (2020), equation 8: S(-w) = -w Hg is half the change of |g|^2; the highest go."""
    model, batches = siamese()
    twin = copy.deepcopy(model).eval()
    tie(twin)
    weights = [twin.get_parameter(name) for name in ("conv.weight", "mix.weight", "back.weight")]

    def flow() -> Tensor:
        conv, mix, back = torch.autograd.grad(mean_loss(twin, batches), weights)
        return conv.square().sum() + (mix + back.t()).square().sum()

    flows = [slope(flow, one, place) for one in weights[:2] for place in range(one.numel())]
    values = torch.cat([one.detach().flatten() for one in weights[:2]])
    papers = -values * torch.tensor(flows).double() / 2
    found = contexts(model, batches)
    computed = torch.cat([(one.weight * one.hessian_gradient).flatten() for one in found.values()])
    torch.testing.assert_close(-computed, papers, rtol=1e-5, atol=1e-8)
    mask = find_mask(model, 0.5, score="grasp", batches=batches, loss=functional.cross_entropy)
    kept = torch.cat([value.flatten() for value in mask.weights.values()])
    assert papers[~kept].min() > papers[kept].max()


def test_grasp_divides_logits_as_its_authors_unless_a_loss_is_given() -> None:
    model, batches = siamese()

    def tempered(output: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(output / 200, labels)

    found, same, other = (
        find_mask(model, 0.5, score="grasp", batches=batches, loss=loss)
        for loss in (None, tempered, functional.cross_entropy)
    )
    assert found == same
    assert found != other


def test_grasp_of_what_is_linear_and_of_attention() -> None:
    linear, x = nn.Linear(3, 2), torch.randn(4, 3)
    flat = contexts(linear, [(x, None)], lambda output, _: output.sum())["weight"]
    assert not flat.hessian_gradient.any()
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).double()
    tokens = torch.randn(3, 5, 4).double()

    def loss(output: Tensor, _: None) -> Tensor:
        return output.square().mean() + output.pow(3).mean()

    found = contexts(layer, [(tokens, None)], loss)
    weights = {name: layer.get_parameter(name) for name in found}

    def flow() -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            slopes = torch.autograd.grad(loss(layer.eval()(tokens), None), [*weights.values()])
        return torch.stack([one.square().sum() for one in slopes]).sum()

    for name, weight in weights.items():
        half = slope(flow, weight, 5) / 2
        assert float(found[name].hessian_gradient.view(-1)[5]) == pytest.approx(half, rel=1e-4)


@pytest.mark.parametrize("score", ["snip", "grasp"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_as_before_also_when_the_loss_fails(score: str, fails: bool) -> None:
    model, batches = siamese()
    model.mix.weight.requires_grad_(False)
    model.train().norm.eval()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    before = copy.deepcopy(model.state_dict())
    calls: list[int] = []

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        calls.append(1)
        if fails and len(calls) == 2:
            raise ValueError("no")
        return functional.cross_entropy(output, labels)

    if fails:
        with pytest.raises(InputError, match="the loss fails on batch 2"):
            find_mask(model, 0.5, score=score, batches=batches, loss=loss)
    else:
        find_mask(model, 0.5, score=score, batches=batches, loss=loss)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == [True, True, False, True, True, True]
    assert [p.requires_grad for p in model.parameters()] == [True] * 3 + [False, True, True]
    assert torch.equal(model.conv.weight.grad, torch.ones_like(model.conv.weight))
    assert model.mix.bias.grad is None
    assert model.back.weight.data_ptr() == model.mix.weight.data_ptr()


def test_a_network_without_second_derivatives_is_refused() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
            return gradient * 2

    class Net(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return Once.apply(self[0](x)).tanh()  # type: ignore[no-any-return, no-untyped-call]

    batch = (torch.randn(4, 3), torch.arange(4) % 2)
    with pytest.raises(InputError, match="a function that can be differentiated once only"):
        find_mask(Net(nn.Linear(3, 2)), 0.5, score="grasp", batches=[batch])
