"""SparseGPT against the optimal brain surgeon by brute force, in float64."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from gossamer import (
    ERK,
    OWL,
    Block,
    ErdosRenyi,
    FixedFanIn,
    InputError,
    NByM,
    ScoreContext,
    find_mask,
    prune,
)
from gossamer.masks import Score
from gossamer.masks.reconstruction import BLOCK, DAMPING
from gossamer.masks.saliency import Solution


def correlated(examples: int, features: int, seed: int = 0) -> Tensor:
    """Inputs of which each says something about the others."""
    torch.manual_seed(seed)
    few = torch.randn(examples, max(2, features // 3)) @ torch.randn(
        max(2, features // 3), features
    )
    return (few + 0.3 * torch.randn(examples, features)).double()


def linear(features: int, units: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(features, units).double()


def damped(x: Tensor) -> Tensor:
    hessian = x.T @ x
    return hessian + DAMPING * hessian.diagonal().mean() * torch.eye(len(hessian)).double()


def surgeon(
    weight: Tensor, hessian: Tensor, sparsity: float | None = None, run: tuple[int, int] = (0, 0)
) -> Tensor:
    """Return pruned weights [rows, columns], with a solve and an inverse anew for every column.

    When a column is reached, the values of it and of those to the right are those of least squares,
    given what all columns to its left have become.
    """
    rows, columns = weight.shape
    final, gone = weight.clone(), torch.zeros_like(weight, dtype=torch.bool)

    def now(column: int) -> Tensor:
        moved = (final - weight)[:, :column] @ hessian[:column, column:]
        free: Tensor = torch.linalg.solve(hessian[column:, column:], moved.T).T
        return weight[:, column:] - free

    def costs(column: int, end: int) -> Tensor:
        pivots = [torch.linalg.inv(hessian[j:, j:])[0, 0] for j in range(column, end)]
        return now(column)[:, : end - column] ** 2 / torch.stack(pivots)

    for column in range(columns):
        if sparsity is not None and column % BLOCK == 0:
            end = min(column + BLOCK, columns)
            before = round(sparsity * rows * column)
            count = round(sparsity * rows * end) - before
            going = costs(column, end).flatten().argsort()[:count]
            chosen = torch.zeros(rows * (end - column), dtype=torch.bool)
            chosen[going] = True
            gone[:, column:end] = chosen.view(rows, -1)
        if sparsity is None and column % run[1] == 0:
            order = costs(column, column + run[1]).argsort(1)[:, : run[1] - run[0]]
            gone[:, column : column + run[1]] = gone[:, column : column + run[1]].scatter(
                1, order, True
            )
        final[:, column] = now(column)[:, 0].masked_fill(gone[:, column], 0)
    return final


@pytest.mark.parametrize(("features", "units"), [(7, 1), (12, 5), (BLOCK + 20, 3)])
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8])
def test_it_is_the_optimal_brain_surgeon_from_left_to_right(
    features: int, units: int, sparsity: float
) -> None:
    model, x = linear(features, units), correlated(3 * features, features)
    expected = surgeon(model.weight.detach().clone(), damped(x), sparsity)
    mask = prune(model, sparsity, score="sparsegpt", batches=[(x[:5], None), (x[5:], None)])
    torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-7, atol=1e-9)
    assert torch.equal(mask["weight"], model.weight != 0)
    assert mask.zeros == round(sparsity * features * units)
    assert mask.provenance["changes_weights"] is True
    assert mask.provenance["examples"] == 3 * features


@pytest.mark.parametrize(("n", "m", "features"), [(2, 4, 16), (1, 3, BLOCK + 7), (1, 5, 15)])
def test_runs_are_chosen_when_their_first_column_is_reached(n: int, m: int, features: int) -> None:
    model, x = linear(features, 4), correlated(3 * features, features)
    expected = surgeon(model.weight.detach().clone(), damped(x), run=(n, m))
    mask = prune(model, pattern=NByM(n, m), score="sparsegpt", batches=[(x, None)])
    torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-7, atol=1e-9)
    assert bool((mask["weight"].view(4, -1, m).sum(2) == n).all())


def test_what_stays_to_the_right_of_all_that_goes_is_the_solution_of_least_squares() -> None:
    """Where nothing that stays lies to the left, nothing is left to be made up for."""
    model, x = linear(6, 1), correlated(40, 6)
    model.weight.data[0, :3] *= 1e-3
    before = model.weight.detach().clone()
    prune(model, 0.5, score="sparsegpt", batches=[(x, None)])
    assert model.weight[0, :3].tolist() == [0, 0, 0]
    hessian = damped(x)
    expected = torch.linalg.solve(hessian[3:, 3:], hessian[3:] @ before[0])
    torch.testing.assert_close(model.weight[0, 3:].detach(), expected)


def test_inputs_that_are_independent_give_the_mask_of_magnitudes() -> None:
    model = linear(40, 6)
    before = model.weight.detach().clone()
    expected = find_mask(model, 0.6)
    mask = prune(model, 0.6, score="sparsegpt", batches=[(torch.eye(40).double(), None)])
    assert mask == expected
    assert torch.equal(model.weight.detach(), before * mask["weight"])


@pytest.mark.parametrize("pattern", ["weight", NByM(2, 4)])
def test_outputs_stay_closer_than_with_masks_alone(pattern: Any) -> None:
    x = correlated(256, 24)
    sparsity = 0.5 if pattern == "weight" else None
    errors = {}
    for score in ("magnitude", "wanda", "sparsegpt"):
        model = linear(24, 16)
        before = model(x)
        prune(model, sparsity, score=score, pattern=pattern, batches=[(x, None)])
        errors[score] = float((model(x) - before).square().mean().detach())
    assert errors["sparsegpt"] < 0.5 * min(errors["magnitude"], errors["wanda"])


def test_inputs_that_are_dead_go_first_and_move_nothing() -> None:
    model, x = linear(12, 4), correlated(50, 12)
    x[:, [2, 7, 11]] = 0
    model.weight.data[:, 7] = 100.0
    twin = copy.deepcopy(model)
    before = model.weight.detach().clone()
    few = prune(model, 8 / 48, score="sparsegpt", batches=[(x, None)])
    # Those of two dead inputs in the order of rows; all else is as it was.
    places = torch.zeros(4, 12, dtype=torch.bool)
    places[:, [2, 7, 11]] = True
    assert (~few["weight"]).flatten().nonzero().flatten().tolist() == (
        places.flatten().nonzero().flatten()[:8].tolist()
    )
    assert torch.equal(model.weight[few["weight"]].detach(), before[few["weight"]])
    mask = prune(twin, 0.5, score="sparsegpt", batches=[(x, None)])
    assert not mask["weight"][:, [2, 7, 11]].any()
    assert mask.zeros == 24


def test_what_is_zero_stays_zero_and_counts() -> None:
    model, x = linear(20, 6), correlated(80, 20)
    first = prune(model, 0.5, score="random")
    second = prune(model, 0.7, score="sparsegpt", batches=[(x, None)])
    assert not (second["weight"] & ~first["weight"]).any()
    assert second.zeros == 84
    third = prune(model, 0.2, score="sparsegpt", batches=[(x, None)])
    assert third.zeros == 24
    assert int((model.weight == 0).sum()) == 84


class Odd(nn.Module):
    """A weight that lies the other way round, and convolutions in groups."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 8, 3, groups=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.turned = nn.Parameter(torch.randn(8, 12))
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.conv(x).relu()).mean((2, 3))
        result: Tensor = self.out(torch.addmm(x.new_zeros(12), x, self.turned).relu())
        return result


