"""Attention heads and feed-forward units: pruned as groups, and removed."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import compact, prune
from gossamer.compression.compaction import compaction_report
from gossamer.measures.functional.modes import evaluation

TOKENS = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(1))


class Attention(nn.Module):
    """Attention of 4 heads of 3, with a residual around it, in the forms that models write."""

    def __init__(self, shared: int = 1) -> None:
        super().__init__()
        self.heads, self.size, self.width, self.shared = 4, 3, 12, shared
        self.q, self.out = nn.Linear(12, 12), nn.Linear(12, 12)
        self.k, self.v = nn.Linear(12, 12 // shared), nn.Linear(12, 12 // shared)
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 5)
        self.up, self.down = nn.Linear(12, 20), nn.Linear(20, 12)

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attend(self.norm(x)))
        return self.head(x + self.down(functional.gelu(self.up(x))))  # type: ignore[no-any-return]


class Fused(Attention):
    """A view to -1 heads, and the fused function."""

    def attend(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.size)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        found = functional.scaled_dot_product_attention(q, k, v)
        return found.transpose(1, 2).reshape(*x.shape[:-1], -1)


class Eager(Attention):
    """Heads by an attribute, products written out, a mask, and the width of the result computed."""

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.size()
        shape = (batch, tokens, self.heads, self.size)
        layers = (self.q, self.k, self.v)
        q, k, v = (layer(x).reshape(shape).permute(0, 2, 1, 3) for layer in layers)
        scores = torch.matmul(q, k.transpose(-2, -1)) * self.size**-0.5
        later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
        weights = functional.dropout(functional.softmax(scores, dim=-1), 0.1, self.training)
        found = torch.matmul(weights, v).transpose(1, 2)
        return found.reshape(batch, tokens, self.heads * self.size)


class Grouped(Attention):
    """Two heads of queries for each of keys and values, which are repeated."""

    def __init__(self) -> None:
        super().__init__(shared=2)

    def repeated(self, x: Tensor) -> Tensor:
        batch, heads, tokens, size = x.shape
        x = x[:, :, None].expand(batch, heads, self.shared, tokens, size)
        return x.reshape(batch, heads * self.shared, tokens, size)

    def attend(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.size)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        half = self.size // 2
        q = torch.cat((-q[..., half:], q[..., :half]), dim=-1)  # as rotary embeddings do
        found = functional.scaled_dot_product_attention(q, self.repeated(k), self.repeated(v))
        return found.transpose(1, 2).flatten(2)


class GroupedInside(Grouped):
    """The same, repeated within the fused function."""

    def attend(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.size)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        found = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return found.transpose(1, 2).flatten(2)


class Together(Attention):
    """One layer for queries, keys and values, parted as timm does."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        del self.q, self.k, self.v

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        found = functional.scaled_dot_product_attention(q, k, v)
        return found.transpose(1, 2).reshape(batch, tokens, self.width)


class InPieces(Together):
    """One layer for queries, keys and values, split as GPT-2 does."""

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split(self.width, dim=2)
        shape = (*q.shape[:-1], -1, self.size)
        q, k, v = (one.view(shape).transpose(1, 2) for one in (q, k, v))
        found = functional.scaled_dot_product_attention(q, k, v)
        return found.transpose(1, 2).reshape(*x.shape[:-1], -1)


class InChunks(Together):
    """The same in chunks."""

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (one.unflatten(-1, (-1, self.size)).transpose(1, 2) for one in (q, k, v))
        found = functional.scaled_dot_product_attention(q, k, v)
        return found.transpose(1, 2).flatten(2)


class Scaled(Fused):
    """Scores scaled for each head, keys normalised within each, in Einstein's notation."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.inside = nn.Parameter(torch.rand(4, 1, 1) + 0.5), nn.LayerNorm(3)

    def attend(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.size)
        q, k, v = (layer(x).view(shape) for layer in (self.q, self.k, self.v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, self.inside(k)) * self.scale
        found = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
        return found.flatten(2)


class Biased(Fused):
    """A factor of each head, queries a few at a time, keys and values used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(4, 1, 1))
        self.again = nn.Linear(12, 12)

    def attend(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], -1, self.size)
        q, k, v = (layer(x).view(shape).swapaxes(1, 2) for layer in (self.q, self.k, self.v))
        v = v * self.bias
        parts = [(part @ k.mT).softmax(-1) @ v for part in q.split(2, 2)]
        q = self.again(x).view(shape).swapaxes(1, 2)
        found = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return torch.cat(parts, 2).transpose(1, 2).flatten(2) + found


