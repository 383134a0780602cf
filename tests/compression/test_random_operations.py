"""Which recorded operations draw random numbers."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression.random_operations import random_operations


class Computing(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def found(module: nn.Module, example: Tensor) -> tuple[str, ...]:
    with warnings.catch_warnings(action="ignore"):  # of the recorder itself
        return random_operations(torch.export.export(module.eval(), (example,)).graph)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x + torch.randn(3), ("randn",)),
        (torch.bernoulli, ("bernoulli",)),
        (lambda x: functional.dropout(x, 0.5, training=True) + torch.rand(3), ("dropout", "rand")),
        (
            lambda x: functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1),
            ("scaled_dot_product_attention",),
        ),
    ],
)
def test_drawing_is_found(function: Callable[[Tensor], Tensor], names: tuple[str, ...]) -> None:
    assert found(Computing(function), torch.rand(3, 3)) == names


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.AlphaDropout(0.5), nn.RReLU()),
        nn.GRU(6, 4, num_layers=2, dropout=0.3),
        nn.TransformerEncoderLayer(6, 2, 8),
        Computing(lambda x: functional.scaled_dot_product_attention(x, x, x)),
    ],
)
def test_dropout_that_is_off_draws_nothing(module: nn.Module) -> None:
    assert found(module, torch.rand(3, 2, 6)) == ()
