"""Embeddings of positions go with the channels that they are added to, however they come there."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import compact, prune

IMAGES = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(1))


def resized(grid: Tensor, height: int, width: int) -> Tensor:
    found = functional.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    return found.permute(0, 2, 3, 1).reshape(1, height * width, -1)


def of_patches(n: Any, height: int, width: int) -> Tensor:
    return resized(n.table[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2), height, width)


def beside_a_token(n: Any, height: int, width: int) -> Tensor:
    first, rest = n.table[:, :1], n.table[:, 1:]
    grid = rest.reshape(1, 4, 4, n.width).permute(0, 3, 1, 2)
    return torch.cat((first, resized(grid, height, width)), dim=1)


def of_rows_and_columns(n: Any, height: int, width: int) -> Tensor:
    both: Tensor = n.rows[:height, None] + n.columns[None, :width]
    return both.flatten(0, 1)[None]


def of_a_grid(n: Any, height: int, width: int) -> Tensor:
    return resized(n.grid, height, width)


class Encoder(nn.Module):
    """Patches, positions, perhaps a token before them, and a block that mixes tokens."""

    def __init__(self, positions: Callable[[Any, int, int], Tensor], **held: Tensor) -> None:
        super().__init__()
        self.positions, self.width = positions, 16
        for name, one in held.items():
            setattr(self, name, nn.Parameter(one))
        self.patches, self.token = nn.Conv2d(3, 16, 2, 2), nn.Parameter(torch.randn(1, 1, 16))
        self.norm, self.attention = nn.LayerNorm(16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        x = self.patches(x).flatten(2).transpose(1, 2)
        places = self.positions(self, height, width)
        token = self.token.expand(len(x), -1, -1)
        if places.shape[1] > x.shape[1]:
            x = torch.cat((token, x), 1) + places
        else:
            x = torch.cat((token, x + places), 1)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(x[:, 0])  # type: ignore[no-any-return]


FORMS: dict[str, Callable[[], Encoder]] = {
    "patches": lambda: Encoder(of_patches, table=torch.randn(1, 17, 16)),
    "beside": lambda: Encoder(beside_a_token, table=torch.randn(1, 17, 16)),
    "rows": lambda: Encoder(
        of_rows_and_columns, rows=torch.randn(9, 16), columns=torch.randn(9, 16)
    ),
    "grid": lambda: Encoder(of_a_grid, grid=torch.randn(1, 16, 4, 4)),
}


@pytest.mark.parametrize("form", FORMS)
def test_embeddings_of_positions_shrink_with_the_width(form: str) -> None:
    torch.manual_seed(0)
    network = FORMS[form]().eval()
    mask = prune(network, 0.5, pattern="unit", example=IMAGES, exclude="output layer")
    kept = int(mask["patches.weight"].flatten(1).any(1).sum())
    small: Any = compact(network, IMAGES)
    assert kept < 16
    assert small.patches.out_channels == small.head.in_features == kept
    for name, before in network.named_parameters():
        if name in ("table", "rows", "columns", "grid", "token"):
            assert small.get_parameter(name).numel() == before.numel() // 16 * kept
    for given in (IMAGES, torch.randn(1, 3, 8, 18)):
        with torch.no_grad():
            exact = copy.deepcopy(network).double()(given.double())
            found = copy.deepcopy(small).double()(given.double())
        assert float((found - exact).abs().max() / exact.abs().max()) < 1e-12
    small.train()(IMAGES).square().mean().backward()
