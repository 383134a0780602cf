"""Positions that nobody reads are not computed; PyTorch in float64 is the judge."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossamer.compression import Compressed, compress
from gossamer.engine import Attention, ChannelNorm, Convolution, check_network

WIDTH, TOKENS = 8, 6


class Reading(nn.Module):
    """Two encoder layers of which some tokens are read at the end."""

    def __init__(self, read: Any, *, first: bool = True, masked: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 2, 12, 0.0, batch_first=True, norm_first=first)
            for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)
        self.read = read
        pairs = torch.rand(TOKENS, TOKENS) < 0.3
        self.mask = pairs.fill_diagonal_(fill_value=False) if masked else None

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens, src_mask=self.mask)
        return self.head(self.norm(tokens)[self.read])  # type: ignore[no-any-return]


def compressed(model: nn.Module, example: Tensor, **options: Any) -> Compressed:
    torch.manual_seed(0)
    for parameter in model.eval().parameters():
        nn.init.normal_(parameter, std=0.4)
    found = compress(model, example, choose="engine", **options)
    assert found.network is not None
    return found


def assert_same(model: nn.Module, found: Compressed, inputs: Tensor) -> None:
    with torch.no_grad():
        expected = model.double()(inputs.double())
    np.testing.assert_allclose(found(inputs.numpy()), expected.numpy(), rtol=1e-4, atol=1e-5)
    model.float()


def computed(found: Compressed) -> list[tuple[str, int]]:
    """Return of each layer over tokens its name, and how many tokens it computes."""
    network = found.network
    assert network is not None
    shapes = check_network(network)[len(network.inputs) :]
    return [
        (type(layer).__name__, shape[2])
        for layer, shape in zip(network.layers, shapes, strict=True)
        if isinstance(layer, Attention | ChannelNorm | Convolution)
    ]


@pytest.mark.parametrize(
    ("read", "count", "first"),
    [
        ((slice(None), 0), 1, True),
        ((slice(None), -1), 1, False),
        ((slice(None), slice(1, 6, 2)), 3, True),
    ],
)
def test_the_last_layer_computes_the_tokens_that_are_read(
    read: Any, count: int, first: bool
) -> None:
    model = Reading(read, first=first)
    inputs = torch.randn(3, TOKENS, WIDTH)
    found = compressed(model, inputs)
    attentions = [tokens for name, tokens in computed(found) if name == "Attention"]
    assert attentions == [TOKENS, count]
    behind = computed(found)[-1 - computed(found)[::-1].index(("Attention", count)) :]
    assert {tokens for _, tokens in behind} == {count}
    whole = [pair for pair in computed(found) if pair == ("Convolution", TOKENS)]
    assert len(whole) == 8  # six of the first layer, keys and values of the second
    assert_same(model, found, inputs)


@pytest.mark.parametrize(
    ("read", "expected"), [(0, [6, 1]), pytest.param(-1, [6, 6], marks=pytest.mark.slow)]
)
def test_pairs_that_are_masked_stay_so(read: int, expected: list[int]) -> None:
    model = Reading((slice(None), read), masked=True)
    inputs = torch.randn(2, TOKENS, WIDTH)
    found = compressed(model, inputs)
    assert [tokens for name, tokens in computed(found) if name == "Attention"] == expected
    assert_same(model, found, inputs)


class Twice(Reading):
    """Gives all tokens beside those that are read."""

    def forward(self, tokens: Tensor) -> Any:
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(tokens[:, 0]), tokens


def test_what_is_read_elsewhere_is_computed_whole() -> None:
    found = compressed(Twice(0), torch.randn(2, TOKENS, WIDTH))
    assert {tokens for name, tokens in computed(found) if name == "Attention"} == {TOKENS}


class Causal(nn.Module):
    """Attention to the tokens before, of which the last is read."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.into(tokens).chunk(3, -1)
        attend = nn.functional.scaled_dot_product_attention
        return attend(query, key, value, is_causal=True)[:, -1]


def test_a_causal_attention_stays_whole_for_decoders() -> None:
    tokens = {"tokens": {1: torch.export.Dim("tokens", max=16)}}
    model, inputs = Causal(), torch.randn(1, TOKENS, WIDTH)
    found = compressed(model, inputs, dynamic_shapes=tokens)
    assert_same(model, found, inputs)
    assert found.decoder(8).step(inputs.numpy()).shape == (1, WIDTH)


@pytest.mark.slow
def test_other_lengths() -> None:
    model, inputs = Reading((slice(None), -1)), torch.randn(2, TOKENS, WIDTH)
    tokens = {"tokens": {1: torch.export.Dim("tokens", max=16)}}
    found = compressed(model, inputs, dynamic_shapes=tokens)
    for length in (1, 2, 9):
        assert_same(model, found, torch.randn(2, length, WIDTH))
