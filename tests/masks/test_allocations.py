import copy
import json
import math
import pickle
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.masks import (
    ERK,
    OWL,
    Block,
    ErdosRenyi,
    FixedFanIn,
    Mask,
    NByM,
    find_mask,
    prune,
)
from gossamer.masks.allocations import _proportional


def of_shapes(shapes: Sequence[Sequence[int]], seed: int = 0) -> nn.ParameterList:
    """Return weights of these shapes, without any layers around them."""
    generator = torch.Generator().manual_seed(seed)
    return nn.ParameterList(torch.rand(tuple(shape), generator=generator) for shape in shapes)


def kept(mask: Mask) -> list[int]:
    return [int(value.sum()) for value in mask.weights.values()]


SHAPES = st.lists(
    st.lists(st.integers(1, 9), min_size=2, max_size=4), min_size=1, max_size=6
)  # weights of up to 6561 values


@pytest.mark.parametrize(
    ("widths", "epsilon", "expected"),
    [
        ([2048, 512, 128], 20, [51_200, 12_800]),
        ([8192, 128], 21, [174_720]),
        ([128, 32], 15, [2_400]),
    ],
)
def test_erdos_renyi_gives_the_published_counts(
    widths: list[int], epsilon: float, expected: list[int]
) -> None:
    layers = [nn.Linear(*pair) for pair in pairwise(widths)]
    mask = find_mask(nn.Sequential(*layers), allocation=ErdosRenyi(epsilon), score="random")
    assert kept(mask) == expected


@pytest.mark.parametrize(
    ("module", "neurons"),
    [
        (nn.Linear(40, 30), 70),
        (nn.Conv1d(40, 30, 3), 70),
        (nn.Conv2d(40, 30, 3), 70),
        (nn.Conv2d(40, 30, 3, groups=2), 50),
        (nn.ConvTranspose2d(40, 30, 3), 70),
        (nn.ConvTranspose2d(40, 30, 3, groups=2), 50),
        (nn.Embedding(40, 30), 70),
    ],
)
def test_erdos_renyi_counts_inputs_and_units_whatever_the_kernel(
    module: nn.Module, neurons: int
) -> None:
    assert kept(find_mask(module, allocation=ErdosRenyi(3))) == [3 * neurons]


@given(SHAPES, st.floats(1e-3, 1e3) | st.sampled_from([0.5, 1.5, 1e-300, 1e300]))
def test_erdos_renyi_rounds_to_even_between_one_and_all(
    shapes: list[list[int]], epsilon: float
) -> None:
    mask = find_mask(of_shapes(shapes), allocation=ErdosRenyi(epsilon), include="*")
    for shape, count in zip(shapes, kept(mask), strict=True):
        wanted = round(Fraction(epsilon * (shape[0] + shape[1])))
        assert count == min(max(wanted, 1), math.prod(shape))


def test_erdos_renyi_keeps_the_best_of_each_layer() -> None:
    model = of_shapes([(5, 8), (3, 4)])
    mask = prune(model, allocation=ErdosRenyi(1.0), include="*")
    for value, of_it, count in zip(model, mask.weights.values(), (13, 7), strict=True):
        best = set(value.detach().flatten().argsort(descending=True)[:count].tolist())
        assert set(of_it.flatten().nonzero().flatten().tolist()) == best
        assert int(value.count_nonzero()) == count


# The convolutions of a ResNet-50 and its classifier, as [units, inputs, kernel].
RESNET_50 = [
    (64, 3, 7, 7),
    *(
        shape
        for width, blocks, before in ((64, 3, 64), (128, 4, 256), (256, 6, 512), (512, 3, 1024))
        for block in range(blocks)
        for shape in (
            (width, before if block == 0 else 4 * width, 1, 1),
            (width, width, 3, 3),
            (4 * width, width, 1, 1),
            *(((4 * width, before, 1, 1),) if block == 0 else ()),
        )
    ),
    (1000, 2048),
]


def densities_by_the_paper(shapes: Sequence[Sequence[int]], sparsity: float) -> np.ndarray:
    """Scale in float64 until no layer is denser than 1, one more dense layer at a time."""
    sizes = np.array([math.prod(shape) for shape in shapes], dtype=np.float64)
    raw = np.array([sum(shape) for shape in shapes]) / sizes
    dense = np.zeros(len(shapes), dtype=bool)
    while True:
        budget = (1 - sparsity) * sizes.sum() - sizes[dense].sum()
        densities = np.where(dense, 1.0, raw * budget / (raw * sizes)[~dense].sum())
        if (densities <= 1).all():
            return densities
        dense[densities.argmax()] = True


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.98, 0.99])
def test_erk_of_a_resnet_50_is_the_formula_of_the_paper(sparsity: float) -> None:
    sizes = [math.prod(shape) for shape in RESNET_50]
    assert (len(sizes), sum(sizes)) == (54, 25_502_912)
    total = sum(sizes) - round(sparsity * sum(sizes))
    counts = _proportional([sum(shape) for shape in RESNET_50], sizes, total)
    wanted = densities_by_the_paper(RESNET_50, sparsity) * sizes
    assert np.abs(counts - wanted).max() < 1.001  # rounded up or down
    assert sum(counts) == total
    assert (wanted == sizes).any() == (sparsity < 0.95)  # some layers are dense


