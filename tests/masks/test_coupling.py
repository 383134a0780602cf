"""Which units go together, and how groups of them are scored and chosen."""

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer import ERK, Mask, find_mask, prune
from gossamer.core.errors import InputError
from gossamer.graph.groups import coupled_units
from gossamer.graph.recording import recorded
from gossamer.graph.symbolic import traced


class Body(nn.Module):
    """Runs a function over parts that it holds under their names."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def branches(**more: Any) -> Body:
    """Two layers whose results are added, and one that reads the sum."""
    return Body(
        lambda m, x: m.out((m.a(x) + m.b(x.square())).relu()),
        a=nn.Linear(4, 6), b=nn.Linear(4, 6), out=nn.Linear(6, 3), **more,
    )  # fmt: skip


ROWS, IMAGE = torch.rand(5, 4), torch.rand(2, 4, 6, 6)


def groups_by_layer(model: nn.Module, example: Tensor) -> dict[str, list[int]]:
    """Return the group of each unit by layer, numbered as they come."""
    found = coupled_units(model, recorded(model, example))
    numbers: dict[int, int] = {}
    return {
        name: [numbers.setdefault(n, len(numbers)) for n in found.of(layer).tolist()]
        for name, layer in found.found.layers.items()
    }


TIED: dict[str, tuple[nn.Module, Tensor, dict[str, list[int]]]] = {
    "sum": (branches(), ROWS, {"a": [0, 1, 2, 3, 4, 5], "b": [0, 1, 2, 3, 4, 5],
                               "out": [6, 7, 8]}),
    "sum of a concatenation": (
        Body(lambda m, x: m.out(torch.cat([m.a(x), m.b(x)], -1) + m.c(x)), a=nn.Linear(4, 1),
             b=nn.Linear(4, 2), c=nn.Linear(4, 3), out=nn.Linear(3, 1)),
        ROWS, {"a": [0], "b": [1, 2], "c": [0, 1, 2], "out": [3]}),
    "depthwise": (
        nn.Sequential(nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 1, 1)),
        IMAGE, {"0": [0, 1], "1": [0, 0, 1, 1], "2": [2]}),
    "two large groups": (
        nn.Sequential(nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 3, groups=2), nn.Conv2d(6, 1, 1)),
        IMAGE, {"0": [0, 1, 2, 0, 1, 2], "1": [3, 4, 5, 3, 4, 5], "2": [6]}),
    "transposed in groups": (
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 2, 2, groups=2),
                      nn.Conv2d(2, 1, 1)),
        IMAGE, {"0": [0, 0, 1, 1], "1": [0, 1], "2": [2]}),
    "shared layer": (
        Body(lambda m, x: m.out(m.both(m.a(x)) * m.both(m.b(x))), a=nn.Linear(4, 2),
             b=nn.Linear(4, 2), both=nn.Linear(2, 2), out=nn.Linear(2, 1)),
        ROWS, {"a": [0, 1], "both": [2, 3], "b": [0, 1], "out": [4]}),
    "shared normalisation": (
        Body(lambda m, x: m.out(torch.cat([m.n(m.a(x)), m.n(m.b(x))], 1)), a=nn.Linear(4, 2),
             b=nn.Linear(4, 2), n=nn.BatchNorm1d(2), out=nn.Linear(4, 1)),
        ROWS, {"a": [0, 1], "b": [0, 1], "out": [2]}),
    "gate": (
        Body(lambda m, x: m.out(m.a(x) * m.gate(x.mean((2, 3))).sigmoid()[..., None, None]),
             a=nn.Conv2d(4, 2, 1), gate=nn.Linear(4, 2), out=nn.Conv2d(2, 1, 1)),
        IMAGE, {"gate": [0, 1], "a": [0, 1], "out": [2]}),
    "tokens of images": (
        Body(lambda m, x: m.out(m.a(x).flatten(2).transpose(1, 2) + m.b(m.c(x).flatten(2).mT)),
             a=nn.Conv2d(4, 2, 1), b=nn.Linear(2, 2), c=nn.Conv2d(4, 2, 1), out=nn.Linear(2, 1)),
        IMAGE, {"a": [0, 1], "c": [2, 3], "b": [0, 1], "out": [4]}),
    "attention": (
        Body(lambda m, x: m.out((h := m.a(x)) + m.att(h, h, h)[0]), a=nn.Linear(4, 2),
             att=nn.MultiheadAttention(2, 1, batch_first=True), out=nn.Linear(2, 1)),
        torch.rand(2, 3, 4),
        {"a": [0, 1], "att.out_proj": [0, 1], "att.in_proj_weight[0]": [2, 2],
         "att.in_proj_weight[1]": [2, 2], "att.in_proj_weight[2]": [2, 2], "out": [3]}),
    "hidden units with their gates": (
        nn.Sequential(nn.GRU(4, 2, batch_first=True), Body(lambda m, x: m.out(x[0]),
                                                           out=nn.Linear(2, 1))),
        torch.rand(2, 3, 4),
        {"0.weight_ih_l0": [0, 1] * 3, "0.weight_hh_l0": [0, 1] * 3, "1.out": [2]}),
    "function with the weight of a layer": (
        Body(lambda m, x: m.out(nn.functional.linear(x, m.a.weight) + m.b(x)), a=nn.Linear(4, 2),
             b=nn.Linear(4, 2), out=nn.Linear(2, 1)),
        ROWS, {"a": [0, 1], "b": [0, 1], "out": [2]}),
    "nothing": (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), ROWS,
                {"0": [0, 1, 2], "2": [3, 4]}),
}  # fmt: skip


@pytest.mark.parametrize("name", TIED)
def test_units_that_can_only_go_together_are_one_group(name: str) -> None:
    model, example, groups = TIED[name]
    assert groups_by_layer(model, example) == groups


@pytest.mark.parametrize("name", TIED)
def test_without_an_example_the_groups_are_the_same_or_the_call_refuses(name: str) -> None:
    model, example, _ = TIED[name]
    options: dict[str, Any] = {"pattern": "unit", "exclude": "output layer"}
    on_example = find_mask(model, 0.5, **options, example=example)
    try:
        assert find_mask(model, 0.5, **options) == on_example
    except InputError as error:
        assert "pass example=" in str(error)  # noqa: PT017 - either answer is right


def test_a_network_that_is_traced_has_the_groups_of_one_that_ran() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4))
    both = [list(coupled_units(model, graph)) for graph in (traced(model), recorded(model, IMAGE))]
    assert both[0] == both[1]
    assert [(m.parameter, m.part, m.indices) for m in both[0][2].members] == [
        ("0.weight", "units", (2,)), ("0.bias", "entries", (2,)), ("1.weight", "units", (2,)),
        ("1.bias", "entries", (2,)), ("1.weight", "inputs", (2,)),
        ("2.weight", "entries", (2,)), ("2.bias", "entries", (2,)),
    ]  # fmt: skip
    assert both[0][2].pinned == "the network's output"


def rows(model: nn.Module, name: str) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = model.get_parameter(name).detach().double().numpy()
    return values


def test_a_group_is_scored_by_all_its_weights() -> None:
    """A seventh of the weights of `a` and `b` is a group of both."""
    torch.manual_seed(0)
    model = Body(
        lambda m, x: m.out(m.a(x) + m.b(x[:, :2])), a=nn.Linear(4, 9), b=nn.Linear(2, 9),
        out=nn.Linear(9, 1),
    )  # fmt: skip
    squares = {n: (rows(model, f"{n}.weight") ** 2).sum(1) for n in "ab"}
    of_layers = {"a": squares["a"].sum() / 36, "b": squares["b"].sum() / 18}
    scores = {
        "magnitude": squares["a"] + squares["b"],
        "rms": squares["a"] + squares["b"],
        "relative-rms": squares["a"] / of_layers["a"] + squares["b"] / of_layers["b"],
        "largest": -squares["a"] - squares["b"],
    }
    for score, expected in scores.items():
        for count in range(10):
            mask = find_mask(
                model, count / 9, pattern="unit", score=score, exclude="out", example=ROWS
            )
            gone = np.zeros(9, bool)
            gone[np.argsort(expected)[: count if count == 9 else min(count, 8)]] = True
            for name in ("a.bias", "b.bias"):
                assert mask[name].logical_not().tolist() == gone.tolist(), (score, count)


@settings(max_examples=40)
@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    score=st.sampled_from(["magnitude", "rms", "relative-rms", "largest", "random"]),
    sparsity=st.sampled_from([0, 0.1, 0.35, 0.5, 0.77, 0.99, 1]),
    allocation=st.sampled_from(["global", "uniform", ERK(), {"0": 0.3}]),
    seed=st.integers(0, 99),
)
def test_where_nothing_is_tied_units_are_chosen_one_by_one(
    widths: list[int], score: str, sparsity: float, allocation: Any, seed: int
) -> None:
    torch.manual_seed(seed)
    layers = [(nn.Linear(i, o), nn.BatchNorm1d(o)) for i, o in itertools.pairwise([3, *widths])]
    model = nn.Sequential(*(nn.Sequential(*pair) for pair in layers))
    options: dict[str, Any] = {
        "pattern": "unit", "score": score, "allocation": allocation, "seed": seed,
        "example": torch.rand(2, 3),
    }  # fmt: skip
    with torch.no_grad():
        layers[0][0].weight[: seed % 2] = 0
        layers[-1][0].weight.round_(decimals=1)
    single = quiet(model, sparsity, coupled=False, **options)
    assert quiet(model, sparsity, **options) == single


def quiet(model: nn.Module, sparsity: float, **options: Any) -> Mask:
    """Find a mask that may leave little of a layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return find_mask(model, sparsity, **options)


