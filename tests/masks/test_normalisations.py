"""A normalisation belongs to a layer only if it acts on that layer's channels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import find_mask
from gossamer.core.errors import InputError


class Body(nn.Module):
    """Runs a function; guarded, in a way that cannot be traced without an input."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run
        self.guarded = False

    def forward(self, x: Tensor) -> Tensor:
        if self.guarded and not torch.isfinite(x).all():
            raise ValueError("not finite")
        return self.run(self, x)


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1)
        normal = functional.layer_norm(last, self.normalized_shape, self.weight, self.bias)
        return normal.permute(0, 3, 1, 2)


class ActiveNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        return functional.batch_norm(x, mean, var, self.weight, self.bias).relu()


def conv(units: int = 7) -> nn.Conv2d:
    return nn.Conv2d(3, units, 3)


def gated(m: Any, h: Tensor) -> Tensor:
    squeezed = h.mean((2, 3), keepdim=True)
    return h * torch.sigmoid(m.g(squeezed))


IMAGE, TOKENS, ROWS = (2, 3, 8, 8), (2, 5, 6), (4, 6)
NORMS = [
    # registered in another order than called
    (Body(lambda m, x: m.n2(m.c2(m.n1(m.c1(x)).relu())), c1=conv(), c2=nn.Conv2d(7, 7, 1),
          n2=nn.BatchNorm2d(7), n1=nn.BatchNorm2d(7)), IMAGE, {"c1": {"n1"}, "c2": {"n2"}}),
    (Body(lambda m, x: m.l2(m.l1(m.n(x)).relu()), l1=nn.Linear(6, 6), n=nn.LayerNorm(6),
          l2=nn.Linear(6, 3)), ROWS, {"l1": set(), "l2": set()}),
    # over channels, wherever the axis went
    (Body(lambda m, x: m.n(m.l(x)), l=nn.Linear(6, 7), n=nn.BatchNorm1d(7)), ROWS, {"l": {"n"}}),
    (Body(lambda m, x: m.n(m.l(x).transpose(1, 2)), l=nn.Linear(6, 7), n=nn.BatchNorm1d(7)),
     TOKENS, {"l": {"n"}}),
    (Body(lambda m, x: m.n(m.l(x).reshape(-1, 7)), l=nn.Linear(6, 7), n=nn.BatchNorm1d(7)),
     TOKENS, {"l": {"n"}}),
    (Body(lambda m, x: m.n(m.c(x).permute(0, 2, 3, 1)), c=conv(), n=nn.LayerNorm(7)), IMAGE,
     {"c": {"n"}}),
    (Body(lambda m, x: m.n(m.c(x).movedim(1, -1)), c=conv(), n=nn.LayerNorm(7)), IMAGE,
     {"c": {"n"}}),
    (Body(lambda m, x: m.n(m.c(x).flatten(2).mT), c=conv(), n=nn.RMSNorm(7)), IMAGE, {"c": {"n"}}),
    (Body(lambda m, x: m.n(m.c(x)), c=conv(), n=ChannelNorm(7)), IMAGE, {"c": {"n"}}),
    (Body(lambda m, x: m.n(m.c(x)), c=conv(), n=ActiveNorm(7)), IMAGE, {"c": {"n"}}),
    (Body(lambda m, x: m.n(m.c(x).mean((2, 3))), c=conv(), n=nn.BatchNorm1d(7)), IMAGE,
     {"c": {"n"}}),
    (Body(lambda m, x: m.n(functional.adaptive_avg_pool2d(m.c(x), 1).view(len(x), -1)), c=conv(),
          n=nn.BatchNorm1d(7)), IMAGE, {"c": {"n"}}),
    (Body(lambda m, x: m.n(functional.pad(functional.relu(m.c(x), inplace=True), (1, 1))), c=conv(),
          n=nn.BatchNorm2d(7)), IMAGE, {"c": {"n"}}),
    (Body(lambda m, x: m.n(functional.interpolate(m.c(x), scale_factor=2)), c=conv(),
          n=nn.GroupNorm(1, 7)), IMAGE, {"c": {"n"}}),
    (Body(lambda m, x: m.n((lambda h: h * h.sigmoid())(m.l(x))), l=nn.Linear(6, 7),
          n=nn.LayerNorm(7)), ROWS, {"l": {"n"}}),
    (Body(lambda m, x: m.n(m.l(x) + m.shift), l=nn.Linear(6, 7), n=nn.LayerNorm(7),
          shift=nn.Parameter(torch.ones(7))), ROWS, {"l": {"n"}}),
    (Body(lambda m, x: m.n(m.c(x)), c=conv(), n=nn.LayerNorm((7, 6, 6))), IMAGE[1:], {"c": {"n"}}),
    # behind a factor, which leaves a unit of zeros what it is
    (Body(lambda m, x: m.n(gated(m, m.c(x))), c=conv(), g=nn.Conv2d(7, 7, 1), n=nn.BatchNorm2d(7)),
     IMAGE, {"c": {"n"}, "g": set()}),
    (Body(lambda m, x: m.n(m.g(m.c(x).mean((2, 3))).sigmoid()[..., None, None] * m.c(x).relu()),
          c=conv(), g=nn.Linear(7, 7), n=nn.BatchNorm2d(7)), IMAGE, {"c": {"n"}, "g": set()}),
    (Body(lambda m, x: m.n(m.c(x).mul_(m.g(x.mean((2, 3), keepdim=True)).sigmoid())), c=conv(),
          g=nn.Conv2d(3, 1, 1), n=nn.GroupNorm(7, 7)), IMAGE, {"c": {"n"}, "g": set()}),
    (Body(lambda m, x: m.n(m.a(x) * m.b(x).sigmoid()), a=nn.Linear(6, 7), b=nn.Linear(6, 7),
          n=nn.LayerNorm(7)), TOKENS, {"a": {"n"}, "b": set()}),
    (Body(lambda m, x: m.n(m.l(x) / (1 + x.abs().sum(-1, keepdim=True))), l=nn.Linear(6, 7),
          n=nn.LayerNorm(7)), TOKENS, {"l": {"n"}}),
    (Body(lambda m, x: m.n((1 + x.abs().sum(-1, keepdim=True)) / m.l(x)), l=nn.Linear(6, 7),
          n=nn.LayerNorm(7)), TOKENS, {"l": set()}),
    (Body(lambda m, x: m.n(functional.softplus(m.l(x)) * x.sum(-1, keepdim=True)),
          l=nn.Linear(6, 7), n=nn.LayerNorm(7)), TOKENS, {"l": set()}),
    (Body(lambda m, x: m.n((m.l(x) + m.shift) * x.sum(-1, keepdim=True)), l=nn.Linear(6, 7),
          n=nn.LayerNorm(7), shift=nn.Parameter(torch.ones(7))), TOKENS, {"l": set()}),
    (Body(lambda m, x: m.n(m.l(x) + x.sum(-1, keepdim=True)), l=nn.Linear(6, 7),
          n=nn.LayerNorm(7)), TOKENS, {"l": set()}),
    # over something else
    (Body(lambda m, x: m.n(m.l(x)), l=nn.Linear(6, 5), n=nn.BatchNorm1d(5)), TOKENS, {"l": set()}),
    (Body(lambda m, x: m.n(m.l(x)), l=nn.Linear(6, 5), n=nn.GroupNorm(1, 5)), TOKENS, {"l": set()}),
    (Body(lambda m, x: m.n(m.c(x).flatten(2)), c=conv(36), n=nn.LayerNorm(36)), IMAGE,
     {"c": set()}),
    (Body(lambda m, x: m.n(x + m.l(x)), l=nn.Linear(6, 6), n=nn.LayerNorm(6)), ROWS, {"l": set()}),
    (Body(lambda m, x: m.n(torch.cat([m.a(x), m.b(x)], 1)), a=nn.Linear(6, 3), b=nn.Linear(6, 3),
          n=nn.BatchNorm1d(6)), ROWS, {"a": set(), "b": set()}),
    (Body(lambda m, x: m.n(m.l(m.n(x))), l=nn.Linear(6, 6), n=nn.LayerNorm(6)), ROWS, {"l": set()}),
    (Body(lambda m, x: m.n(m.c(x).view(2, 2, 4, 6, 6).transpose(1, 2).reshape(2, 8, 6, 6)),
          c=conv(8), n=nn.BatchNorm2d(8)), IMAGE, {"c": set()}),
]  # fmt: skip


