"""Columns of embeddings go with the width that they are added to."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer import compact, prune

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 0, 0]])


class Encoder(nn.Module):
    """Embeddings of tokens and places, a layer of PyTorch's encoder, and a head, perhaps tied."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(10, 16, padding_idx=0), nn.Embedding(8, 16)
        self.norm, self.block = nn.LayerNorm(16), nn.TransformerEncoderLayer(16, 4, 32)
        self.head = nn.Linear(16, 10, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places(torch.arange(tokens.size(1)))
        x = self.block(self.norm(x).transpose(0, 1), src_key_padding_mask=tokens == 0)
        return self.head(x[0])  # type: ignore[no-any-return]


def check_alike(network: nn.Module, small: nn.Module, *given: Tensor) -> None:
    with torch.no_grad():
        exact, found = (copy.deepcopy(one).double()(*given) for one in (network, small))
    assert float((found - exact).abs().max() / exact.abs().max()) < 1e-12
    small.train()(*given).square().mean().backward()


def test_columns_of_embeddings_shrink_with_the_width() -> None:
    torch.manual_seed(0)
    network = Encoder().eval()
    mask = prune(network, 0.5, pattern="unit", example=TOKENS, exclude="output layer")
    kept = mask["words.weight"].all(0)
    assert 0 < kept.sum() < 16
    assert torch.equal(mask["places.weight"].all(0), kept)
    small: Any = compact(network, TOKENS)
    for table in (small.words, small.places):
        assert table.embedding_dim == table.weight.shape[1] == kept.sum()
    assert small.head.in_features == kept.sum()
    check_alike(network, small, TOKENS)
    check_alike(network, small.eval(), TOKENS[:1, :4])


def test_the_width_stays_where_an_embedding_is_left_alone() -> None:
    torch.manual_seed(0)
    network = Encoder().eval()
    mask = prune(network, 0.3, pattern="unit", example=TOKENS, exclude=["words", "output layer"])
    assert "words.weight" not in mask
    assert "places.weight" not in mask
    why = mask.provenance["left_alone"]["block.linear2.weight"]
    assert why.endswith("go together with words.weight, which is left alone")


def test_columns_stay_where_a_head_shares_the_table() -> None:
    torch.manual_seed(0)
    network = Encoder(tied=True).eval()
    prune(network, 0.5, pattern="unit", example=TOKENS)
    small: Any = compact(network, TOKENS)
    assert small.head.weight is small.words.weight
    assert small.words.weight.shape == (10, 16)
    assert small.block.linear1.out_features < 32
    check_alike(network, small, TOKENS)


class Bags(nn.Module):
    """One table that two inputs are looked up in, as sums of rows."""

    def __init__(self, kind: type[Any]) -> None:
        super().__init__()
        self.table, self.mixed = kind(10, 12), nn.Linear(12, 12)
        self.head = nn.Linear(24, 2)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        seen = [self.table(one) for one in (first, second)]
        both = [one if one.dim() == 2 else one.sum(1) for one in seen]
        return self.head(torch.cat([one + self.mixed(one).relu() for one in both], 1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_a_table_for_several_inputs_keeps_one_width(kind: type[Any]) -> None:
    torch.manual_seed(0)
    network = Bags(kind).eval()
    prune(network, 0.5, pattern="unit", example=(TOKENS, TOKENS), allocation="uniform")
    small: Any = compact(network, (TOKENS, TOKENS))
    width = small.table.embedding_dim
    assert small.table.weight.shape == (10, width)
    assert width == small.mixed.in_features == small.mixed.out_features == 6
    assert small.head.in_features == 12
    check_alike(network, small, TOKENS, TOKENS.flip(1))