def test_zero_groups_go_first_and_a_sparsity_is_the_total() -> None:
    model = branches()
    first = prune(model, 0.5, pattern="unit", score="random", exclude="out")
    second = prune(model, 5 / 6, pattern="unit", score="largest", exclude="out")
    assert (first.sparsity, second.sparsity) == (0.5, 5 / 6)
    assert bool((first["a.bias"] | ~second["a.bias"]).all())
    # A group of which one member is zero is no zero group.
    with torch.no_grad():
        for name in ("a", "b"):
            model.get_parameter(f"{name}.weight").fill_(1)[4] = 0.5
        model.get_parameter("a.weight")[3] = 0
    mask = find_mask(model, 1 / 6, pattern="unit", score="magnitude", exclude="out")
    assert mask["a.bias"].tolist() == [True, True, True, True, False, True]


@pytest.mark.parametrize("allocation", ["global", "uniform", ERK()])
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 0.999, 1.0])
def test_a_layer_keeps_a_group_unless_all_are_asked_for(allocation: Any, sparsity: float) -> None:
    model = Body(
        lambda m, x: m.out(torch.cat([m.a(x), m.b(x)], -1) + m.c(x)), a=nn.Linear(4, 2),
        b=nn.Linear(4, 5), c=nn.Linear(4, 7), out=nn.Linear(7, 1),
    )  # fmt: skip
    mask = quiet(
        model, sparsity, pattern="unit", exclude="out", allocation=allocation, example=ROWS
    )
    assert torch.equal(mask["c.bias"], torch.cat([mask["a.bias"], mask["b.bias"]]))
    kept = [int(mask[f"{name}.bias"].sum()) for name in "abc"]
    if sparsity == 1:
        assert kept == [0, 0, 0]
    else:
        assert min(kept) >= 1
    if sparsity == 0:
        assert kept == [2, 5, 7]