def belonging(model: nn.Module, example: Tensor | None) -> dict[str, set[str]]:
    """Return, by layer, the modules whose parameters go with its units."""
    layers = [
        name for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)
    ]
    found = {}
    for layer in layers:
        shares = {f"{other}.weight": 0.0 for other in layers if other != layer} | {layer: 0.5}
        mask = find_mask(
            model, 0.5, pattern="unit", allocation=shares, example=example, coupled=False
        )
        found[layer] = {
            name.rpartition(".")[0]
            for name, kept in mask.attached.items()
            if not bool(kept.all()) and not name.startswith(f"{layer}.")
        }
    return found


@pytest.mark.parametrize(("model", "shape", "norms"), NORMS)
@pytest.mark.parametrize("guarded", [False, True])
def test_on_an_example_the_axis_of_the_channels_decides(
    model: Body, shape: tuple[int, ...], norms: dict[str, set[str]], guarded: bool
) -> None:
    model.guarded = guarded
    assert belonging(model, torch.randn(shape)) == norms


@pytest.mark.parametrize(("model", "shape", "norms"), NORMS)
def test_without_one_the_same_is_found_or_the_call_refuses(
    model: Body,
    shape: tuple[int, ...],
    norms: dict[str, set[str]],
) -> None:
    model.guarded = False
    try:
        found = belonging(model, None)
    except InputError as error:
        assert "pass example=" in str(error)  # noqa: PT017 - either answer is right
    else:
        assert found == norms


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(6), nn.GroupNorm(2, 6)])
def test_rows_or_tokens_are_told_apart_on_an_example_only(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(6, 6), norm, nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(InputError, match=r"whether 1 .* units of 0 .*pass example=.* takes$"):
        find_mask(model, 0.5, pattern="unit", exclude="3")
    rows = find_mask(model, 0.5, pattern="unit", exclude="3", example=torch.rand(4, 6))
    assert set(rows.attached) == {"0.bias", "1.weight", "1.bias"}
    tokens = find_mask(model, 0.5, pattern="unit", exclude="3", example=torch.rand(4, 6, 6))
    assert set(tokens.attached) == {"0.bias"}
    assert set(find_mask(model, 0.5, pattern="unit", exclude=["3", "1"]).attached) == {"0.bias"}


@pytest.mark.parametrize(
    "before", [nn.Flatten(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())]
)
def test_a_known_rank_needs_no_example(before: nn.Module) -> None:
    features = 3 if isinstance(before, nn.Sequential) else 12
    model = nn.Sequential(before, nn.Linear(features, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    attached = find_mask(model, 0.5, pattern="unit", exclude="3").attached
    assert set(attached) == {"1.bias", "2.weight", "2.bias"}
    example = torch.rand(2, 3, 2, 2)
    assert (
        attached.keys()
        == find_mask(model, 0.5, pattern="unit", exclude="3", example=example).attached.keys()
    )


def test_functions_with_a_scale_and_shift_of_their_own_count() -> None:
    model = Body(
        lambda m, x: functional.batch_norm(m.c(x), m.mean, m.var, m.scale, m.shift),
        c=conv(), scale=nn.Parameter(torch.ones(7)), shift=nn.Parameter(torch.ones(7)),
        mean=torch.zeros(7), var=torch.ones(7),
    )  # fmt: skip
    mask = find_mask(model, 0.5, pattern="unit", example=torch.rand(IMAGE))
    assert set(mask.attached) == {"c.bias", "scale", "shift"}
