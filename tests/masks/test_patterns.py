import itertools
import json
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
    Block,
    ErdosRenyi,
    FixedFanIn,
    Mask,
    NByM,
    find_mask,
    prunable_weights,
    prune,
)
from gossamer.masks.calibration import Calibration
from gossamer.masks.patterns import Weight
from gossamer.masks.saliency import ScoreContext, ranked
from gossamer.masks.scores import SCORES

Place = tuple[int, ...]
Cells = dict[tuple[int, int, Place], Place]
"""From unit, input of the unit and position in the kernel to the place in the weight."""

LAYERS: dict[str, tuple[nn.Module, int, bool]] = {  # the layer, its groups, transposed
    "linear": (nn.Linear(12, 5), 1, False),
    "conv1d": (nn.Conv1d(8, 3, 3), 1, False),
    "conv2d": (nn.Conv2d(8, 6, (2, 3), groups=2), 2, False),
    "conv3d": (nn.Conv3d(4, 2, 2), 1, False),
    "up": (nn.ConvTranspose2d(8, 3, 2), 1, True),
    "grouped up": (nn.ConvTranspose1d(8, 6, 3, groups=2), 2, True),
    "embedding": (nn.Embedding(3, 8), 1, False),
}


def cells(shape: Place, groups: int, *, transposed: bool) -> Cells:
    """Walk through a weight as the layer's forward does."""
    found: Cells = {}
    for place in itertools.product(*map(range, shape)):
        first, second, *kernel = place
        if not transposed:
            found[first, second, tuple(kernel)] = place
            continue
        inputs = shape[0] // groups
        unit = first // inputs * shape[1] + second
        found[unit, first % inputs, tuple(kernel)] = place
    return found


def layer_of(kind: str, seed: int, *, ties: bool) -> tuple[nn.Module, Tensor, Cells]:
    module, groups, transposed = LAYERS[kind]
    weight = cast("nn.Parameter", module.weight)
    values = np.random.default_rng(seed).normal(size=tuple(weight.shape))
    weight.data = torch.from_numpy(np.round(2 * values) / 2 if ties else values)
    return module, weight.detach(), cells(tuple(weight.shape), groups, transposed=transposed)


def test_cells_are_what_a_layer_computes_with() -> None:
    """Hold the reference itself: one cell alone moves one input to one unit."""
    for kind, (module, groups, transposed) in LAYERS.items():
        if isinstance(module, nn.Embedding):
            continue
        weight = cast("nn.Parameter", module.weight)
        found = cells(tuple(weight.shape), groups, transposed=transposed)
        for (unit, entry, _), place in list(found.items())[::7]:
            weight.data = torch.zeros_like(weight)
            weight.data[place] = 1
            units = len({key[0] for key in found})
            inputs = len({key[1] for key in found})
            channel = unit // (units // groups) * inputs + entry
            side = () if kind == "linear" else (4,) * (weight.dim() - 2)
            given = torch.zeros(1, inputs * groups, *side, dtype=weight.dtype)
            given[:, channel] = 1
            cast("nn.Parameter", module.bias).data = torch.zeros(units, dtype=weight.dtype)
            result = module(given)[0].flatten(1) if side else module(given)[0][:, None]
            assert result.any(1).nonzero().flatten().tolist() == [unit]