# The side of each layer's output on images of 224 x 224; a stage halves it in its first 3 x 3.
SIDES_OF_RESNET_50 = [
    112,
    *(
        side
        for blocks, after, before in ((3, 56, 56), (4, 28, 56), (6, 14, 28), (3, 7, 14))
        for block in range(blocks)
        for side in ((before, after, after, after) if block == 0 else (after, after, after))
    ),
    1,
]


@pytest.mark.parametrize(("sparsity", "published"), [(0.8, 0.42), (0.9, 0.24), (0.95, 0.12)])
def test_erk_costs_the_published_operations(sparsity: float, published: float) -> None:
    """Compare with the inference FLOPs that the authors give for ResNet-50."""
    sizes = [math.prod(shape) for shape in RESNET_50]
    total = sum(sizes) - round(sparsity * sum(sizes))
    counts = _proportional([sum(shape) for shape in RESNET_50], sizes, total)
    places = [side**2 for side in SIDES_OF_RESNET_50]
    dense, sparse = (
        sum(weights * of_it for weights, of_it in zip(of_layers, places, strict=True))
        for of_layers in (sizes, counts)
    )
    assert 2 * dense == pytest.approx(8.2e9, rel=0.005)
    assert sparse / dense == pytest.approx(published, abs=0.0075)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.97])
def test_erk_prunes_a_network_by_the_formula_of_the_paper(sparsity: float) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(256, 64),
        nn.Linear(64, 10),
    )  # fmt: skip
    shapes = [p.shape for p in model.parameters() if p.dim() > 1]
    sizes = np.array([shape.numel() for shape in shapes])
    mask = find_mask(model, sparsity, allocation=ERK())
    wanted = densities_by_the_paper(shapes, sparsity) * sizes
    assert np.abs(kept(mask) - wanted).max() < 1.5  # the total is rounded, too
    assert mask.zeros == round(sparsity * sizes.sum())


@settings(max_examples=300)
@given(SHAPES, st.floats(0, 1) | st.sampled_from([0.0, 0.5, 0.999, 1.0]))
def test_erk_is_exact_in_total_and_proportional_between_its_bounds(
    shapes: list[list[int]], sparsity: float
) -> None:
    sizes = [math.prod(shape) for shape in shapes]
    mask = find_mask(of_shapes(shapes), sparsity, allocation=ERK(), include="*")
    asked = sum(sizes) - round(sparsity * sum(sizes))
    if sparsity == 1:
        assert mask.sparsity == 1
        return
    counts = kept(mask)
    assert sum(counts) == max(asked, len(shapes))
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    # One scale explains them all: each count is within one of scale x sum, or at a bound.
    least = max(
        (
            (count - 1) / sum(shape)
            for count, shape in zip(counts, shapes, strict=True)
            if count > 1
        ),
        default=0.0,
    )
    most = min(
        (
            (count + 1) / sum(shape)
            for count, shape, size in zip(counts, shapes, sizes, strict=True)
            if count < size
        ),
        default=math.inf,
    )
    assert least <= most + 1e-12


def brute_force_rounding(shares: list[Fraction], total: int) -> int:
    """Return the least sum of squared deviations of whole numbers with this total."""
    best = None
    for bits in range(2 ** len(shares)):
        counts = [math.floor(s) + (bits >> i & 1) for i, s in enumerate(shares)]
        if sum(counts) == total:
            off = sum((c - s) ** 2 for c, s in zip(counts, shares, strict=True))
            best = off if best is None else min(best, off)
    assert best is not None
    return best  # type: ignore[return-value]


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.data())
def test_largest_remainders_are_the_closest_whole_numbers(
    proportions: list[int], data: st.DataObject
) -> None:
    sizes = [1000] * len(proportions)
    total = data.draw(st.integers(200, 900))
    shares = [Fraction(total * p, sum(proportions)) for p in proportions]
    counts = _proportional(proportions, sizes, total)
    off = sum((c - s) ** 2 for c, s in zip(counts, shares, strict=True))
    assert sum(counts) == total
    assert off == brute_force_rounding(shares, total)


