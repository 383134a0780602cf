"""Heads and the width around them, of which a forward wants as many, and what fills places."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import compact, prune

TOKENS = torch.randn(2, 16, 6, generator=torch.Generator().manual_seed(1))


class Attention(nn.Module):
    """One projection for queries, keys and values, and sizes that are read off the input."""

    places: Tensor

    def __init__(self, form: str) -> None:
        super().__init__()
        self.heads, self.size, self.form = 4, 4, form
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        self.bias = nn.Parameter(torch.randn(9, 4))
        self.register_buffer("places", torch.arange(256) % 9, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        heads, size = self.heads, self.size if self.form == "size" else width // self.heads
        qkv = self.qkv(x)
        if self.form == "slices":
            parts = qkv[..., :width], qkv[..., width : 2 * width], qkv[..., 2 * width :]
            q, k, v = (p.view(batch, tokens, heads, size).transpose(1, 2) for p in parts)
        else:
            q, k, v = qkv.view(batch, tokens, 3, heads, size).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(size)
        # A bias for each head by relative places, as windows have.
        table = self.bias[self.places[: tokens**2].view(-1)].view(tokens, tokens, -1)
        scores = scores + table.permute(2, 0, 1).contiguous().unsqueeze(0)
        seen = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width)
        return self.proj(seen)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Two blocks, over windows of four tokens if asked."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.windows = form == "windows"
        self.start = nn.Linear(6, 16)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.blocks = nn.ModuleList(Attention(form) for _ in range(2))
        self.wide, self.back, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            y = norm(x)
            if self.windows:
                batch, tokens, width = y.shape
                parts = y.roll(-2, 1).view(batch, tokens // 4, 4, width).view(-1, 4, width)
                y = block(parts).view(batch, tokens // 4, 4, -1).view(batch, tokens, width)
                y = y.roll(2, 1)
            else:
                y = block(y)
            x = x + y
        return self.head((x + self.back(self.wide(x).relu())).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", ["width", "size", "slices", "windows"])
@pytest.mark.parametrize("sparsity", [0.4, 0.7])
def test_heads_and_the_width_around_them_shrink_to_as_many_channels(
    form: str, sparsity: float
) -> None:
    torch.manual_seed(0)
    network = Encoder(form).eval()
    mask = prune(network, sparsity, pattern="unit", example=TOKENS, exclude="output layer")
    kept_heads = [
        int(mask[f"blocks.{number}.qkv.weight"].any(1).view(3, 4, 4).any(2)[0].sum())
        for number in range(2)
    ]
    kept_width = int(mask["start.weight"].any(1).sum())
    small: Any = compact(network, TOKENS)
    heads = max(*kept_heads, -(-kept_width // 4))
    assert heads < 4
    assert small.start.out_features == 4 * heads
    for block in small.blocks:
        assert (block.heads, block.qkv.out_features) == (heads, 12 * heads)
        assert block.proj.in_features == block.proj.out_features == 4 * heads
    for given in (TOKENS, torch.randn(3, 16, 6)):
        with torch.no_grad():
            exact = copy.deepcopy(network).double()(given.double())
            found = copy.deepcopy(small).double()(given.double())
        assert float((found - exact).abs().max() / exact.abs().max()) < 1e-12
    small.train()(TOKENS).square().mean().backward()