@pytest.mark.parametrize("score", ["magnitude", "relative-rms"])
def test_layers_that_are_tied_have_one_sparsity(score: str) -> None:
    model = branches(aside=nn.Linear(4, 4))
    shares = {"a": 0.5, "b": 0.5, "out": 0.0, "aside": 0.25}
    mask = find_mask(model, 0.9, pattern="unit", allocation=shares, score=score, example=ROWS)
    assert mask.densities == {
        "a.weight": 0.5, "b.weight": 0.5, "out.weight": 1.0, "aside.weight": 0.75,
    }  # fmt: skip
    shares["b"] = 0.25
    with pytest.raises(InputError, match=r"a\.weight the sparsity 0\.5 and b\.weight 0\.25, but"):
        find_mask(model, 0.9, pattern="unit", allocation=shares, example=ROWS)
    single = find_mask(model, 0.9, pattern="unit", allocation=shares, coupled=False)
    assert single.densities["b.weight"] == 4 / 6  # round(0.25 * 6) go


PINNED: dict[str, tuple[Body, str, str]] = {
    "the network's input": (
        Body(lambda m, x: m.out(x + m.a(x) + m.b(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4),
             out=nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))), "", "network's input"),
    "a layer that is excluded": (
        Body(lambda m, x: m.out(m.a(x) + m.b(x) + m.c(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4),
             c=nn.Linear(4, 4), out=nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))),
        "c", r"c\.weight, which is left alone"),
    "the network's output": (
        Body(lambda m, x: m.a(x) + m.b(m.out(x)), a=nn.Linear(4, 3), b=nn.Linear(4, 3),
             out=nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))), "", "network's output"),
}  # fmt: skip