@settings(max_examples=60)
@given(
    st.sampled_from(list(LAYERS)), st.integers(0, 9), st.booleans(),
    st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (4, 4), (1, 1)]),
    st.sampled_from(["magnitude", "largest"]),
)  # fmt: skip
def test_n_by_m_keeps_the_best_n_of_each_m_inputs(
    kind: str, seed: int, ties: bool, numbers: tuple[int, int], score: str
) -> None:
    (n, m), sign = numbers, 1 if score == "magnitude" else -1
    module, weight, found = layer_of(kind, seed, ties=ties)
    mask = find_mask(module, pattern=NByM(n, m), score=score)["weight"]
    runs: dict[tuple[int, int, Place], list[tuple[int, Place]]] = {}
    for (unit, entry, kernel), place in sorted(found.items()):
        runs.setdefault((unit, entry // m, kernel), []).append((entry, place))
    for run in runs.values():
        order = sorted(
            (float(weight[p]) != 0, sign * abs(float(weight[p])), entry, p) for entry, p in run
        )
        best = {place for *_, place in order[m - n :]}
        assert {place for _, place in run if mask[place]} == best


def test_n_by_m_fixes_the_sparsity_of_every_layer() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 3))
    for sparsity, allocation in ((None, "global"), (0.75, "uniform"), (0.75, "global")):
        mask = prune(model, sparsity, pattern=NByM(1, 4), allocation=allocation)
        assert mask.densities == {"0.weight": 0.25, "2.weight": 0.25}
        assert mask.violations(model) == {}
        assert mask.provenance["sparsity"] == sparsity
    for third in (1 - 1 / 3, 2 / 3):  # which are not the same number
        assert find_mask(nn.Linear(6, 2), third, pattern=NByM(1, 3)).zeros == 8


def test_n_by_m_at_random_is_uniform_over_inputs() -> None:
    mask = find_mask(nn.Linear(8, 4000), pattern=NByM(1, 4), score="random")["weight"]
    # Each input is kept by a quarter of 4000 units; the standard deviation is 27.4.
    assert (mask.sum(0) - 1000).abs().max() < 4 * 27.4


def test_n_by_m_leaves_inputs_alone_that_m_does_not_divide_and_says_so(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 1))
    mask = prune(model, pattern=NByM(2, 4))
    assert mask.densities == {"1.weight": 0.5}
    reasons = {
        "0.weight": "has 3 inputs, which is not a multiple of 4",
        "2.weight": "has 6 inputs, which is not a multiple of 4",
    }
    assert mask.left_alone == reasons
    assert repr(mask).endswith("sparsity 0.5000; left alone: 0.weight, 2.weight)")
    mask.save(tmp_path / "mask")
    assert Mask.load(tmp_path / "mask").left_alone == reasons
    assert find_mask(model, pattern=NByM(2, 4), exclude="0").left_alone.keys() == {"2.weight"}


def test_n_by_m_refuses_what_was_named_and_where_nothing_is_left() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))
    with pytest.raises(InputError, match=r"0\.weight has 6 inputs, which is not a multiple of 4"):
        find_mask(model, pattern=NByM(2, 4), include="0")
    with pytest.raises(InputError, match=r"weight, for one, has 2 inputs"):  # 4 in two groups
        find_mask(nn.Conv2d(4, 4, 3, groups=2), pattern=NByM(2, 4))


@pytest.mark.parametrize("allocation", [ERK(), ErdosRenyi(2), FixedFanIn(2), {"weight": 0.5}])
def test_n_by_m_leaves_nothing_to_allocate(allocation: Any) -> None:
    with pytest.raises(InputError, match=r"fixes what every layer keeps, .*leave the allocation"):
        find_mask(nn.Linear(8, 8), pattern=NByM(2, 4), allocation=allocation)