LAYERS = {"conv.weight": 144, "depthwise.weight": 72, "turned": 96, "out.weight": 48}


@pytest.mark.parametrize(
    "allocation",
    ["uniform", "global", ERK(), OWL(2.0, 0.05), ErdosRenyi(2), {"conv": 0.9, "out": 0.0}],
)
def test_counts_are_those_of_the_allocation(allocation: Any) -> None:
    sparsity = None if isinstance(allocation, ErdosRenyi) else 0.6
    batches = [(torch.randn(6, 4, 5, 5), None)]
    model = Odd()
    layers = "uniform" if allocation == "global" else allocation
    expected = find_mask(model, sparsity, allocation=layers, batches=batches)
    mask = prune(model, sparsity, score="sparsegpt", allocation=allocation, batches=batches)
    assert mask.densities == expected.densities
    assert not mask.violations(model)
    assert {n: v.numel() for n, v in mask.weights.items()} == LAYERS


@settings(max_examples=25)
@given(st.integers(0, 50), st.floats(0, 1), st.integers(1, 9), st.integers(1, 4))
def test_counts_are_exact(seed: int, sparsity: float, features: int, units: int) -> None:
    model, x = linear(features, units, seed), correlated(4, features, seed)
    x[:, seed % features] = 0
    mask = prune(model, sparsity, score="sparsegpt", batches=[(x, None)])
    size = features * units
    assert mask.zeros == min(round(sparsity * size), size - (sparsity < 1))
    assert int((model.weight == 0).sum()) == mask.zeros


