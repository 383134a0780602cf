import copy
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import find_mask, prune
from gossamer.core.errors import InputError
from gossamer.masks import prunable_weights
from gossamer.masks.units import UnitLayout


class Body(nn.Module):
    """Runs a function over parts that it holds under their names."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def random_values(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter and running statistic a value that shows."""
    generator = torch.Generator().manual_seed(seed)
    for value in [*model.parameters(), *model.buffers()]:
        if value.is_floating_point():
            value.data = torch.rand(value.shape, generator=generator).to(value) + 0.1
            value.data *= torch.rand(value.shape, generator=generator) + 0.1
    return model.double().eval()


def silenced(model: nn.Module, gone: dict[str, tuple[Tensor, int]], given: Tensor) -> Tensor:
    """Run a copy in which the channels of these modules are forced to zero by hand."""
    model = copy.deepcopy(model)

    def hook(units: Tensor, dimension: int) -> Callable[..., Tensor]:
        def force(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return output.index_fill(dimension, units.nonzero().flatten(), 0)

        return force

    for name, (units, dimension) in gone.items():
        model.get_submodule(name).register_forward_hook(hook(units, dimension))
    result: Tensor = model(given)
    return result


IMAGE, ROW = (2, 4, 6, 6), (5, 4)
CASES: list[tuple[nn.Module, tuple[int, ...], str, list[str]]] = [
    (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), ROW, "0", []),
    (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)), ROW, "0", ["1"]),
    (
        nn.Sequential(
            nn.Linear(4, 6), nn.ReLU(), nn.Dropout(), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2)
        ),
        ROW, "0", ["3"],
    ),
    (nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.RMSNorm(6), nn.Linear(6, 2)), ROW, "0", ["2"]),
    (nn.Sequential(nn.Linear(4, 6), nn.LayerNorm((5, 6)), nn.Linear(6, 2)), ROW, "0", ["1"]),
    (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 1, 1)), IMAGE, "0", ["1"]),
    (nn.Sequential(nn.Conv2d(4, 6, 3), nn.SiLU(), nn.GroupNorm(2, 6), nn.Conv2d(6, 1, 1)), IMAGE,
     "0", ["2"]),
    (nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(),
                   nn.BatchNorm2d(6), nn.Conv2d(6, 1, 1)), IMAGE, "0", ["4"]),
    (nn.Sequential(nn.Conv2d(4, 6, 3), nn.LayerNorm((6, 4, 4)), nn.Conv2d(6, 1, 1)), IMAGE, "0",
     ["1"]),
    (nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.InstanceNorm2d(6, affine=True),
                   nn.Conv2d(6, 1, 1)), IMAGE, "0", ["1"]),
    (nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 1, 1)), IMAGE, "0",
     ["1"]),
    (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.Conv2d(6, 1, 1)),
     IMAGE, "0", ["1"]),
    (Body(lambda m, x: m.out(m.norm(functional.max_pool2d(m.conv(x).relu(), 2))),
          norm=nn.BatchNorm2d(6), conv=nn.Conv2d(4, 6, 3), out=nn.Conv2d(6, 1, 1)), IMAGE, "conv",
     ["norm"]),
    (Body(lambda m, x: m.out(m.one(m.conv(x)) + m.two(m.conv(x).relu())), one=nn.BatchNorm2d(6),
          two=nn.BatchNorm2d(6), conv=nn.Conv2d(4, 6, 3), out=nn.Conv2d(6, 1, 1)), IMAGE, "conv",
     ["one", "two"]),
    (Body(lambda m, x: m.out(m.norm(m.conv(x))) if x.sum() > 0 else x, conv=nn.Conv2d(4, 6, 3),
          norm=nn.BatchNorm2d(6), out=nn.Conv2d(6, 1, 1)), IMAGE, "conv", ["norm"]),
    (Body(lambda m, x: m.out(m.part(x)) if x.sum() > 0 else x, out=nn.Conv2d(6, 1, 1),
          part=Body(lambda m, x: m.norm(m.conv(x)), norm=nn.BatchNorm2d(6),
                    conv=nn.Conv2d(4, 6, 3))), IMAGE, "part.conv", ["part.norm"]),
]  # fmt: skip