def test_n_by_m_refuses_another_sparsity_and_unknown_allocations() -> None:
    with pytest.raises(InputError, match=r"fixes the sparsity at 0\.5, so it cannot be 0\.6"):
        find_mask(nn.Linear(8, 8), 0.6, pattern=NByM(2, 4))
    with pytest.raises(InputError, match=r"unknown allocation 'even'"):
        find_mask(nn.Linear(8, 8), pattern=NByM(2, 4), allocation="even")


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ((0, 4), "n of NByM must be a whole number from 1, not 0"),
        ((2, 4.0), r"m of NByM must be a whole number from 1, not 4\.0"),
        ((5, 4), "n cannot be 5 where m is 4"),
        ((True, 4), "n of NByM must be a whole number from 1, not True"),
    ],
)
def test_n_by_m_of_no_such_numbers_is_refused(numbers: tuple[Any, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        NByM(*numbers)


def blocks_of(found: Cells, rows: int, columns: int) -> list[list[Place]]:
    """Return the places of each block, in the order of units, inputs and positions."""
    blocks: dict[tuple[int, int, Place], list[Place]] = {}
    for (unit, entry, kernel), place in sorted(found.items()):
        blocks.setdefault((unit // rows, entry // columns, kernel), []).append(place)
    return [blocks[key] for key in sorted(blocks)]


def going_blocks(
    layers: list[tuple[Tensor, list[list[Place]]]], sparsity: float
) -> list[set[Place]]:
    """Decide by sorting all blocks; the best of each layer is safe, and the nearest total wins."""
    ranked = []
    for number, (weight, blocks) in enumerate(layers):
        norms = [np.linalg.norm([float(weight[p]) for p in block]) for block in blocks]
        order = sorted((norm, number, i) for i, norm in enumerate(norms))
        ranked += order if sparsity == 1 else order[:-1]
    ranked.sort()
    sizes = [len(layers[number][1][i]) for _, number, i in ranked]
    target = sparsity * sum(weight.numel() for weight, _ in layers)
    off = np.abs(np.cumsum([0, *sizes]) - target)
    nearest = np.flatnonzero(off == off.min())
    count = next((c for c in nearest if c % 2 == 0), nearest[0])
    gone: list[set[Place]] = [set() for _ in layers]
    for _, number, i in ranked[:count]:
        gone[number] |= set(layers[number][1][i])
    return gone


BLOCKS = st.tuples(st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=60)
@given(
    st.sampled_from(list(LAYERS)), st.integers(0, 9), st.booleans(), BLOCKS,
    st.floats(0, 1) | st.sampled_from([0.5, 0.75, 1.0]), st.sampled_from(["uniform", "global"]),
)  # fmt: skip
def test_blocks_of_the_smallest_norm_go(
    kind: str, seed: int, ties: bool, size: tuple[int, int], sparsity: float, allocation: str
) -> None:
    module, weight, found = layer_of(kind, seed, ties=ties)
    mask = find_mask(module, sparsity, pattern=Block(*size), allocation=allocation)["weight"]
    (gone,) = going_blocks([(weight, blocks_of(found, *size))], sparsity)
    assert {tuple(place) for place in (~mask).nonzero().tolist()} == gone


@pytest.mark.filterwarnings("ignore:little is left")
@settings(max_examples=40)
@given(st.integers(0, 9), BLOCKS, st.floats(0, 1))
def test_blocks_compare_across_layers(seed: int, size: tuple[int, int], sparsity: float) -> None:
    parts = {name: layer_of(name, seed, ties=False) for name in ("linear", "conv2d", "up")}
    model = nn.ModuleDict({name: module for name, (module, _, _) in parts.items()})
    mask = find_mask(model, sparsity, pattern=Block(*size))
    gone = going_blocks([(w, blocks_of(found, *size)) for _, w, found in parts.values()], sparsity)
    for value, places in zip(mask.weights.values(), gone, strict=True):
        assert {tuple(place) for place in (~value).nonzero().tolist()} == places


@given(st.sampled_from(list(LAYERS)), BLOCKS, st.integers(0, 99))
def test_spread_puts_every_group_where_its_norm_comes_from(
    kind: str, size: tuple[int, int], seed: int
) -> None:
    module, weight, _ = layer_of(kind, seed, ties=False)
    (layer,) = prunable_weights(module)
    for pattern in (Block(*size), NByM(1, 2), Weight()):
        context = ScoreContext(layer, Calibration(module, [layer], None, None))
        (found,) = ranked([context], SCORES["magnitude"], pattern, seed=0)
        norms, sizes = found.scores, found.sizes
        assert norms.shape == sizes.shape
        assert int(sizes.sum()) == weight.numel()
        group = seed % len(norms)
        only = torch.arange(len(norms)) == group
        held = pattern.spread(only, layer)
        assert held.shape == weight.shape
        assert int(held.sum()) == sizes[group]
        assert norms[group] == pytest.approx(float(weight[held].norm()), rel=1e-12)


def test_a_block_larger_than_the_layer_is_the_layer() -> None:
    module = nn.Linear(4, 3)
    assert find_mask(module, 0.9, pattern=Block(10**9, 10**9)).zeros == 0
    assert find_mask(module, 1, pattern=Block(10**9, 10**9)).zeros == 12


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("best", [0, 3])
def test_a_layer_keeps_its_best_block_however_small(allocation: str, best: int) -> None:
    module = nn.Linear(1, 4)
    module.weight.data = torch.eye(4)[best][:, None] + 0.1
    mask = find_mask(module, 0.95, pattern=Block(3, 1), allocation=allocation)
    assert (
        mask["weight"].flatten().tolist() == [[True] * 3 + [False], [False] * 3 + [True]][best > 2]
    )


def test_blocks_that_are_zero_go_first_and_count() -> None:
    model = nn.Linear(16, 8)
    first = prune(model, 0.5, pattern=Block(2, 4), score="random")
    second = prune(model, 0.75, pattern=Block(2, 4), score="largest")
    assert (first.zeros, second.zeros) == (64, 96)
    assert bool((first["weight"] | ~second["weight"]).all())


def test_a_block_of_one_is_a_weight() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(7, 5))
    for allocation in ("global", "uniform", ERK(), {"0": 0.3}):
        chosen = [
            find_mask(model, 0.77, pattern=pattern, allocation=cast("Any", allocation))
            for pattern in ("weight", Block(1, 1))
        ]
        assert chosen[0] == chosen[1]


def test_a_block_of_all_inputs_is_a_unit_without_its_bias() -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 9))
    units = find_mask(model, 0.6, pattern="unit", score="magnitude")
    blocks = find_mask(model, 0.6, pattern=Block(1, 7))
    assert units.weights.keys() == blocks.weights.keys()
    assert all(torch.equal(units[name], blocks[name]) for name in blocks.weights)
    assert not blocks.attached


@pytest.mark.parametrize("pattern", [NByM(1, 2), Block(2, 2)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_precisions_are_compared_exactly(pattern: NByM | Block, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = nn.Linear(32, 32).to(dtype)
    sparsity = None if isinstance(pattern, NByM) else 0.5
    mask = find_mask(module, sparsity, pattern=pattern)
    assert mask == find_mask(module.double(), sparsity, pattern=pattern)


@pytest.mark.parametrize("pattern", [NByM(1, 2), Block(2, 2)])
def test_values_that_are_not_finite_are_refused(pattern: NByM | Block) -> None:
    model = nn.Linear(4, 4)
    model.weight.data[1, 2] = float("nan")
    with pytest.raises(InputError, match="weight holds values that are not finite"):
        find_mask(model, 0.5, pattern=pattern)


@pytest.mark.parametrize(
    ("pattern", "note"),
    [
        (NByM(cast("int", np.int64(2)), 4), {"name": "n-by-m", "n": 2, "m": 4}),
        (Block(4, 1), {"name": "block", "rows": 4, "columns": 1}),
    ],
)
def test_provenance_names_the_pattern_and_survives_a_file(
    pattern: NByM | Block, note: dict[str, Any], tmp_path: Path
) -> None:
    mask = find_mask(nn.Linear(8, 8), 0.5, pattern=pattern)
    mask.save(tmp_path / "mask")
    assert Mask.load(tmp_path / "mask").provenance["pattern"] == note
    assert json.loads(json.dumps(mask.provenance["pattern"])) == note


@pytest.mark.parametrize("size", [(0, 1), (1, -2), ("4", 1), (1, 2.5), (True, 1)])
def test_a_block_of_no_size_is_refused(size: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match=r"(rows|columns) of Block must be a whole number from 1"):
        Block(*size)


def test_a_class_is_no_pattern() -> None:
    with pytest.raises(InputError, match=r"unknown pattern .*NByM.*choose one of weight, unit, "):
        find_mask(nn.Linear(8, 8), 0.5, pattern=cast("Any", NByM))