def test_of_equal_remainders_the_earlier_layer_gets_more() -> None:
    assert _proportional([3, 3, 3], [9, 9, 9], 11) == [4, 4, 3]
    assert kept(find_mask(of_shapes([(2, 4), (2, 4)]), 9 / 16, allocation=ERK(), include="*")) == [
        4,
        3,
    ]


def units_of(weight: Tensor, name: str) -> list[Tensor]:
    """Return the incoming weights of each unit, where each module of `every_kind` has them."""
    if name == "up":
        return [weight[:, unit].flatten() for unit in range(5)]
    if name == "grouped":
        return [
            weight[3 * group : 3 * group + 3, unit].flatten()
            for group in range(2)
            for unit in range(4)
        ]
    return [row.flatten() for row in weight]


def every_kind(seed: int, *, ties: bool) -> nn.ModuleDict:
    torch.manual_seed(seed)
    model = nn.ModuleDict({
        "dense": nn.Linear(12, 8),
        "conv": nn.Conv2d(6, 8, 3, groups=2),
        "up": nn.ConvTranspose2d(6, 5, 3),
        "grouped": nn.ConvTranspose2d(6, 8, 3, groups=2),
        "words": nn.Embedding(9, 7),
    })  # fmt: skip
    if ties:
        for parameter in model.parameters():
            parameter.data = parameter.data.mul(8).round().div(8)
    return model


@settings(max_examples=40)
@given(
    st.integers(0, 9), st.booleans(), st.integers(1, 60), st.sampled_from(["magnitude", "largest"])
)
def test_fixed_fan_in_keeps_the_best_of_each_unit(
    seed: int, ties: bool, connections: int, score: str
) -> None:
    model = every_kind(seed, ties=ties)
    mask = find_mask(model, allocation=FixedFanIn(connections), score=score)
    sign = 1 if score == "magnitude" else -1
    for name in model:
        weight = cast("Tensor", model[name].weight).detach()
        for values, stay in zip(
            units_of(weight, name), units_of(mask[f"{name}.weight"], name), strict=True
        ):
            order = sorted((v != 0, sign * abs(v), i) for i, v in enumerate(values.tolist()))
            best = sorted(i for _, _, i in order[max(len(order) - connections, 0) :])
            assert stay.nonzero().flatten().tolist() == best


def test_fixed_fan_in_at_random_is_uniform_over_inputs() -> None:
    mask = find_mask(nn.Linear(20, 4000), allocation=FixedFanIn(5), score="random")
    assert set(mask["weight"].sum(1).tolist()) == {5}
    # Each input is kept by a quarter of 4000 units; the standard deviation is 27.4.
    assert (mask["weight"].sum(0) - 1000).abs().max() < 4 * 27.4


@pytest.mark.parametrize("allocation", [ErdosRenyi(1.5), ERK()])
def test_groups_come_nearest_to_what_a_layer_keeps(allocation: ErdosRenyi | ERK) -> None:
    model = nn.Sequential(nn.Linear(11, 30), nn.Linear(30, 9))
    sparsity = 0.7 if isinstance(allocation, ERK) else None
    wanted = kept(find_mask(model, sparsity, allocation=allocation))
    units = kept(find_mask(model, sparsity, allocation=allocation, pattern="unit"))
    blocks = kept(find_mask(model, sparsity, allocation=allocation, pattern=Block(1, 3)))
    for fan_in, want, of_units, of_blocks in zip((11, 30), wanted, units, blocks, strict=True):
        assert of_units % fan_in == 0
        assert abs(of_units - want) <= fan_in / 2
        assert abs(of_blocks - want) <= 1.5


@pytest.mark.parametrize(
    ("allocation", "sparsity", "note"),
    [
        (ErdosRenyi(4), None, {"name": "erdos-renyi", "epsilon": 4.0}),
        (ERK(), 0.5, {"name": "erk"}),
        (FixedFanIn(cast("int", np.int64(3))), None, {"name": "fixed-fan-in", "connections": 3}),
        ({"0": np.float64(0.25)}, 0.5, {"0": 0.25}),
    ],
)
def test_provenance_names_the_allocation_and_survives_a_file(
    allocation: Any, sparsity: float | None, note: dict[str, Any], tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Linear(12, 9), nn.Linear(9, 4))
    mask = find_mask(model, sparsity, allocation=allocation)
    mask.save(tmp_path / "mask")
    again = Mask.load(tmp_path / "mask")
    assert again == mask
    assert again.provenance["allocation"] == mask.provenance["allocation"] == note
    assert again.provenance["sparsity"] == sparsity
    assert json.loads(json.dumps(note)) == note