class Unpacked(Together):
    """Heads whose size is left out, taken from one tensor, normalised, with biases for places."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(8, 8, 4))

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        query, key, values = (
            self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        scores = functional.normalize(query, dim=-1) @ key.mT
        scores = scores + self.places[:tokens, :tokens].permute(2, 0, 1).sigmoid()
        found: Tensor = scores.softmax(-1) @ values
        return found.transpose(1, 2).flatten(2)


class Asking(Fused):
    """A query that is learned, the same for all inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = nn.Parameter(torch.randn(1, 12))

    def attend(self, x: Tensor) -> Tensor:
        q = self.q(self.asked).expand(len(x), -1, -1)
        q, k, v = (one.unflatten(-1, (-1, 3)).transpose(1, 2) for one in (q, self.k(x), self.v(x)))
        found = functional.scaled_dot_product_attention(q, k, v)
        return found.transpose(1, 2).flatten(2)


class FixedWidth(Together):
    """The result is given the width of the input: no head can go."""

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        found = functional.scaled_dot_product_attention(q, k, v)
        return found.transpose(1, 2).reshape(batch, tokens, width)


class Decided(Fused):
    """What it computes depends on the number of heads in another way."""

    def attend(self, x: Tensor) -> Tensor:
        shape = (*x.shape[:-1], self.heads, self.size)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scale = 1.0 if q.shape[1] > 3 else 0.5
        found = functional.scaled_dot_product_attention(q, k, v, scale=scale)
        return found.transpose(1, 2).reshape(*x.shape[:-1], -1)


class Transposed(nn.Module):
    """A linear layer whose weight is [inputs, outputs], as GPT-2 has it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        size = (*x.size()[:-1], self.outputs)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(size)


class TransposedPieces(InPieces):
    """Split projections with weights of other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = Transposed(12, 36), Transposed(12, 12)  # type: ignore[assignment]


