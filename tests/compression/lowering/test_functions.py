"""Functions of numbers, gates and reductions are what PyTorch computes, whole in the engine."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression.lowering.parts import divide
from gossamer.compression.lowering.tracing import trace
from gossamer.engine import Engine, run_portable
from lowered_functions import Behind, errors, network_of


def written(x: Tensor, mask: Tensor) -> Tensor:
    """Write numbers into places that a mask tells."""
    x[mask] = 2.0
    x[x < -1] = 0.0
    return x


PROTOTYPES = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs, sign": lambda x: x.abs() * x.sign(),
    "exponentials": lambda x: x.clamp(max=20).exp() + x.clamp(max=3).expm1(),
    "logarithms": lambda x: (x * x).log1p() + (x.abs() + 1).log2() + (x.abs() + 1).log10(),
    "roots": lambda x: (x * x + 0.1).rsqrt() + x.abs().sqrt(),
    "powers": lambda x: x**2 + x.abs() ** 0.3 + (1 + x.abs()) ** -1,
    "power of two": lambda x: (1 + x.abs()) ** (x / 100),
    "reciprocal": lambda x: 1 / (2 + x.abs()),
    "erf": lambda x: torch.erf(x / 10),
    "waves": lambda x: torch.sin(x) * torch.cos(x),
    "rounded": lambda x: x.floor() + x.ceil() + x.round(),
    "softplus": lambda x: functional.softplus(x, 0.5),
    "mish": functional.mish,
    "logsigmoid": functional.logsigmoid,
    "celu": lambda x: functional.celu(x, 0.5),
    "glu": lambda x: functional.glu(x, 1) + functional.glu(x.flip(1), -3),
    "softsign": functional.softsign,
    "tanhshrink": lambda x: functional.tanhshrink(x * 3),
    "prelu": nn.PReLU(4, 0.3),
    "rrelu": nn.RReLU(),
    "gate": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "quotient": lambda x: x / (1 + x.abs().amax(1, keepdim=True)),
    "difference": lambda x: x - x.mean(1, keepdim=True),
    "extremes": lambda x: torch.maximum(x, -x) - torch.minimum(x, x.flip(3)),
    "clamped": lambda x: x.clamp(0.1, 0.3) + x.clamp(min=5) + x.clamp(max=-1),
}
CONDITIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "compared": lambda x: (x > 0.1).float() + (x <= x.flip(1)).to(x.dtype) * x,
    "equal": lambda x: (x.round() == 0).float() + (x.round() != x.round().flip(2)).float(),
    "written by a mask": lambda x: written(x * 1.0, x > 0.5),
    "places of two axes": lambda x: x[:, :, [2, 0, 1], [4, 0, 4]] + x[:, [3, 1, 0, 2], [-1], 1:4],
    "tables of places": lambda x: x[:, :, torch.tensor([[0, 2], [-2, 1]])].amax((2, 3)),
    "both": lambda x: ((x > -1) & (x < 1) | ~(x < 5)).float(),
    "where": lambda x: torch.where(x > 0, x, -2 * x),
    "where numbers": lambda x: torch.where(x > 0, 1.5, x) + torch.where(x.abs() > 1, x, 0.0),
    "masked": lambda x: x.masked_fill(x[:, :1] > 0.5, 3.0),
    "infinite elsewhere": lambda x: torch.where(x > 0, x.abs(), (-x.abs()).exp().log()),
    "shrunk": lambda x: functional.hardshrink(x) + functional.softshrink(x, 0.1),
}
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(1),
    "mean of all": lambda x: x.mean((1, 2, 3), keepdim=True),
    "sum": lambda x: x.sum((1, 3), keepdim=True),
    "largest": lambda x: x.max(1)[0] + x.amax((1, 2), keepdim=True)[:, 0],
    "smallest": lambda x: x.min(2).values + x.amin(2),
    "mean of several networks": lambda x: (
        torch.stack([x, x.tanh(), 2 * x]).softmax(-1).mean(0) + torch.stack([x, -x], 2).amax(2)
    ),
    "product": lambda x: (1 + x / 100).prod(1),
    "variance": lambda x: x.var(1) + x.var((1, 2), unbiased=False)[:, None],
    "deviation": lambda x: x.std((2, 3), correction=2),
    "norm": lambda x: functional.normalize(x, dim=1) + x.norm(1, dim=2, keepdim=True),
    "norm of tiny numbers": lambda x: (x * 1e-25).norm(dim=1) * 1e25,
    "cosines": lambda x: (
        functional.cosine_similarity(x, x.flip(2), dim=1)
        + functional.cosine_similarity(x[:, :, :1], x, dim=-1).mean(1, keepdim=True).mean(2, True)
    ),
    "cosines with constants": lambda x: (
        functional.cosine_similarity(x, PROTOTYPES, dim=3)
        + functional.cosine_similarity(PROTOTYPES[None], x[:, :, :1], dim=-1)
    ),
    "cosines with classes": lambda x: functional.cosine_similarity(
        x.mean((1, 2))[:, None], PROTOTYPES, dim=2
    ),
    "cosines with one": lambda x: functional.cosine_similarity(
        x.mean((1, 2)), PROTOTYPES[0], dim=1
    ),
    "distances": lambda x: functional.pairwise_distance(x, x.flip(1), 2.0, keepdim=True),
    "distances to prototypes": lambda x: (
        torch.cdist(x.mean((1, 2)), PROTOTYPES.to(x))
        + torch.cdist(x[:, 0], PROTOTYPES.to(x), p=1.0).mean(1)
    ),
    "cosines of nothing": lambda x: functional.cosine_similarity(0 * x, x, dim=2),
    "logarithm of sums": lambda x: x.logsumexp((1, 2)),
    "cumulated": lambda x: x.cumsum(2) + x.cumsum(-3),
    "cumulated product": lambda x: (1 + x / 100).cumprod(3) + x.sign().cumprod(1),
    "logarithm of cumulated sums": lambda x: x.logcumsumexp(3) - x.logcumsumexp(1),
}
CUBE = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(2))
PER_HEAD, MIXED, ON_THE_LEFT = torch.randn(4, 5, 2), torch.randn(6, 3), torch.randn(4, 6, 5)
PRODUCTS: dict[str, Callable[[Tensor], Tensor]] = {
    "products": lambda x: x @ x.transpose(2, 3) @ x,
    "products of sequences": lambda x: torch.bmm(x[:, 0], x[:, 1].transpose(1, 2)),
    "products of features": lambda x: x.flatten(2) @ x.flatten(2).mT,
    "a matrix for each head": lambda x: x @ PER_HEAD.to(x) + x @ PER_HEAD[:1].to(x),
    "constants on the left": lambda x: MIXED.to(x) @ x + ON_THE_LEFT.to(x) @ x.mT @ x,
    "a sum with a product": lambda x: torch.baddbmm(x[:, 0], x[:, 1] @ x[:, 1].mT, x[:, 2],
                                                    beta=0.5, alpha=2),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "einsum over heads": lambda x: torch.einsum("bihd,bjhd->bhij", x, x[:, :3]),
    "einsum with a constant": lambda x: torch.einsum("bchw,cwd->bhcd", x, PER_HEAD.to(x)),
    "a product of two": lambda x: functional.bilinear(
        x, x[:, :1].tanh().expand_as(x), CUBE.to(x), CUBE[:, 0, 0].to(x)
    ),
    "softmax over an axis": lambda x: x.softmax(-1) + x.log_softmax(2),
}  # fmt: skip
LARGER, LARGEST = torch.randn(4, 3, 5), torch.rand(4, 3, 5) < 0.5
CONSTANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sums": lambda x: x[:, :1] + LARGER + (LARGER - x[:, :1]),
    "products and quotients": lambda x: x[:, :, :1] * LARGER + x[..., :1] / (1 + LARGER.abs()),
    "comparisons": lambda x: (x < LARGER).float() + (x[:, :1] >= LARGER).float(),
    "truths": lambda x: ((x > 0) & LARGEST).float() - ((x[:, :, :1] > 0) | LARGEST[:, :1]).float(),
    "where": lambda x: torch.where(LARGEST, x, LARGER) + torch.where(x > 0, LARGER, 2.0),
    "filled": lambda x: x.masked_fill(LARGEST, 3.0) + x[:, :1].masked_fill(~LARGEST, 0.0),
    "infinite": lambda x: x.masked_fill(x > 0.5, -torch.inf).exp()
    + x.masked_fill(x > 0.5, torch.inf).reciprocal().square(),
    "a type of truth": lambda x: x.round().to(torch.bool).float() * x,
}  # fmt: skip
EVERY = FUNCTIONS | CONDITIONS | REDUCTIONS | PRODUCTS | CONSTANTS


@pytest.mark.parametrize("name", EVERY)
def test_functions_are_what_pytorch_computes(name: str) -> None:
    function = EVERY[name]
    generator = torch.Generator().manual_seed(0)
    sizes = 10 ** (3 * torch.rand(3, 4, 3, 5, generator=generator) - 1.5)
    example = sizes * torch.randn(3, 4, 3, 5, generator=generator)
    assert max(errors(Behind(function, 4), example).values()) < 2e-6


class OneNumber(nn.Module):
    """A function of one number for each example, [batch]."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.sum = function, Behind(lambda x: x.sum((1, 2, 3)), 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(self.sum(inputs))