@pytest.mark.parametrize("value", [ErdosRenyi(20), ERK(), FixedFanIn(4), NByM(2, 4), Block(4, 1)])
def test_choices_are_frozen_values(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    assert hash(copy.copy(value)) == hash(value)
    assert eval(repr(value)) == value
    with pytest.raises(AttributeError):
        value.epsilon = 3


def test_a_sparsity_stands_beside_what_does_not_fix_it_only() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    for allocation in (ErdosRenyi(2), FixedFanIn(2)):
        with pytest.raises(InputError, match=r"fixes the sparsity, so it cannot be 0\.5 too"):
            find_mask(model, 0.5, allocation=allocation)
    for free in ("global", "uniform", ERK(), {"0": 0.5, "1": 0.5}):
        with pytest.raises(InputError, match="must be a number from 0 to 1, not None: only Erdos"):
            find_mask(model, allocation=cast("Any", free))


@pytest.mark.parametrize("epsilon", [0, -1, math.inf, math.nan, "20", None, True])
def test_an_epsilon_that_is_none_is_refused(epsilon: Any) -> None:
    with pytest.raises(
        InputError, match="epsilon of ErdosRenyi must be a finite number above 0, not"
    ):
        ErdosRenyi(epsilon)


@pytest.mark.parametrize("connections", [0, -1, 2.0, "3", None, True])
def test_connections_that_are_no_count_are_refused(connections: Any) -> None:
    with pytest.raises(
        InputError, match="connections of FixedFanIn must be a whole number from 1, not"
    ):
        FixedFanIn(connections)


@pytest.mark.parametrize("pattern", ["unit", Block(2, 2)])
def test_fixed_fan_in_needs_single_weights(pattern: Any) -> None:
    with pytest.raises(InputError, match=r"the pattern must be 'weight', not "):
        find_mask(nn.Linear(8, 8), allocation=FixedFanIn(2), pattern=pattern)


def test_a_class_is_no_allocation() -> None:
    with pytest.raises(InputError, match=r"unknown allocation .*ERK.*choose one of global, uni"):
        find_mask(nn.Linear(8, 8), 0.5, allocation=cast("Any", ERK))


# Outliers


def saliencies(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return |w| times the norms of inputs of a perceptron, by hand."""
    found, hidden = [], inputs
    for module in model.children():
        if isinstance(module, nn.Linear):
            found.append(module.weight.detach().abs() * hidden.norm(dim=0))
        hidden = module(hidden).detach()
    return found


@pytest.mark.parametrize("score", ["magnitude", "wanda"])
def test_layers_of_many_outliers_keep_more(score: str) -> None:
    """Yin et al. (2024): densities lie 2 x spread apart, as the shares of outliers do."""
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(16, 16) for _ in range(4)])
    with torch.no_grad():
        for number, layer in enumerate(model):
            layer.get_parameter("weight")[:number] *= 30
    inputs = torch.randn(50, 16)
    owl = OWL(outliers=3, spread=0.1)
    mask = find_mask(model, 0.6, score=score, allocation=owl, batches=[(inputs, None)])
    shares = torch.stack(
        [(one > 3 * one.mean()).double().mean() for one in saliencies(model, inputs)]
    )
    scaled = 0.2 * (shares - shares.min()) / (shares.max() - shares.min())
    papers = (scaled - scaled.mean() + 0.4) * 256
    counts = torch.tensor(kept(mask))
    assert (counts - papers).abs().max() < 1
    assert mask.zeros == round(0.6 * 1024)
    assert len(set(counts.tolist())) > 2


@given(st.integers(0, 10**6), st.floats(0.2, 0.8), st.floats(0.01, 0.09))
@settings(max_examples=25)
def test_outliers_leave_the_total_exact(seed: int, sparsity: float, spread: float) -> None:
    torch.manual_seed(seed)
    widths = [int(n) for n in torch.randint(3, 20, (4,))]
    model = nn.Sequential(*[nn.Linear(a, b) for a, b in pairwise(widths)])
    batches = [(torch.randn(3, widths[0]), None)]
    owl = OWL(outliers=1.5, spread=spread)
    mask = find_mask(model, sparsity, allocation=owl, batches=batches)
    assert mask.zeros == round(sparsity * mask.size)


def test_outliers_that_cannot_be_told_or_had_are_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    with torch.no_grad():
        for layer in model:
            layer.get_parameter("weight").fill_(1)
        model.get_parameter("1.weight")[0, 0] = 100
    batches = [(torch.ones(2, 6), None)]
    with pytest.raises(InputError, match="the score or the allocation needs the inputs of layers"):
        find_mask(model, 0.5, allocation=OWL(5, 0.08))
    with pytest.raises(InputError, match=r"OWL\(outliers=5.0, spread=0.08\) would keep -.*smaller"):
        find_mask(model, 0.95, allocation=OWL(5, 0.08), batches=batches)
    for sparsity in (0.0, 1.0):
        assert (
            find_mask(model, sparsity, allocation=OWL(5, 0.08), batches=batches).sparsity
            == sparsity
        )