class Multihead(nn.Module):
    """PyTorch's own attention, with a residual and a mask."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 4, **{"batch_first": True, **options})
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        found, _ = self.attention(x, x, x, attn_mask=later)
        return self.head(x + found)  # type: ignore[no-any-return]


class Weighing(Multihead):
    """The weights of the heads, on the mean, are part of the output."""

    def forward(self, x: Tensor) -> Any:
        found, weights = self.attention(x, x, x)
        return self.head(x + found), weights


class Crossing(nn.Module):
    """Keys and values of other widths than the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 4, kdim=7, vdim=5, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        found = self.attention(x, x[..., :7], x[..., 7:], need_weights=False)[0]
        return self.head(found)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 4, 20, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Two recurrent layers; the head reads every step, or the last states."""

    def __init__(self, kind: type[Any], bidirectional: bool, last: bool) -> None:
        super().__init__()
        self.recurrent = kind(12, 8, 2, batch_first=True, bidirectional=bidirectional)
        self.head, self.last = nn.Linear(16 if bidirectional and not last else 8, 3), last

    def forward(self, x: Tensor) -> Tensor:
        found, states = self.recurrent(x)
        states = states[0] if isinstance(states, tuple) else states
        return self.head(states[-1] if self.last else found)  # type: ignore[no-any-return]


def pruned(kind: Callable[[], nn.Module], example: Tensor = TOKENS) -> nn.Module:
    torch.manual_seed(0)
    network = kind().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    prune(network, 0.5, pattern="unit", example=example, allocation="uniform")
    return network


def error(network: nn.Module, small: nn.Module, example: Tensor) -> float:
    """Return the largest difference over the largest output, in float64."""
    with evaluation(network), evaluation(small), torch.no_grad():
        exact = copy.deepcopy(network).double()(example.double())
        found = copy.deepcopy(small).double()(example.double())
    return float((found - exact).abs().max() / exact.abs().max())


def check_used(network: nn.Module, small: nn.Module, example: Tensor) -> None:
    """Hold the small network to the pruned one at another batch and length, and train it."""
    for other in (example, torch.randn(3, 4, *example.shape[2:])):
        assert error(network, small, other) < 1e-12
    learner = copy.deepcopy(small).train()
    learner(example).square().mean().backward()
    torch.optim.SGD(learner.parameters(), 0.1).step()
    assert not torch.equal(learner(example), small(example))


@pytest.mark.parametrize(
    "kind",
    [Fused, Eager, Together, InPieces, InChunks, Scaled, Biased, Unpacked, Asking],
)
def test_heads_and_feed_forward_units_are_removed(kind: type[Attention]) -> None:
    network = pruned(kind)
    small: Any = compact(network, TOKENS)
    assert small.up.out_features == small.down.in_features == 10
    assert small.out.in_features == 6  # two heads of three
    layers = [small.qkv] if isinstance(small, Together) else [small.q, small.k, small.v]
    assert sum(layer.out_features for layer in layers) == 18
    own = [getattr(small, name) for name in ("scale", "bias") if hasattr(small, name)]
    assert all(parameter.shape == (2, 1, 1) for parameter in own)
    assert not isinstance(small, Unpacked) or small.places.shape == (8, 8, 2)
    check_used(network, small, TOKENS)


@pytest.mark.parametrize("kind", [Grouped, GroupedInside])
def test_heads_that_share_keys_and_values_go_together(kind: type[Attention]) -> None:
    network = pruned(kind)
    small: Any = compact(network, TOKENS)
    widths = [layer.out_features for layer in (small.q, small.k, small.v)]
    assert (widths, small.out.in_features) == ([6, 3, 3], 6)
    check_used(network, small, TOKENS)


@pytest.mark.parametrize("kind", [FixedWidth, Decided])
def test_heads_stay_where_the_forward_has_their_number_fixed(kind: type[Attention]) -> None:
    network = pruned(kind)
    report = compaction_report(network, TOKENS)
    small: Any = report.network
    assert (small.out.in_features, small.up.out_features) == (12, 10)
    layer = report.layers["qkv" if isinstance(small, Together) else "q"]
    assert "the forward" in layer.fixed
    check_used(network, small, TOKENS)


def test_weights_that_lie_the_other_way_round_have_units() -> None:
    network = pruned(TransposedPieces)
    small: Any = compact(network, TOKENS)
    assert (small.qkv.weight.shape, small.out.weight.shape) == ((12, 18), (6, 12))
    assert (small.qkv.bias.shape, small.qkv.outputs, small.width) == ((18,), 18, 6)
    check_used(network, small, TOKENS)


@pytest.mark.parametrize("kind", [Multihead, Crossing, lambda: Multihead(bias=False)])
def test_heads_of_pytorchs_attention_are_removed(kind: Callable[[], nn.Module]) -> None:
    network = pruned(kind)
    small: Any = compact(network, TOKENS)
    assert (small.attention.num_heads, small.attention.out_proj.in_features) == (2, 6)
    check_used(network, small, TOKENS)
    prune(small, 0.5, pattern="unit", example=TOKENS, allocation="uniform")
    smaller: Any = compact(small, TOKENS)
    assert smaller.attention.num_heads == 1
    check_used(small, smaller, TOKENS)


def test_heads_stay_where_their_weights_are_read() -> None:
    network = pruned(Weighing)
    small: Any = compact(network, TOKENS)
    assert type(small.attention) is nn.MultiheadAttention


def test_encoders_lose_heads_and_feed_forward_units() -> None:
    network: Any = pruned(Encoder)
    small: Any = compact(network, TOKENS)
    for layer in small.encoder.layers:
        assert (layer.self_attn.num_heads, layer.linear1.out_features) == (2, 10)
    check_used(network, small, TOKENS)
    padding = torch.tensor([[False] * 4 + [True] * 2, [False] * 6])
    with torch.no_grad():
        outputs = [n.encoder(TOKENS, src_key_padding_mask=padding) for n in (network, small)]
    torch.testing.assert_close(*(found[~padding] for found in outputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("bidirectional", "last"), [(False, False), (True, False), (True, True)])
def test_hidden_units_go_with_all_their_gates(
    kind: type[Any], bidirectional: bool, last: bool
) -> None:
    network: Any = pruned(lambda: Recurrent(kind, bidirectional, last))
    small: Any = compact(network, TOKENS)
    assert (small.recurrent.hidden_size, small.head.in_features) == (
        4,
        network.head.in_features // 2,
    )
    held = zip(small.recurrent._flat_weights, small.recurrent.parameters(), strict=True)
    assert all(flat is parameter for flat, parameter in held)
    check_used(network, small, TOKENS)


class Steps(nn.Module):
    """Two cells on top of each other, called step by step, with first states of zeros or none."""

    def __init__(self, kind: type[Any], written: bool) -> None:
        super().__init__()
        self.lower, self.upper = kind(12, 8), kind(8, 6)
        self.head, self.written = nn.Linear(6, 3), written

    def forward(self, x: Tensor) -> Tensor:
        lower: Any = None
        upper: Any = None
        if self.written:
            lower = x.new_zeros(len(x), self.lower.hidden_size)
            if isinstance(self.lower, nn.LSTMCell):
                lower = lower, torch.zeros_like(lower)
        found = []
        for step in range(x.shape[1]):
            lower = self.lower(x[:, step], lower)
            upper = self.upper((lower[0] if isinstance(lower, tuple) else lower).relu(), upper)
            found.append(upper[0] if isinstance(upper, tuple) else upper)
        return self.head(torch.stack(found, 1).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("written", [False, True])
def test_units_of_cells_go_with_all_their_gates(kind: type[Any], written: bool) -> None:
    network: Any = pruned(lambda: Steps(kind, written))
    small: Any = compact(network, TOKENS)
    widths = (small.lower.hidden_size, small.upper.input_size, small.head.in_features)
    assert widths == (4, 4, 3)
    check_used(network, small, TOKENS)


def test_recurrent_layers_keep_as_many_units_each() -> None:
    torch.manual_seed(0)
    network = Recurrent(nn.LSTM, False, False).eval()
    keep = {"recurrent.*_l0": 0.75, "recurrent.*_l1": 0.25, "head.weight": 0.0}
    prune(network, 0.0, pattern="unit", example=TOKENS, allocation=keep)
    small: Any = compact(network, TOKENS)
    assert small.recurrent.hidden_size == 6  # of the second layer; four of the first are idle
    check_used(network, small, TOKENS)


def test_what_is_left_can_be_made_smaller_again() -> None:
    small: Any = compact(pruned(Together), TOKENS)
    prune(small, 0.5, pattern="unit", example=TOKENS, allocation="uniform")
    smaller: Any = compact(small, TOKENS)
    assert (smaller.out.in_features, smaller.qkv.out_features, smaller.heads) == (3, 9, 1)
    assert error(small, smaller, TOKENS) < 1e-12


def test_a_forward_that_goes_another_way_for_one_example_is_left_whole() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(12, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            if x.shape[0] == 1:
                x = x.flip(-1)
            return self.last(x)  # type: ignore[no-any-return]

    network = pruned(Forked)
    with pytest.warns(RuntimeWarning, match="cannot be followed"):
        small: Any = compact(network, TOKENS)
    assert error(network, small, TOKENS[:1]) == error(network, small, TOKENS) == 0


def test_a_mask_chooses_whole_heads() -> None:
    network: Any = pruned(Together)
    alive = network.qkv.weight.any(1).view(3, 4, 3)
    assert torch.equal(alive, alive[:1, :, :1].expand_as(alive))
    assert int(alive[0, :, 0].sum()) == 2


class Activated(nn.BatchNorm2d):
    """A normalisation with an activation, as timm has it."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training,
            0.1, self.eps,
        )  # fmt: skip
        return functional.relu(x)


class Image(nn.Module):
    """Layer scales, gated halves, and sums and maxima over other axes than the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 8, 3), Activated(8)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.gated, self.last = nn.Conv2d(8, 12, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.glu(self.gated(self.norm(self.first(x)) * self.scale), 1)
        return self.last(x.sum(2).max(-1).values)  # type: ignore[no-any-return]


def test_what_belongs_to_each_channel_goes_with_it() -> None:
    images = torch.randn(2, 2, 8, 8)
    network = pruned(Image, images)
    small: Any = compact(network, images)
    assert (small.first.out_channels, small.norm.num_features, small.scale.shape[0]) == (4, 4, 4)
    assert (small.gated.out_channels, small.last.in_features) == (6, 3)
    assert error(network, small, torch.randn(3, 2, 6, 7)) < 1e-12
    small.train()(images).sum().backward()
