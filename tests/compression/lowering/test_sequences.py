"""Networks of tokens, whole in the engine: what PyTorch calls attention, in all of its forms."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

import gossamer
from gossamer.compression.lowering.batch_first import with_batch_first
from gossamer.compression.lowering.tracing import trace
from gossamer.engine.gsm import read_network


def encoder(layers: int = 1, *, batch_first: bool = True, norm_first: bool = False) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        16, 2, 24, batch_first=batch_first, norm_first=norm_first, activation="gelu"
    )
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(16), enable_nested_tensor=False)


class Tokens(nn.Module):
    """Tokens first and causal, as a language model has them, with position embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(9, 1, 16))
        self.encoder, self.head = encoder(batch_first=False), nn.Linear(16, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(9)
        found = self.encoder(inputs.transpose(0, 1) + self.positions, mask=mask)
        return self.head(found).transpose(0, 1)  # type: ignore[no-any-return]


class Cross(nn.Module):
    """A decoder, whose queries and keys are of different values."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(16, 2, 24, batch_first=True)
        self.decoder, self.memory = nn.TransformerDecoder(layer, 1), nn.Linear(16, 16)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.decoder(inputs[:, :4], self.memory(inputs))  # type: ignore[no-any-return]


class Asking(nn.Module):
    """A decoder of queries that are learned, which attend to each other first."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(3, 16))
        self.decoder = nn.TransformerDecoderLayer(16, 2, 24, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        asked = self.queries.expand(len(inputs), -1, -1)
        return self.decoder(asked, inputs)  # type: ignore[no-any-return]


class Weighted(nn.Module):
    """Attention that would give its weights, too, and therefore writes out what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True, bias=False)
        self.mask = nn.Buffer((torch.rand(9, 9) < 0.3) & (torch.arange(9) > 0))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.attention(inputs, inputs, inputs, attn_mask=self.mask)[0]  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention as vision transformers write it out, with one product for all three."""

    def __init__(self, heads: int = 2, *, causal: bool = False) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(16), nn.Linear(16, 48)
        self.projection, self.heads, self.causal = nn.Linear(16, 16), heads, causal

    def forward(self, inputs: Tensor) -> Tensor:
        batch, tokens, width = inputs.shape
        parted = self.qkv(self.norm(inputs)).reshape(batch, tokens, 3, self.heads, -1)
        query, key, value = parted.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (query * (width // self.heads) ** -0.5) @ key.transpose(-2, -1)
        if self.causal:
            hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(hidden, float("-inf"))
        found = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, tokens, width)
        return inputs + self.projection(found)  # type: ignore[no-any-return]


class Vision(nn.Module):
    """Patches of images behind a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(1, 16, 2, 2), nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 10, 16))
        self.block, self.head = Block(), nn.Linear(16, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.patches(inputs.reshape(-1, 1, 6, 6)).flatten(2).transpose(1, 2)
        found = torch.cat((self.token.expand(found.size(0), -1, -1), found), 1) + self.positions
        return self.head(self.block(found)[:, 0])  # type: ignore[no-any-return]


class Relative(nn.Module):
    """Attention whose scores depend on how far tokens lie apart (Shaw et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.apart = nn.Linear(16, 16), nn.Embedding(17, 16)

    def forward(self, inputs: Tensor) -> Tensor:
        queries, places = self.queries(inputs), torch.arange(inputs.shape[1])
        apart = self.apart(places - places[:, None] + 8)
        scores = torch.einsum("bid,ijd->bij", queries, apart) + queries @ inputs.mT
        found: Tensor = scores.div(4).softmax(-1) @ inputs
        return found


NETWORKS = {
    "encoder": (encoder(2), (9, 16)),
    "encoder, norms first": (encoder(norm_first=True), (9, 16)),
    "tokens first, causal": (Tokens(), (9, 16)),
    "cross attention": (Cross(), (9, 16)),
    "learned queries": (Asking(), (9, 16)),
    "with weights and a mask": (Weighted(), (9, 16)),
    "written out": (nn.Sequential(Block(), Block(4, causal=True)), (9, 16)),
    "vision": (Vision(), (36,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_tokens_is_whole_saved_and_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, shape = NETWORKS[name]
    model.eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    example = torch.randn(3, *shape)
    exact = copy.deepcopy(model).double()(example.double()).detach().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        small = gossamer.compress(model, example, choose="engine")
    assert not small.remaining
    small.save(tmp_path / "n.gsm")
    kinds = [layer.name for layer in read_network(tmp_path / "n.gsm")[0].layers]
    assert "attention" in kinds
    # Only what enters and what leaves is turned; a decoder reads two things, and patches are turned
    # beside the tokens that they become.
    more = ("cross attention", "learned queries", "vision")
    assert kinds.count("permute") <= (3 if name in more else 2)
    loaded = gossamer.load(tmp_path / "n.gsm")
    for found in (small(example).numpy(), loaded(example.numpy()), loaded(example[:1].numpy())):
        error = np.abs(found - exact[: len(found)]).max() / np.abs(exact).max()
        assert error <= 1e-5


def test_scores_of_constants_for_each_place_are_whole() -> None:
    torch.manual_seed(0)
    model, example = Relative().eval(), torch.randn(3, 9, 16)
    small = gossamer.compress(model, example, choose="engine", threads=1)
    assert not small.remaining
    example = torch.randn(5, 9, 16)
    np.testing.assert_allclose(small(example), model(example).detach(), rtol=1e-4, atol=1e-6)


def split_heads(inputs: Tensor) -> Tensor:
    """Heads of all examples along one axis, as `nn.MultiheadAttention` has them."""
    batch = inputs.shape[1]
    heads = inputs.reshape(5, batch * 2, 3).transpose(0, 1)
    scores = torch.baddbmm(torch.ones(1, 5, 5), heads, heads.transpose(1, 2), beta=0.5)
    found = torch.bmm(scores, heads).transpose(0, 1).reshape(5 * batch, 6)
    return found.reshape(5, batch, 6)


class Recurrent(nn.Module):
    """Recurrent layers, of which `take` says what of their results is given."""

    def __init__(
        self, layers: nn.RNNBase, take: Callable[[Any], Tensor], *, time_first: bool = False
    ) -> None:
        super().__init__()
        self.layers, self.take, self.time_first = layers, take, time_first
        self.before, self.after = nn.Linear(16, 6), nn.LazyLinear(3)

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.before(inputs)
        found = self.take(self.layers(found.transpose(0, 1) if self.time_first else found))
        return self.after(found)  # type: ignore[no-any-return]


class Stateful(nn.Module):
    """An LSTM whose first state is learned, and the cells computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.first = (
            nn.LSTM(16, 5, batch_first=True),
            nn.Parameter(torch.randn(1, 1, 5)),
        )
        self.start = nn.Linear(16, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        first = self.first.expand(1, inputs.shape[0], 5).contiguous()
        return self.layers(inputs, (first, self.start(inputs[:, 0]).unsqueeze(0)))[0]  # type: ignore[no-any-return]


RECURRENT: dict[str, nn.Module] = {
    "lstm, stacked, both ways": Recurrent(
        nn.LSTM(6, 7, num_layers=2, bidirectional=True, batch_first=True), lambda found: found[0]
    ),
    "gru, time first": Recurrent(
        nn.GRU(6, 7), lambda found: found[0].transpose(0, 1), time_first=True
    ),
    "last states and cells": Recurrent(
        nn.LSTM(6, 7, num_layers=2, batch_first=True),
        lambda found: torch.cat((found[1][0][-1], found[1][1][0]), 1),
    ),
    "plain, without biases": Recurrent(
        nn.RNN(6, 7, nonlinearity="relu", bias=False, batch_first=True),
        lambda found: found[0][:, -1],
    ),
    "states from elsewhere": Stateful(),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_are_whole_saved_and_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, example = RECURRENT[name].eval(), torch.randn(3, 9, 16)
    model(example)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    exact = copy.deepcopy(model).double()(example.double()).detach().numpy()
    small = gossamer.compress(model, example, choose="engine")
    assert not small.remaining
    small.save(tmp_path / "n.gsm")
    kinds = [layer.name for layer in read_network(tmp_path / "n.gsm")[0].layers]
    assert "recurrence" in kinds
    loaded = gossamer.load(tmp_path / "n.gsm")
    for found in (small(example).numpy(), loaded(example.numpy()), loaded(example[:1].numpy())):
        assert np.abs(found - exact[: len(found)]).max() <= 1e-5 * np.abs(exact).max()


def middle(inputs: Tensor) -> Tensor:
    return inputs.tanh().sum(0).transpose(0, 1)


def flat(inputs: Tensor) -> Tensor:
    return inputs.reshape(-1, 6).relu().reshape(inputs.shape)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "heads of all examples": lambda x: split_heads(x.transpose(0, 1)).transpose(0, 1),
    "a sum with a constant": lambda x: (x.transpose(0, 1) + torch.ones(5, 1, 1)).transpose(1, 0),
    "the batch in the middle": lambda x: middle(x.reshape(-1, 5, 2, 3).permute(2, 1, 0, 3)),
    "parts": lambda x: torch.cat(x.transpose(0, 1).chunk(2, 2)[::-1], 2).transpose(0, 1),
    "parts of the batch's neighbours": lambda x: torch.stack(x.transpose(0, 1).unbind(0), 1) * 2,
    "selected": lambda x: x.transpose(0, 1)[-1] + x.permute(2, 0, 1)[0][:, :1],
    "the batch behind": lambda x: (x.permute(1, 2, 0) * 3).permute(2, 1, 0),
    "tokens of all examples": lambda x: flat(x.transpose(0, 1)).transpose(0, 1),
    "a softmax over tokens": lambda x: x.transpose(0, 1).softmax(0).transpose(0, 1),
    "a mean over the batch": lambda x: x - x.transpose(0, 1).mean(1, keepdim=True).transpose(0, 1),
}  # fmt: skip


class Function(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, inputs: Tensor) -> Tensor:
        return FUNCTIONS[self.name](inputs)


def places_of_the_batch(graph: fx.GraphModule) -> set[int]:
    """Return along which axes the size of the batch is found."""
    found: set[int] = set()
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor):
            found.update(at for at, size in enumerate(value.shape) if not isinstance(size, int))
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_with_the_batch_in_front_gives_the_same(name: str) -> None:
    found = with_batch_first(trace(Function(name).eval(), torch.randn(3, 5, 6))).graph
    assert (places_of_the_batch(found) == {0}) == (name != "a mean over the batch")
    for batch in (1, 4, 7):
        inputs = torch.randn(batch, 5, 6)
        torch.testing.assert_close(found(inputs), FUNCTIONS[name](inputs))