@pytest.mark.parametrize("name", PINNED)
def test_units_stay_that_are_tied_to_what_stays(name: str) -> None:
    model, excluded, reason = PINNED[name]
    mask = find_mask(model, 0.5, pattern="unit", exclude=excluded or (), example=ROWS)
    assert set(mask.weights) == {"out.0.weight", "out.1.weight"}
    assert set(mask.left_alone) == {"a.weight", "b.weight"}
    for why in mask.left_alone.values():
        assert why.startswith("has units that go together with ")
    with pytest.raises(InputError, match=f"no unit can go: a.weight, .*{reason}; pass coupled=F"):
        find_mask(model, 0.5, pattern="unit", exclude=["out", *([excluded] if excluded else [])],
                  example=ROWS)  # fmt: skip
    options: dict[str, Any] = {"exclude": ["out", excluded] if excluded else "out"}
    single = find_mask(model, 0.5, pattern="unit", coupled=False, **options)
    assert set(single.weights) == {"a.weight", "b.weight"}


def test_pinned_units_stay_though_others_of_their_layer_go() -> None:
    model = Body(
        lambda m, x: m.out(torch.cat([x, m.a(x)], 1) + m.b(x)), a=nn.Linear(4, 4),
        b=nn.Linear(4, 8), out=nn.Linear(8, 1),
    )  # fmt: skip
    mask = find_mask(model, 1, pattern="unit", exclude="out", example=ROWS)
    assert mask["b.bias"].tolist() == [True] * 4 + [False] * 4
    assert mask["a.bias"].tolist() == [False] * 4
    assert mask.sparsity == 32 / 48


def test_scales_behind_a_sum_go_with_its_groups() -> None:
    """As in residual networks that normalise before each block."""
    model = Body(
        lambda m, x: m.out(m.n(m.a(x) + m.b(x)).relu()), a=nn.Linear(4, 6), b=nn.Linear(4, 6),
        n=nn.BatchNorm1d(6), out=nn.Linear(6, 1),
    ).double().eval()  # fmt: skip
    for value in (*model.parameters(), *model.buffers()):
        value.data = 0.1 + torch.rand(value.shape).to(value)
    mask = prune(model, 0.5, pattern="unit", exclude="out", example=ROWS.double())
    assert set(mask.attached) == {"a.bias", "b.bias", "n.weight", "n.bias"}
    assert all(torch.equal(value, mask["a.bias"]) for value in mask.attached.values())
    read = model.n(model.a(ROWS.double()) + model.b(ROWS.double()))  # type: ignore[operator]
    assert torch.equal((read != 0).any(0), mask["a.bias"])
    kept = find_mask(model, 0.5, pattern="unit", exclude=["out", "n"], example=ROWS.double())
    assert set(kept.attached) == {"a.bias", "b.bias"}