@pytest.mark.parametrize(("model", "shape", "layer", "norms"), CASES)
def test_outputs_are_those_of_units_forced_to_zero(
    model: nn.Module, shape: tuple[int, ...], layer: str, norms: list[str]
) -> None:
    model = random_values(copy.deepcopy(model))
    generator = torch.Generator().manual_seed(1)
    given = torch.rand(shape, generator=generator).double()
    others = [w.name for w in prunable_weights(model) if w.name != f"{layer}.weight"]
    mask = find_mask(model, 0.5, pattern="unit", exclude=others, example=given, coupled=False)
    expected = {f"{layer}.weight", f"{layer}.bias"}
    assert set(mask) == expected | {
        f"{norm}.{name}"
        for norm in norms
        for name, _ in model.get_submodule(norm).named_parameters()
    }
    gone = ~mask[f"{layer}.bias"]
    assert int(gone.sum()) == 3
    dimension = -1 if isinstance(model.get_submodule(layer), nn.Linear) else 1
    wanted = silenced(model, dict.fromkeys((layer, *norms), (gone, dimension)), given)
    mask.apply(model)
    assert torch.allclose(model(given), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(6, 4), nn.Conv2d(6, 4, (2, 3), groups=2), nn.Conv3d(2, 3, 2),
        nn.ConvTranspose1d(6, 4, 5), nn.ConvTranspose2d(6, 4, 3, groups=2),
    ],
)  # fmt: skip
def test_kernels_have_units_inputs_and_positions(module: nn.Module) -> None:
    (layer,) = prunable_weights(module)
    weight = layer.weight.detach()
    kernels = layer.layout.kernels(weight)
    units = cast("Tensor", module.bias).shape[0]
    groups = cast("int", getattr(module, "groups", 1))
    positions = math.prod(getattr(module, "kernel_size", ()))
    assert kernels.shape == (units, 6 // groups if units == 4 else 2, positions)
    assert torch.equal(layer.layout.from_rows(kernels.flatten(1), weight.shape), weight)


def norms_by_hand(module: nn.Module) -> np.ndarray[Any, Any]:
    weight = cast("Tensor", module.weight).detach().double().numpy()
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        groups = np.split(weight, module.groups)
        return np.array(
            [np.sqrt((g[:, unit] ** 2).sum()) for g in groups for unit in range(g.shape[1])]
        )
    return np.array([np.sqrt((row**2).sum()) for row in weight])


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(5, 8), nn.Conv1d(4, 8, 3), nn.Conv2d(4, 8, 3, groups=2), nn.Conv3d(2, 8, 2),
        nn.ConvTranspose1d(4, 8, 3), nn.ConvTranspose2d(4, 8, 3, groups=2),
        nn.ConvTranspose3d(4, 8, 2, groups=4),
    ],
)  # fmt: skip
def test_units_of_the_smallest_incoming_norm_go(module: nn.Module) -> None:
    norms = norms_by_hand(module)
    mask = find_mask(module, 0.5, pattern="unit", coupled=False)
    expected = [place in norms.argsort()[4:] for place in range(8)]
    assert mask["bias"].tolist() == expected
    assert mask.sparsity == 0.5
    rows = UnitLayout(mask.unit_dimensions["weight"], mask.unit_groups.get("weight", 1)).rows(
        mask["weight"]
    )
    assert rows.all(1).tolist() == rows.any(1).tolist() == expected
    assert find_mask(module, 0.5, pattern="unit", score="largest", coupled=False)[
        "bias"
    ].tolist() == [not kept for kept in expected]


def test_units_compare_across_layers_and_come_nearest_to_the_sparsity() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 3))
    sizes = {"0": 5, "1": 8, "2": 6}
    ranked = sorted(
        (value / np.sqrt((norms_by_hand(module) ** 2).mean()), int(name), place, sizes[name])
        for name, module in model.named_children()
        for place, value in list(enumerate(norms_by_hand(module)))
    )
    best = {name: int(norms_by_hand(module).argmax()) for name, module in model.named_children()}
    order = [unit for unit in ranked if best[str(unit[1])] != unit[2]]
    total = 5 * 8 + 8 * 6 + 6 * 3
    for sparsity in np.linspace(0, 0.99, 34):
        reached = np.cumsum([0, *(unit[3] for unit in order)])
        count = int(np.abs(reached - sparsity * total).argmin())
        mask = find_mask(model, float(sparsity), pattern="unit")
        assert mask.zeros == reached[count]
        gone = {(layer, place) for _, layer, place, _ in order[:count]}
        assert gone == {
            (int(name), int(place))
            for name in sizes
            for place in (~mask[f"{name}.bias"]).nonzero().flatten()
        }


def test_unit_pruning_is_total_and_zero_units_go_first() -> None:
    model = nn.Linear(5, 10)
    first = prune(model, 0.5, pattern="unit", score="random")
    second = prune(model, 0.9, pattern="unit", score="largest")
    assert (second.sparsity, int((model.weight == 0).sum())) == (0.9, 45)
    assert bool((first["bias"] | ~second["bias"]).all())
    assert find_mask(model, 0.5, pattern="unit").sparsity == 0.5


UNTOUCHED: list[nn.Module] = [
    # behind a residual addition
    Body(lambda m, x: m.norm(x + m.layer(x)), layer=nn.Linear(6, 6), norm=nn.LayerNorm(6)),
    # before the layer
    Body(lambda m, x: m.layer(m.norm(x)), layer=nn.Linear(6, 6), norm=nn.LayerNorm(6)),
    # over places, of which there are as many as channels
    Body(lambda m, x: m.norm(m.layer(x)), layer=nn.Conv1d(6, 6, 1), norm=nn.LayerNorm(6)),
    # behind functions that mix units
    Body(lambda m, x: m.norm(m.layer(x).transpose(0, 1)), layer=nn.Linear(6, 6),
         norm=nn.LayerNorm(6)),
    nn.Sequential(nn.Linear(6, 6), nn.AvgPool1d(3, 1, 1), nn.LayerNorm(6)),
    nn.Sequential(nn.Linear(6, 6), nn.BatchNorm2d(6)),
    # also used on something else
    Body(lambda m, x: m.norm(m.layer(x)) + m.norm(x), layer=nn.Linear(6, 6), norm=nn.LayerNorm(6)),
    # not right behind it, or inside a transformer's layer, where nothing can be traced
    Body(lambda m, x: m.layer(x) if x.sum() > 0 else x, layer=nn.Linear(6, 6), softmax=nn.Softmax(),
         norm=nn.LayerNorm(6)),
]  # fmt: skip