OF_ONE = {
    **{name: FUNCTIONS[name] for name in ("powers", "roots", "softsign", "celu", "clamped")},
    **{name: CONDITIONS[name] for name in ("both", "where", "where numbers", "shrunk")},
    "sums": lambda y: (1 - y) * torch.tensor([2.0]) + y / 3,
    "axes": lambda y: torch.stack([y[:, None].expand(-1, 3), y.view(-1, 1) * torch.ones(3)], 1),
}


@pytest.mark.parametrize("name", OF_ONE)
def test_functions_of_one_number_are_what_pytorch_computes(name: str) -> None:
    assert max(errors(OneNumber(OF_ONE[name]), torch.randn(3, 2, 2, 2)).values()) < 2e-6


BEYOND: dict[str, Callable[[Tensor], Tensor]] = {
    "signs": torch.sign,
    "logarithms of sums": lambda x: x.logsumexp(3),
    "comparisons": lambda x: (x > 0.5).float() - (x != x).float() * (x <= x.flip(1)).float(),
    "chosen": lambda x: torch.where(x > 0, x, 2.0) + torch.where(x != x, 0.0, x.flip(1)),
    "truths": lambda x: ((x > 0) ^ (x < 1)).float() + (~(x > 0) & (x != x)).float(),
    "extremes": lambda x: x.amax(1) - x.max(2)[0][:, :1] + torch.minimum(x, x.flip(3)).amin(1),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_no_finite_number_is_what_pytorch_makes_of_it(name: str) -> None:
    example = torch.randn(3, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    network = network_of(Behind(BEYOND[name], 4), example.clone())
    example[0, 0, 0, 0], example[0, 1, 1, 2], example[1, 0, 2] = torch.nan, torch.inf, -torch.inf
    expected = BEYOND[name](example).numpy()
    given = example.numpy()
    for found in (run_portable(network, given), Engine(network)(given)):
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)


def test_a_whole_number_that_float32_does_not_tell_apart_is_not_compared() -> None:
    class Compared(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return (tokens == 2**24 + 1).float()

    assert divide(trace(Compared().eval(), torch.ones(2, 3, dtype=torch.int64)).graph).rest


@pytest.mark.parametrize("bounds", [(0.1, 0.5), (-2.0, -1.0), (-1e9, 1.0), (-1e-9, 1.0), (0, 0)])
def test_a_clamp_loses_no_digits(bounds: tuple[float, float]) -> None:
    example = torch.randn(3, 2, 4, 5) * 10 ** (10 * torch.rand(3, 2, 4, 5) - 5)
    network = network_of(Behind(lambda x: x.clamp(*bounds), 2), example.clone())
    np.testing.assert_array_equal(Engine(network)(example.numpy()), example.clamp(*bounds).numpy())


def test_truth_values_are_no_numbers_where_that_differs() -> None:
    model = Behind(lambda x: ((x > 0) + (x < 1)).float(), 4)  # True + True is True
    assert divide(trace(model.eval(), torch.randn(2, 4, 3, 3)).graph).rest
