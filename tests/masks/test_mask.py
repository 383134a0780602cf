import copy
import math
import pickle
from collections import Counter
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer import prune
from gossamer.core.errors import InputError
from gossamer.masks import Mask


def drawn(seed: int, density: float, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape) < density)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({}, "at least one weight"),
        ({"w": torch.ones(2)}, r"mask of w must be a boolean tensor, not torch\.float32"),
        ({"w": [True]}, "must be a boolean tensor, not list"),
        ({"w": torch.ones(0, 3) > 0}, "mask of w is empty"),
        ([torch.ones(2) > 0], "must be a mapping"),
    ],
)
def test_what_is_no_mask_is_refused(weights: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Mask(weights)


def test_entries_that_contradict_are_refused() -> None:
    w = torch.ones(2, 2) > 0
    with pytest.raises(InputError, match="w is given as a weight and as attached"):
        Mask({"w": w}, attached={"w": w})
    with pytest.raises(InputError, match="units are described for v"):
        Mask({"w": w}, unit_dimensions={"v": 0})
    with pytest.raises(InputError, match="cannot lie along dimension 5"):
        Mask({"w": w}, unit_dimensions={"w": 5})
    with pytest.raises(InputError, match="JSON values"):
        Mask({"w": w}, provenance={"x": object()})


def test_a_mask_is_its_own_read_only_copy() -> None:
    given, notes = torch.ones(2, 2) > 0, {"names": ["a"]}
    mask = Mask({"w": given}, provenance=notes)
    given[0] = False
    notes["names"].append("b")
    assert mask.zeros == 0
    assert mask.provenance == {"names": ["a"]}
    with pytest.raises(AttributeError):
        mask.weights = {}  # type: ignore[misc]
    for mapping in (mask.weights, mask.attached, mask.unit_dimensions, mask.provenance):
        with pytest.raises(TypeError):
            cast("Any", mapping)["w"] = given


def test_a_mask_can_be_copied_and_pickled() -> None:
    layer = nn.Sequential(nn.ConvTranspose1d(4, 4, 2, groups=2))
    mask = prune(layer, 0.5, pattern="unit", coupled=False)
    for twin in (copy.deepcopy(mask), copy.copy(mask), pickle.loads(pickle.dumps(mask))):
        assert twin == mask
        assert twin.provenance == mask.provenance
        assert (twin.unit_dimensions, twin.unit_groups) == ({"0.weight": 1}, {"0.weight": 2})


def test_equality_is_over_names_kinds_shapes_and_bits() -> None:
    w = torch.eye(2) > 0
    mask = Mask({"w": w})
    assert mask == Mask({"w": w.clone()}, provenance={"by": "someone else"})
    assert mask != Mask({"v": w})
    assert mask != Mask({"w": ~w})
    assert mask != Mask({"w": w.flatten()})
    assert mask != Mask({"w": w}, attached={"b": w[0]})
    assert Mask({"w": w, "v": w}) == Mask({"v": w, "w": w})
    assert mask != {"w": w}


def test_names_lose_what_compiling_adds() -> None:
    mask = Mask({"_orig_mod.0.weight": torch.eye(2) > 0})
    assert list(mask) == ["0.weight"]
    assert "_orig_mod.0.weight" in mask
    assert "1.weight" not in mask
    assert cast("Any", 5) not in mask


def test_counts_are_over_weights_only() -> None:
    mask = Mask(
        {"v": drawn(0, 0.3, 7, 3), "w": drawn(1, 0.6, 5)}, attached={"b": torch.zeros(9) > 0}
    )
    kept = {"v": int(mask["v"].sum()), "w": int(mask["w"].sum())}
    assert mask.size == 26
    assert mask.zeros == 26 - sum(kept.values())
    assert mask.sparsity == mask.zeros / 26
    assert mask.densities == {"v": kept["v"] / 21, "w": kept["w"] / 5}
    assert len(mask) == 3
    assert f"{mask.zeros} of 26" in repr(mask)


def test_apply_only_makes_zeros_and_violations_counts_what_is_not() -> None:
    model = nn.Linear(6, 5).double()
    before, mask = model.weight.detach().clone(), Mask({"weight": drawn(2, 0.5, 5, 6)})
    assert mask.violations(model) == {"weight": mask.zeros}
    mask.apply(model)
    assert torch.equal(model.weight.detach(), before * mask["weight"])
    assert mask.violations(model) == {}


def test_a_model_that_does_not_fit_is_refused() -> None:
    mask = Mask({"weight": torch.ones(3, 3) > 0})
    with pytest.raises(InputError, match=r"entry for 'weight', which is no parameter of this Seq"):
        mask.apply(nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(InputError, match=r"shape \(3, 3\), the network's \(2, 3\)"):
        mask.bind(nn.Linear(3, 2))
    with pytest.raises(InputError, match=r"torch.nn.Module was expected, not dict"):
        mask.apply(cast("Any", {}))
    with pytest.raises(InputError, match=r"has no values yet"):
        mask.bind(nn.LazyLinear(3))


@pytest.mark.parametrize("seed", range(5))
def test_overlap_is_the_jaccard_index(seed: int) -> None:
    one = Mask({"v": drawn(seed, 0.4, 6, 3), "w": drawn(seed + 50, 0.2, 11)})
    two = Mask({"v": drawn(seed + 100, 0.4, 6, 3), "w": drawn(seed + 150, 0.2, 11)})

    def places(mask: Mask, names: str) -> set[tuple[str, int]]:
        return {(n, i) for n in names for i, bit in enumerate(mask[n].flatten()) if bit}

    def jaccard(names: str) -> float:
        first, second = places(one, names), places(two, names)
        return len(first & second) / len(first | second)

    assert one.overlap(two) == two.overlap(one) == jaccard("vw")
    assert one.overlaps(two) == {"v": jaccard("v"), "w": jaccard("w")}
    assert one.overlap(one) == 1


def test_overlap_of_random_masks_is_d_over_two_minus_d() -> None:
    model, density = nn.Linear(500, 400), 0.2
    first = prune(copy.deepcopy(model), 1 - density, score="random", seed=1)
    other = prune(copy.deepcopy(model), 1 - density, score="random", seed=2)
    expected = density / (2 - density)
    # The number kept by both is hypergeometric: its standard deviation is about 72 of 8000.
    assert math.isclose(first.overlap(other), expected, abs_tol=0.005)
    assert first.overlap(first.shuffled(3)) == pytest.approx(expected, abs=0.005)


def test_overlap_of_empty_and_of_foreign_masks() -> None:
    nothing = Mask({"w": torch.zeros(3) > 0})
    assert nothing.overlap(nothing) == 1
    assert nothing.overlap(Mask({"w": torch.ones(3) > 0})) == 0
    with pytest.raises(InputError, match="over the same weights only"):
        nothing.overlap(Mask({"w": torch.zeros(4) > 0}))
    with pytest.raises(InputError, match="to a mask only, not Tensor"):
        nothing.overlap(cast("Any", torch.zeros(3)))


def shuffled_pair() -> tuple[Mask, nn.ModuleDict]:
    model = nn.ModuleDict({
        "dense": nn.Linear(12, 8),
        "conv": nn.Conv2d(6, 8, 3, groups=2),
        "up": nn.ConvTranspose2d(6, 5, 3),
        "grouped": nn.ConvTranspose2d(6, 8, 3, groups=2),
        "words": nn.Embedding(9, 7),
    })  # fmt: skip
    return prune(model, 0.6), model


def counts_of_units(mask: Mask) -> dict[str, list[int]]:
    """Count unit by unit, where each module of `shuffled_pair` has them."""
    grouped = [
        mask["grouped.weight"][3 * group : 3 * group + 3, unit]
        for group in range(2)
        for unit in range(4)
    ]
    return {
        "dense": [int(row.sum()) for row in mask["dense.weight"]],
        "conv": [int(row.sum()) for row in mask["conv.weight"]],
        "up": [int(mask["up.weight"][:, unit].sum()) for unit in range(5)],
        "grouped": [int(unit.sum()) for unit in grouped],
        "words": [int(row.sum()) for row in mask["words.weight"]],
    }


def test_shuffling_within_layers_keeps_their_counts() -> None:
    mask, _ = shuffled_pair()
    other = mask.shuffled(4)
    assert other.densities == mask.densities
    assert other != mask
    assert counts_of_units(other) != counts_of_units(mask)
    assert other == mask.shuffled(4)
    assert other != mask.shuffled(5)
    assert (other.provenance["shuffled"], other.provenance["shuffle_seed"]) == ("layer", 4)


def test_shuffling_within_units_keeps_their_counts() -> None:
    mask, _ = shuffled_pair()
    other = mask.shuffled(np.int64(4), within="unit")  # type: ignore[arg-type]
    assert counts_of_units(other) == counts_of_units(mask)
    assert all(not torch.equal(other[name], mask[name]) for name in mask)
    assert other.shuffled(1, within="unit") != other


@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(["layer", "unit"]))
def test_a_shuffle_keeps_counts_and_comes_from_its_seed(
    seed: int, density: float, within: str
) -> None:
    model = shuffled_pair()[1]
    weights = {name: value.shape for name, value in model.named_parameters() if value.dim() > 1}
    mask = Mask(
        {name: drawn(seed + i, density, *shape) for i, (name, shape) in enumerate(weights.items())},
        unit_dimensions={"dense.weight": 0, "conv.weight": 0, "up.weight": 1, "grouped.weight": 1},
        unit_groups={"grouped.weight": 2},
    )
    other = mask.shuffled(seed, within)
    assert other.densities == mask.densities
    assert other == mask.shuffled(seed, within)
    if within == "unit":
        assert counts_of_units(other) == counts_of_units(mask)


@pytest.mark.parametrize("within", ["layer", "unit"])
def test_a_shuffle_reaches_every_arrangement_equally_often(within: str) -> None:
    mask = Mask({"w": torch.tensor([[True, False, False], [True, True, False]])})
    seen = [tuple(mask.shuffled(seed, within)["w"].flatten().tolist()) for seed in range(2000)]
    arrangements = {"layer": math.comb(6, 3), "unit": 3 * 3}[within]
    counts = np.array(list(Counter(seen).values()))
    assert len(counts) == arrangements
    # Pearson's statistic has mean a - 1 and variance about 2 (a - 1) for a arrangements.
    expected = 2000 / arrangements
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < arrangements - 1 + 4 * math.sqrt(2 * (arrangements - 1))


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_overlap_is_symmetric_bounded_and_one_for_the_same_only(
    seed: int, first: float, second: float
) -> None:
    one = Mask({"v": drawn(seed, first, 3, 4), "w": drawn(seed + 1, first, 5)})
    two = Mask({"v": drawn(seed + 2, second, 3, 4), "w": drawn(seed + 3, second, 5)})
    assert one.overlap(two) == two.overlap(one)
    assert 0 <= one.overlap(two) <= 1
    assert (one.overlap(two) == 1) == (one == two)
    # Kept by both plus kept by either is kept by one plus kept by the other.
    kept = [mask.size - mask.zeros for mask in (one, two, one & two)]
    assert one.overlap(two) * (kept[0] + kept[1] - kept[2]) == pytest.approx(kept[2])
    assert (one & two).overlap(one) == pytest.approx(kept[2] / kept[0] if kept[0] else 1)


def test_a_shuffle_does_not_depend_on_the_order_of_layers() -> None:
    mask, _ = shuffled_pair()
    reverse = Mask(
        {name: mask[name] for name in reversed(list(mask.weights))},
        unit_dimensions=mask.unit_dimensions,
        unit_groups=mask.unit_groups,
    )
    for within in ("layer", "unit"):
        assert reverse.shuffled(7, within) == mask.shuffled(7, within)


def test_a_shuffle_drops_what_was_attached_and_refuses_nonsense() -> None:
    mask = prune(nn.Linear(4, 6), 0.5, pattern="unit")
    assert mask.attached
    assert not mask.shuffled(0).attached
    with pytest.raises(InputError, match="'layer' or 'unit', not 'row'"):
        mask.shuffled(0, within="row")
    with pytest.raises(InputError, match="whole number"):
        mask.shuffled(cast("Any", 0.5))


def test_and_keeps_what_both_keep_and_entries_of_one_alone() -> None:
    first = Mask({"a": torch.tensor([[True, True, False]]), "b": torch.tensor([[True, False]])})
    second = Mask({"a": torch.tensor([[False, True, True]]), "c": torch.tensor([[False, True]])})
    both = first & second
    assert both["a"].tolist() == [[False, True, False]]
    assert torch.equal(both["b"], first["b"])
    assert torch.equal(both["c"], second["c"])
