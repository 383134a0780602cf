"""Tracing a network and recording it on an example give the same answers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import find_mask
from gossamer.core.errors import InputError
from gossamer.graph.examples import Example
from gossamer.masks import Mask, prunable_weights


def free(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


class Body(nn.Module):
    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


class OwnLinear(nn.Module):
    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight, self.bias = free(units, inputs), free(units)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class TransposedLinear(nn.Module):
    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight, self.bias, self.units = free(inputs, units), free(units), units

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.addmm(self.bias, x.reshape(-1, x.size(-1)), self.weight)
        return rows.view(x.size()[:-1] + (self.units,))  # noqa: RUF005 - as it is written there


def spread(tokens: Tensor, x: Tensor) -> Tensor:
    return tokens.expand(x.size(0), -1, -1)


def attended(m: Any, q: Tensor, x: Tensor) -> Tensor:
    key, value = m.kv(x).chunk(2, -1)
    return functional.scaled_dot_product_attention(m.q(q), key, value)


def unet(m: Any, x: Tensor) -> Tensor:
    wide = functional.relu(m.n1(m.c1(x)))
    deep = functional.relu(m.n2(m.c2(functional.max_pool2d(wide, 2))))
    out: Tensor = m.out(torch.cat([wide, m.up(deep)], 1))
    return out


def attention_by_hand(m: Any, x: Tensor) -> Tensor:
    key, value = m.kv(x).chunk(2, -1)
    out: Tensor = m.out((m.q(spread(m.tokens, x)) @ key.transpose(-2, -1)).softmax(-1) @ value)
    return out


IMAGE, TOKENS, ROWS = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 8), torch.randn(4, 8)
NETWORKS: dict[str, tuple[nn.Module, Example, set[str], set[str]]] = {
    "mlp": (nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 2)), ROWS,
            {"0.weight", "3.weight"}, set()),
    "rows normalised": (nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)), ROWS,
                        {"0.weight", "2.weight"}, set()),
    "cnn": (nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3),
                          nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(4, 2)), IMAGE, {"0.weight", "3.weight", "7.weight"}, set()),
    "vision transformer": (
        Body(lambda m, x: m.head(m.block(torch.cat(
            [spread(m.cls, x), m.patches(x).flatten(2).transpose(1, 2)], 1) + m.pos)[:, 0]),
            patches=nn.Conv2d(3, 8, 4, 4), cls=free(1, 1, 8), pos=free(1, 5, 8),
            block=nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True),
            head=nn.Linear(8, 2)),
        IMAGE, {"patches.weight", "block.self_attn.in_proj_weight", "head.weight",
                "block.self_attn.out_proj.weight", "block.linear1.weight", "block.linear2.weight"},
        {"cls", "pos"}),
    "perceiver": (
        Body(lambda m, x: m.out(attended(m, spread(m.tokens, x), x)), tokens=free(1, 3, 8),
             q=nn.Linear(8, 8), kv=nn.Linear(8, 16), out=nn.Linear(8, 2)),
        TOKENS, {"q.weight", "kv.weight", "out.weight"}, {"tokens"}),
    "perceiver of own layers": (
        Body(lambda m, x: m.out(attended(m, m.first(spread(m.tokens, x)).relu(), x)),
             tokens=free(1, 3, 8), first=OwnLinear(8, 8), q=OwnLinear(8, 8), kv=OwnLinear(8, 16),
             out=OwnLinear(8, 2)),
        TOKENS, {"first.weight", "q.weight", "kv.weight", "out.weight"}, {"tokens"}),
    "attention by hand": (
        Body(attention_by_hand, tokens=free(1, 3, 8), q=nn.Linear(8, 8), kv=nn.Linear(8, 16),
             out=nn.Linear(8, 2)),
        TOKENS, {"q.weight", "kv.weight", "out.weight"}, {"tokens"}),
    "attention by hand, of transposed layers": (
        Body(attention_by_hand, tokens=free(1, 3, 8), q=TransposedLinear(8, 8),
             kv=TransposedLinear(8, 16), out=TransposedLinear(8, 2)),
        TOKENS, {"q.weight", "kv.weight", "out.weight"}, {"tokens"}),
    "bare queries": (
        Body(lambda m, x: m.out(functional.scaled_dot_product_attention(
            m.scale * spread(m.tokens, x), x, x)), tokens=free(1, 3, 8), scale=free(1),
            out=nn.Linear(8, 2)), TOKENS, {"out.weight"}, {"tokens"}),
    "a matrix product with tokens": (
        Body(lambda m, x: m.out(x @ m.tokens.transpose(-2, -1)), tokens=free(1, 3, 8),
             out=nn.Linear(3, 2)), TOKENS, {"tokens", "out.weight"}, set()),
    "detr": (
        Body(lambda m, x: m.out(m.att(m.queries.unsqueeze(0).expand(x.size(0), -1, -1), x, x)[0]),
             queries=free(3, 8), att=nn.MultiheadAttention(8, 2, batch_first=True),
             out=nn.Linear(8, 2)),
        TOKENS, {"att.in_proj_weight", "att.out_proj.weight", "out.weight"}, {"queries"}),
    "learned constant": (
        Body(lambda m, x: m.out(m.conv(m.constant) * m.style(x)[..., None, None]),
             constant=free(1, 3, 4, 4), conv=nn.Conv2d(3, 6, 3, padding=1), style=nn.Linear(8, 6),
             out=nn.Conv2d(6, 2, 1)),
        ROWS, {"conv.weight", "style.weight", "out.weight"}, {"constant"}),
    "tied autoencoder": (
        Body(lambda m, x: functional.linear(m.n(functional.linear(x, m.w)).relu(), m.w.t()),
             w=free(6, 8), n=nn.LayerNorm(6)), ROWS, {"w"}, set()),
    "own linear": (nn.Sequential(OwnLinear(8, 6), nn.ReLU(), OwnLinear(6, 2)), ROWS,
                   {"0.weight", "2.weight"}, set()),
    "transposed linear": (nn.Sequential(TransposedLinear(8, 6), nn.GELU(), TransposedLinear(6, 2)),
                          TOKENS, {"0.weight", "2.weight"}, set()),
    "gru": (
        Body(lambda m, x: m.out(m.gru(x, m.start.expand(-1, x.size(0), -1).contiguous())[0]),
             gru=nn.GRU(8, 6, batch_first=True), start=free(1, 1, 6), out=nn.Linear(6, 2)),
        TOKENS, {"gru.weight_ih_l0", "gru.weight_hh_l0", "out.weight"}, {"start"}),
    "u-net": (
        Body(unet, c1=nn.Conv2d(3, 6, 3, padding=1), n1=nn.BatchNorm2d(6),
             c2=nn.Conv2d(6, 8, 3, padding=1), n2=nn.BatchNorm2d(8),
             up=nn.ConvTranspose2d(8, 6, 2, 2), out=nn.Conv2d(12, 2, 1)),
        IMAGE, {"c1.weight", "c2.weight", "up.weight", "out.weight"}, set()),
    "gated channels": (
        Body(lambda m, x: m.out(m.n(
            (lambda h: h * m.gate(h.mean((2, 3), keepdim=True)).sigmoid())(m.conv(x)))),
            conv=nn.Conv2d(3, 6, 3), gate=nn.Conv2d(6, 6, 1), n=nn.BatchNorm2d(6),
            out=nn.Conv2d(6, 2, 1)),
        IMAGE, {"conv.weight", "gate.weight", "out.weight"}, set()),
}  # fmt: skip


def looked_at(model: nn.Module, example: Example | None) -> tuple[Mask, set[str], set[str]]:
    mask = find_mask(model, 0.5, allocation="uniform", example=example)
    try:
        inner = prunable_weights(model, "output layer", example=example)
    except InputError as error:
        if "that `exclude` leaves" not in str(error):
            raise
        inner = []
    return mask, set(mask.left_alone), {weight.name for weight in inner}


def attached_to(model: nn.Module, example: Example | None) -> set[str] | None:
    """Return what goes with units; None where no weight has any."""
    try:
        return set(find_mask(model, 0.5, pattern="unit", example=example).attached)
    except InputError as error:
        if "no layer has the pattern" not in str(error):
            raise
        return None


def or_refused(look: Callable[[nn.Module, Example | None], Any], model: nn.Module) -> Any:
    try:
        return look(model, None)
    except InputError as error:
        assert "pass example=" in str(error)  # noqa: PT017 - either answer is right
        return "refused"


@pytest.mark.parametrize("name", NETWORKS)
def test_both_ways_give_the_same_or_tracing_refuses(name: str) -> None:
    model, example, weights, left = NETWORKS[name]
    on_example = looked_at(model, example)
    assert (set(on_example[0].weights), on_example[1]) == (weights, left)
    assert or_refused(looked_at, model) in (on_example, "refused")
    attached = attached_to(model, example)
    assert or_refused(attached_to, model) in (attached, "refused")


def test_all_of_them_but_what_asks_for_shapes_can_be_traced() -> None:
    refusing = {
        name for name, (model, *_) in NETWORKS.items() if or_refused(looked_at, model) == "refused"
    }
    assert refusing == {"vision transformer"}