def unfolded(model: Odd, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return of layers their inputs as [groups, examples, columns] and weights as rows of those."""
    first = model.conv(x).relu()
    patches = functional.unfold(x, 3, padding=1).transpose(1, 2).reshape(-1, 2, 18)
    depths = functional.unfold(first, 3).transpose(1, 2).reshape(-1, 8, 9)
    rows = model.conv.weight.view(2, 4, 18), model.depthwise.weight.view(8, 1, 9)
    inner = model.depthwise(first).mean((2, 3))
    return {
        "conv.weight": (patches.transpose(0, 1), rows[0]),
        "depthwise.weight": (depths.transpose(0, 1), rows[1]),
        "turned": (inner[None], model.turned.T[None]),
    }


def test_convolutions_and_turned_weights_are_rows_of_what_they_multiply() -> None:
    """At a given mask each group is a problem of its own, whatever its shape in the weight is."""
    model, x = Odd().double(), torch.randn(9, 4, 5, 5).double()
    before = {n: (i.detach(), w.detach().clone()) for n, (i, w) in unfolded(model, x).items()}
    prune(model, 0.5, score="sparsegpt", batches=[(x, None)])
    for name, (_, after) in unfolded(model, x).items():
        for inputs, weight, now in zip(*before[name], after.detach(), strict=True):
            hessian = damped(inputs)
            final = weight.clone()
            for column in range(weight.shape[1]):
                moved = (final - weight)[:, :column] @ hessian[:column, column:]
                free = torch.linalg.solve(hessian[column:, column:], moved.T).T
                value = (weight[:, column:] - free)[:, 0]
                final[:, column] = value.masked_fill(now[:, column] == 0, 0)
            torch.testing.assert_close(now, final, rtol=1e-6, atol=1e-9)
            assert not torch.equal(now, weight * (now != 0))


@pytest.mark.parametrize("layer", ["conv.weight", "turned"])
def test_runs_are_those_of_the_pattern(layer: str) -> None:
    model, x = Odd(), torch.randn(9, 4, 5, 5)
    mask = prune(
        model, pattern=NByM(1, 2), score="sparsegpt", batches=[(x, None)], exclude="depthwise"
    )
    kept = mask[layer].flatten(2) if layer == "conv.weight" else mask[layer][..., None]
    assert bool((kept.unflatten(1, (-1, 2)).sum(2) == 1).all())  # type: ignore[no-untyped-call]


def test_attention_is_pruned_for_what_each_projection_is_given() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(6, 2, batch_first=True).double()
    query, other = correlated(30, 6).view(3, 10, 6), correlated(30, 6, 1).view(3, 10, 6)
    before = model.in_proj_weight.detach().clone()
    batches = [((query, other, other), None)]
    prune(model, 0.5, score="sparsegpt", batches=batches)
    after = model.in_proj_weight.detach()
    for rows, inputs in ((slice(0, 6), query), (slice(6, 18), other)):
        assert int((after[rows] == 0).sum()) == 36 * (rows.stop - rows.start) // 12
        expected = surgeon(before[rows], damped(inputs.flatten(0, 1)), 0.5)
        torch.testing.assert_close(after[rows], expected)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight @ self.weight.T


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight[:3].T


@pytest.mark.parametrize(
    ("model", "choices", "sentence"),
    [
        (
            nn.Linear(3, 4),
            {"pattern": "unit", "sparsity": 0.5},
            "must be 'weight' or NByM.* 'unit'",
        ),
        (nn.Linear(3, 4), {"pattern": Block(2, 1), "sparsity": 0.5}, r"NByM\(n, m\), not Block"),
        (nn.Linear(3, 4), {"allocation": FixedFanIn(2)}, r"cannot be FixedFanIn\(.*'uniform'"),
        (Tied(), {"sparsity": 0.5}, "weight is used in several ways, .*: exclude it, or choose"),
        (Half(), {"sparsity": 0.5}, "weight is used in part only, .*: exclude it, or choose"),
    ],
)
def test_what_it_cannot_do_is_refused_in_a_sentence(
    model: nn.Module, choices: dict[str, Any], sentence: str
) -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=sentence):
        prune(model, score="sparsegpt", batches=[(torch.randn(5, 3), None)], **choices)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_mask_alone_is_found_without_a_change() -> None:
    model, x = linear(8, 4), correlated(30, 8)
    before = model.weight.detach().clone()
    mask = find_mask(model, 0.5, score="sparsegpt", batches=[(x, None)])
    assert torch.equal(model.weight, before)
    assert prune(model, 0.5, score="sparsegpt", batches=[(x, None)]) == mask
    assert not torch.equal(model.weight, before * mask["weight"])


def test_weights_of_bfloat16_stay_so() -> None:
    model, x = linear(16, 8).bfloat16(), correlated(60, 16).bfloat16()
    mask = prune(model, 0.5, score="sparsegpt", batches=[(x, None)])
    assert model.weight.dtype == torch.bfloat16
    assert mask.sparsity == 0.5
    wide = linear(16, 8)
    wide.weight.data = linear(16, 8).bfloat16().weight.data.double()
    prune(wide, 0.5, score="sparsegpt", batches=[(x.double(), None)])
    apart = (model.weight - wide.weight).norm() / wide.weight.norm()
    assert float(apart.detach()) < 0.01


def halved(context: ScoreContext) -> Solution:
    """Keep every other weight, twice as large."""
    kept = torch.arange(context.weight.numel()).view(context.weight.shape) % 2 == 0
    return Solution(kept, 2 * context.weight)


def test_a_function_of_ones_own_may_change_weights() -> None:
    model = linear(4, 2)
    before = model.weight.detach().clone()
    mask = prune(model, 0.5, score=Score(halved, changes_weights=True))
    assert mask.zeros == 4
    assert torch.equal(model.weight, 2 * before * mask["weight"])
    for wrong in (lambda c: c.weight, lambda c: Solution(c.weight, c.weight),
                  lambda c: Solution(c.weight[0] > 0, c.weight)):  # fmt: skip
        with pytest.raises(InputError, match="must give a Solution for weight: a boolean tensor"):
            prune(linear(4, 2), 0.5, score=Score(wrong, changes_weights=True))
    with pytest.raises(InputError, match="must be done in one round"):
        Score(halved, changes_weights=True, rounds=3)