@pytest.mark.parametrize("model", UNTOUCHED)
def test_normalisations_of_something_else_are_left_alone(model: nn.Module) -> None:
    images = any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    example = torch.rand(2, 6, 6, 6) if images else torch.rand(6, 6)
    mask = find_mask(model, 0.5, pattern="unit", example=example, coupled=False)
    layer = "0" if isinstance(model, nn.Sequential) else "layer"
    assert set(mask) == {f"{layer}.weight", f"{layer}.bias"}


def test_the_normalisations_of_an_untraceable_transformer_are_left_alone() -> None:
    model = Body(
        lambda m, x: m.block(x) if x.sum() > 0 else x, block=nn.TransformerEncoderLayer(6, 2, 6)
    )
    with pytest.raises(InputError, match=r"which normalisation .*cannot be found: .*pass example="):
        find_mask(model, 0.5, pattern="unit", coupled=False)
    with pytest.raises(InputError, match=r"which units go together cannot .*pass example=.*False"):
        find_mask(model, 0.5, pattern="unit")
    tokens = torch.rand(2, 5, 6)
    single = find_mask(model, 0.5, pattern="unit", example=tokens, coupled=False)
    assert set(single.attached) == {
        f"block.{name}.bias" for name in ("self_attn.out_proj", "linear1", "linear2")
    }
    # What is added to the network's input keeps its width; what is inside of it does not.
    mask = find_mask(model, 0.5, pattern="unit", example=tokens)
    inside = (
        "linear1.weight",
        "linear1.bias",
        "self_attn.in_proj_weight",
        "self_attn.in_proj_bias",
    )
    assert set(mask) == {f"block.{name}" for name in inside}
    assert set(mask.left_alone) == {
        f"block.{name}" for name in ("self_attn.out_proj.weight", "linear2.weight")
    }


def test_layers_that_share_a_normalisation_keep_what_either_keeps() -> None:
    model = Body(
        lambda m, x: m.norm(m.a(x)) + m.norm(m.b(x)),
        a=nn.Linear(6, 6), b=nn.Linear(6, 6), norm=nn.LayerNorm(6),
    )  # fmt: skip
    mask = find_mask(model, 0.5, pattern="unit", allocation="uniform", coupled=False)
    assert torch.equal(mask["norm.weight"], mask["a.bias"] | mask["b.bias"])
    alone = find_mask(model, 0.5, pattern="unit", exclude="b", coupled=False)
    assert set(alone) == {"a.weight", "a.bias"}


def test_layers_that_share_a_weight_lose_the_same_units() -> None:
    model = Body(
        lambda m, x: m.norm(m.a(x)) + m.b(x),
        a=nn.Linear(6, 6), b=nn.Linear(6, 6), norm=nn.LayerNorm(6),
    )  # fmt: skip
    cast("nn.Linear", model.b).weight = cast("nn.Linear", model.a).weight
    mask = find_mask(model, 0.5, pattern="unit")
    assert set(mask) == {"a.weight", "a.bias", "b.bias", "norm.weight", "norm.bias"}
    assert all(torch.equal(value, mask["a.bias"]) for value in mask.attached.values())


def test_exclude_holds_for_what_would_go_with_a_unit() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    assert set(find_mask(model, 0.5, pattern="unit", exclude="1")) == {"0.weight", "0.bias"}
    assert set(find_mask(model, 0.5, pattern="unit", exclude="*.bias")) == {"0.weight", "1.weight"}


def test_a_subclass_of_a_convolution_has_its_normalisation_found() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean()
            return functional.conv2d(x, weight, self.bias)

    model = nn.Sequential(Standardised(2, 4, 3), nn.BatchNorm2d(4))
    assert set(find_mask(model, 0.5, pattern="unit")) == set(dict(model.named_parameters()))


def test_attached_entries_do_not_count_in_sparsity() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    mask = prune(model, 0.5, pattern="unit")
    assert (mask.size, mask.zeros, mask.sparsity) == (24, 12, 0.5)
    for name, value in model.named_parameters():
        assert not value[~mask[name]].any()
    assert not prune(nn.Linear(4, 6), 0.5).attached


def test_other_weights_have_no_units() -> None:
    model = nn.ModuleList(
        [nn.Embedding(4, 4), nn.LSTM(4, 4), nn.Bilinear(2, 2, 2), nn.Linear(2, 2)]
    )
    assert list(find_mask(model, 0.5, pattern="unit", coupled=False).weights) == ["3.weight"]
