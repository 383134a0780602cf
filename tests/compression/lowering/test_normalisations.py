"""Normalisations of PyTorch in the engine, in every run there is."""

import pytest
import torch
from torch import nn

from lowered_functions import Behind, errors


class OverRows(nn.Module):
    """A normalisation over the features of each token, between two products."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 40), norm, nn.Linear(40, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(inputs)))  # type: ignore[no-any-return]


NORMS = {
    "group": (Behind(nn.GroupNorm(2, 4), 4), (4, 5, 7)),
    "group, plain": (Behind(nn.GroupNorm(4, 4, affine=False, eps=0.1), 4), (4, 5, 7)),
    "instance": (Behind(nn.InstanceNorm2d(4, affine=True), 4), (4, 5, 7)),
    "root mean square": (OverRows(nn.RMSNorm(40, eps=1e-6)), (9, 6)),
    "root mean square of features": (OverRows(nn.RMSNorm(40, eps=0.1)), (6,)),
    "layer": (OverRows(nn.LayerNorm(40)), (9, 6)),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e4])
def test_a_normalisation_is_pytorchs(name: str, spread: float) -> None:
    torch.manual_seed(0)
    model, shape = NORMS[name]
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter)
    found = errors(model, spread * torch.randn(3, *shape))
    assert found.pop("float64") <= 1e-7  # the constants are those of float32
    assert max(found.values()) <= 1e-5