def test_what_cannot_be_known_is_asked_for() -> None:
    adds = Body(lambda m, x: m.out(m.a(x) + x), a=nn.Linear(4, 4), out=nn.Linear(4, 2))
    with pytest.raises(InputError, match=r"which units go together .*pass example=.*coupled=False"):
        find_mask(adds, 0.5, pattern="unit")
    hidden = Body(
        lambda m, x: m.out(nn.functional.linear(x, m.a.weight * 2)), a=nn.Linear(4, 4),
        out=nn.Linear(4, 2),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"what a\.weight computes is not seen; exclude it, or pa"):
        find_mask(hidden, 0.5, pattern="unit", example=ROWS)
    container = nn.ModuleDict({"a": nn.Linear(4, 4)})
    with pytest.raises(InputError, match=r"ModuleDict has no forward; pass coupled=False"):
        find_mask(container, 0.5, pattern="unit")
    assert find_mask(container, 0.5, pattern="unit", coupled=False).sparsity == 0.5


def test_layers_over_one_memory_lose_the_same_units() -> None:
    model = branches()
    setattr(model.b, "weight", nn.Parameter(model.get_parameter("a.weight").data))  # noqa: B010
    mask = find_mask(model, 0.5, pattern="unit", exclude="out")
    assert set(mask) == {"a.weight", "a.bias", "b.bias"}
    assert torch.equal(mask["a.bias"], mask["b.bias"])


def test_a_layer_that_is_not_called_is_pruned_by_itself() -> None:
    mask = find_mask(branches(aside=nn.Linear(2, 4)), 0.5, pattern="unit", allocation="uniform")
    assert mask.densities["aside.weight"] == 0.5


def test_couplings_that_hang_on_shapes_are_asked_for_by_name() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            gate = x.mean(-1, keepdim=True).expand(-1, 6)
            return self.last(self.first(x) * gate)  # type: ignore[no-any-return]

    with pytest.raises(InputError, match=r"shapes that only an input tells\); pass example="):
        prune(Gated(), 0.5, pattern="unit", exclude="last.weight")


def test_scales_that_flattened_channels_meet_go_with_their_units_or_an_example_is_asked_for() -> (
    None
):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 2)
    ).eval()
    with pytest.raises(InputError, match="pass example="):
        find_mask(model, 0.5, pattern="unit", exclude="3")
    mask = find_mask(model, 0.5, pattern="unit", exclude="3", example=torch.rand(2, 1, 4, 4))
    pruned = {name: int((~mask[name]).sum()) for name in mask}
    assert pruned == {"0.weight": 18, "0.bias": 2, "2.weight": 8, "2.bias": 8}


def test_random_groups_go_alike_whichever_of_their_units_is_zero_already() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.o = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.o(y + self.b(torch.relu(y)))  # type: ignore[no-any-return]

    model = Residual()
    model.a.weight.data[2] = 0
    chosen: dict[str, Any] = {"score": "random", "pattern": "unit", "exclude": "o"}
    masks = [find_mask(model, 0.25, **chosen, seed=seed) for seed in range(200)]
    gone = [int((~mask["b.weight"][:, 0]).nonzero()) for mask in masks]
    # A quarter of 200 draws, within four standard deviations.
    assert abs(gone.count(2) - 50) < 25


def test_a_name_of_a_layer_whose_units_cannot_go_is_told_why() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.h, self.g, self.o = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.o(x + self.g(torch.relu(self.h(x))))  # type: ignore[no-any-return]

    with pytest.raises(InputError, match=r"names 'g', but g\.weight has units that go together"):
        find_mask(
            Skip(), 0.5, pattern="unit", allocation={"g": 0.5}, exclude="o",
            example=torch.rand(2, 4),
        )  # fmt: skip
