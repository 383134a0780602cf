import copy
import hashlib
import itertools
import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossamer import find_mask, prune
from gossamer.core.errors import InputError
from gossamer.masks import Mask

SCORES = ("magnitude", "rms", "relative-rms", "largest", "random")


def network(seed: int = 0, *, ties: bool = False) -> nn.Sequential:
    """Return a small network of three kinds of weights; with ties, of few distinct values."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 7), nn.Linear(7, 5))
    if ties:
        for parameter in model.parameters():
            parameter.data = parameter.data.mul(8).round().div(8)
    return model


def weights(model: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    return {n: p.detach().double().numpy() for n, p in model.named_parameters() if p.dim() > 1}


def brute_force(
    model: nn.Module, sparsity: float, score: str, shares: Mapping[str, float] | None
) -> dict[str, list[bool]]:
    """Decide which weights stay by sorting tuples; `shares` None compares across layers."""
    kept = {name: [True] * value.size for name, value in weights(model).items()}
    sign = {"magnitude": 1, "largest": -1}[score]
    # (not zero, score, position) sorts in the order of going.
    order = {
        name: sorted((v != 0, sign * abs(v), place) for place, v in enumerate(value.flatten()))
        for name, value in weights(model).items()
    }
    if shares is None:
        size = sum(len(going) for going in order.values())
        names = list(order)
        if sparsity < 1:  # the last of each layer is safe
            order = {name: going[:-1] for name, going in order.items()}
        joined = sorted(
            (nonzero, value, names.index(name), place)
            for name, going in order.items()
            for nonzero, value, place in going
        )
        for _, _, layer, place in joined[: round(sparsity * size)]:
            kept[names[layer]][place] = False
        return kept
    for name, going in order.items():
        share = shares.get(name, sparsity)
        count = round(share * len(going))
        for _, _, place in going[: count if share == 1 else min(count, len(going) - 1)]:
            kept[name][place] = False
    return kept


def flat(mask: Mask) -> dict[str, list[bool]]:
    return {name: value.flatten().tolist() for name, value in mask.weights.items()}


@pytest.mark.filterwarnings("ignore:little is left")
@settings(max_examples=60)
@given(
    seed=st.integers(0, 9),
    ties=st.booleans(),
    earlier=st.sampled_from([0.0, 0.3, 0.95]),
    sparsity=st.floats(0, 1) | st.sampled_from([0.5, 0.125, 0.99, 1.0]),
    score=st.sampled_from(["magnitude", "largest"]),
    allocation=st.sampled_from(["global", "uniform", {"2.weight": 1.0}, {"0.weight": 0.25}]),
)
def test_prune_agrees_with_brute_force(
    seed: int, ties: bool, earlier: float, sparsity: float, score: str, allocation: Any
) -> None:
    model = network(seed, ties=ties)
    prune(model, earlier, score="random", seed=seed)
    before = weights(copy.deepcopy(model))
    shares = None if allocation == "global" else {} if allocation == "uniform" else allocation
    expected = brute_force(model, sparsity, score, shares)
    mask = prune(model, sparsity, score=score, allocation=allocation)
    assert flat(mask) == expected
    for name, after in weights(model).items():
        assert np.array_equal(after, np.where(mask[name].numpy(), before[name], 0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_agree_with_brute_force(dtype: torch.dtype) -> None:
    model = network(3).to(dtype)
    model[0].to(torch.float32)  # mixed
    for score in ("magnitude", "largest"):
        assert flat(find_mask(model, 0.6, score=score)) == brute_force(model, 0.6, score, None)
    assert find_mask(model, 0.6, score="random").zeros == round(0.6 * 143)


def test_close_doubles_are_told_apart() -> None:
    model = nn.Linear(3, 1).double()
    model.weight.data = torch.tensor([[1 + 2e-16, 1.0, 1 + 4e-16]], dtype=torch.float64)
    assert flat(find_mask(model, 1 / 3))["weight"] == [True, False, True]


@pytest.mark.parametrize(("size", "zeros"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_halves_go_to_even(size: int, zeros: int) -> None:
    for allocation in ("global", "uniform"):
        assert find_mask(nn.Linear(size, 1), 0.5, allocation=allocation).zeros == zeros


@pytest.mark.filterwarnings("ignore:little is left")
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_sparsity_is_the_total_and_zeros_go_first(score: str, allocation: str) -> None:
    model = network()
    first = prune(model, 0.5, score=score, allocation=allocation, seed=1)
    second = prune(model, 0.9, score=score, allocation=allocation, seed=2)
    pruned = sum(int((value == 0).sum()) for value in weights(model).values())
    assert pruned == second.zeros
    assert pruned == (round(0.9 * 143) if allocation == "global" else 22 + 76 + 32)
    assert all(bool((first[name] | ~second[name]).all()) for name in first)


@pytest.mark.filterwarnings("ignore:little is left")
@pytest.mark.parametrize("score", SCORES)
def test_less_than_before_gives_a_mask_of_less(score: str) -> None:
    model = network()
    first = prune(model, 0.9, score=score)
    second = prune(model, 0.5, score=score)
    assert second.zeros == round(0.5 * 143)
    assert all(bool((first[name] <= second[name]).all()) for name in first)


@pytest.mark.parametrize("pattern", ["weight", "unit"])
@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_a_layer_keeps_one_unless_asked_for_all(pattern: str, allocation: str) -> None:
    model = network()
    nearly = find_mask(model, 0.9999, pattern=pattern, allocation=allocation)
    one = {"weight": [1, 1, 1], "unit": [8, 12, 7]}[pattern]
    assert [int(value.sum()) for value in nearly.weights.values()] == one
    assert find_mask(model, 1, pattern=pattern, allocation=allocation).sparsity == 1
    only = find_mask(model, 0.5, pattern=pattern, allocation={"2": 1.0})
    assert only.densities["2.weight"] == 0
    assert only.densities["0.weight"] > 0


@pytest.mark.filterwarnings("ignore:little is left")
def test_the_weight_that_a_layer_keeps_is_its_best() -> None:
    model = network()
    for parameter in model[0].parameters():
        parameter.data *= 1e-6
    mask = find_mask(model, 0.9)
    assert flat(mask)["0.weight"].index(True) == abs(weights(model)["0.weight"]).argmax()


def test_random_masks_depend_on_the_seed_and_not_on_other_layers() -> None:
    model = network()
    mask = find_mask(model, 0.5, score="random", allocation="uniform", seed=3)
    assert mask == find_mask(network(8), 0.5, score="random", allocation="uniform", seed=3)
    assert mask != find_mask(model, 0.5, score="random", allocation="uniform", seed=4)
    without = find_mask(model, 0.5, score="random", allocation="uniform", seed=3, exclude="0")
    assert torch.equal(without["2.weight"], mask["2.weight"])


def test_of_patterns_in_an_allocation_the_closest_counts_in_any_order() -> None:
    shares = {"*": 0.25, "2": 0.5, "*.weight": 0.75}
    for names in (list(shares), list(reversed(shares))):
        mask = find_mask(network(), 0.9, allocation={name: shares[name] for name in names})
        assert [round(1 - d, 2) for d in mask.densities.values()] == [0.75, 0.5, 0.74]


def test_an_allocation_names_modules_around_layers_too() -> None:
    model = nn.ModuleDict({"body": network(), "head": nn.Linear(4, 5)})
    mask = find_mask(model, 0.2, allocation={"body": 0.5})
    assert [round(1 - d, 2) for d in mask.densities.values()] == [0.5, 0.5, 0.51, 0.2]


def known_network(*, ties: bool, dtype: torch.dtype) -> nn.Sequential:
    """Return layers of every kind with values that no library's version changes."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4),
        nn.ConvTranspose2d(8, 6, 2, groups=2), nn.Flatten(), nn.Linear(24, 17), nn.Linear(17, 1),
        nn.Linear(1, 9), nn.Embedding(5, 4), nn.LSTM(4, 3),
    )  # fmt: skip
    generator = np.random.default_rng(0)
    for parameter in model.parameters():
        values = generator.integers(-(2**20), 2**20, size=tuple(parameter.shape)) / 2**18
        parameter.data = torch.from_numpy(np.round(values) if ties else values).to(dtype)
    return model


@pytest.mark.filterwarnings("ignore:little is left")
def test_masks_are_those_that_stored_runs_were_made_with() -> None:
    digest = hashlib.sha256()
    for ties, dtype, score, allocation, pattern, sparsity in itertools.product(
        (False, True), (torch.float32, torch.bfloat16), ("magnitude", "largest", "random"),
        ("global", "uniform", {"0": 0.3, "*.weight": 0.77}), ("weight", "unit"),
        (0.1, 0.5, 0.625, 0.97, 0.9999, 1),
    ):  # fmt: skip
        mask = find_mask(
            known_network(ties=ties, dtype=dtype), sparsity, score=score,
            allocation=cast("Any", allocation), pattern=pattern, seed=7, coupled=False,
        )  # fmt: skip
        for name, value in mask.items():
            digest.update(name.encode() + np.packbits(value.numpy()).tobytes())
    assert digest.hexdigest() == "f577a61e8dd01c36d3bc0681a21269bb8606887648670ad2e2bc51f667fa068e"


@pytest.mark.filterwarnings("ignore:little is left")
def test_one_global_random_rate_gives_layers_hypergeometric_counts() -> None:
    model = nn.Sequential(nn.Linear(10, 12), nn.Linear(12, 40), nn.Linear(40, 30))
    sizes, seeds = np.array([120, 480, 1200]), 400
    kept = np.array([
        [int(value.sum()) for value in find_mask(model, 0.9, score="random", seed=seed).values()]
        for seed in range(seeds)
    ])  # fmt: skip
    assert (kept.sum(1) == 180).all()
    mean, share = 180 * sizes / 1800, sizes / 1800
    variance = 180 * share * (1 - share) * (1800 - 180) / (1800 - 1)
    assert (np.abs(kept.mean(0) - mean) < 4 * np.sqrt(variance / seeds)).all()
    # The variance of a nearly normal count is known to a factor of 1 +- sqrt(2 / seeds).
    assert np.allclose(kept.var(0), variance, rtol=4 * np.sqrt(2 / seeds))


def everything(model: nn.Module) -> tuple[Any, ...]:
    return (
        [(name, type(module), module.training) for name, module in model.named_modules()],
        [(name, id(p), p.requires_grad) for name, p in model.named_parameters()],
        list(model.state_dict()),
        [buffer.tolist() for buffer in model.buffers()],
        {name: set(vars(module)) for name, module in model.named_modules()},
    )


class Restless(nn.Module):
    """Draws, counts and remembers in its forward."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
        self.head = nn.Linear(4, 2)
        self.register_buffer("steps", torch.zeros(()))
        self.calls = 0

    def forward(self, values: Tensor) -> Tensor:
        self.steps += 1
        self.calls += 1
        self.seen = values
        noise = torch.rand(4) + random.random() + float(np.random.rand())  # noqa: NPY002
        return cast("Tensor", self.head(self.body(values + noise)))


@pytest.mark.parametrize("pattern", ["weight", "unit"])
def test_prune_changes_nothing_but_values(pattern: str) -> None:
    model = Restless()
    model.body.eval()
    model.head.weight.requires_grad_(False)
    heard: list[Any] = []
    model.body.register_forward_hook(lambda *given: heard.append(given))
    before = everything(model)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    example = torch.ones(3, 4) if pattern == "unit" else None
    mask = prune(
        model, 0.5, score="random", pattern=pattern, exclude="output layer", example=example
    )
    assert list(mask.weights) == ["body.0.weight"]
    assert everything(model) == before
    assert len(heard) == (pattern == "unit")  # nothing but what a call on the example tells
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert repr(states[2]) == repr(np.random.get_state())  # noqa: NPY002
    assert all(p.grad is None and p.is_leaf for p in model.parameters())


def test_a_model_that_remembers_activations_is_traced_all_the_same() -> None:
    model = Restless()
    model(torch.ones(3, 4))
    model.seen = model.head.weight * 2  # part of an autograd graph, so no deepcopy takes it
    mask = find_mask(model, 0.5, pattern="unit", exclude="output layer", example=torch.ones(3, 4))
    assert set(mask.attached) == {"body.0.bias", "body.1.weight", "body.1.bias"}


def test_find_mask_leaves_the_values_too() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    mask = find_mask(model, 0.7)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert mask == prune(model, 0.7)


def test_provenance_tells_how_the_mask_was_found() -> None:
    mask = find_mask(network(), 0.5, allocation={"0": np.float64(0.25)}, exclude="3", seed=7)
    assert mask.provenance == {
        "score": "magnitude", "allocation": {"0": 0.25}, "pattern": "weight",
        "sparsity": 0.5, "exclude": ["3"], "include": [], "left_alone": {}, "seed": 7,
    }  # fmt: skip


@pytest.mark.parametrize("sparsity", [np.float32(0.5), np.float64(0.5), 0, 1])
def test_numbers_of_any_kind_are_sparsities(sparsity: Any) -> None:
    assert find_mask(network(), sparsity).zeros == round(float(sparsity) * 143)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"sparsity": float("nan")}, r"must lie between 0 and 1, not nan$"),
    ({"sparsity": -0.1}, r"must lie between 0 and 1, not -0.1$"),
    ({"sparsity": 90}, r"not 90: 90% is 0\.9$"),
    ({"sparsity": 1.5}, r"not 1\.5: 1\.5% is 0\.015"),
    ({"sparsity": 1e9}, r"not 1000000000\.0$"),
    ({"sparsity": True}, r"must be a number from 0 to 1, not True"),
    ({"sparsity": "0.5"}, r"must be a number from 0 to 1, not '0\.5'"),
    ({"sparsity": None}, r"must be a number from 0 to 1, not None"),
    (
        {"score": "size"},
        r"unknown score 'size': choose one of magnitude, rms, relative-rms, largest, random",
    ),
    ({"score": ["magnitude"]}, r"unknown score"),
    ({"pattern": "row"}, r"unknown pattern 'row': choose one of weight, unit"),
    ({"pattern": {}}, r"unknown pattern"),
    ({"allocation": "even"}, r"unknown allocation 'even': choose one of global, uniform"),
    ({"allocation": [0.5]}, r"unknown allocation \[0\.5\]"),
    ({"allocation": {"9": 0.5}}, r"allocation names '9', which is no prunable weight.*2\.weight"),
    ({"allocation": {"0": 2}}, r"the sparsity of '0' must lie between 0 and 1, not 2"),
    ({"allocation": {"0": "x"}}, r"the sparsity of '0' must be a number"),
    ({"allocation": {0: 0.5}}, r"must map names to sparsities, not 0"),
    ({"exclude": "nine"}, r"exclude='nine' matches no parameter or module.*3\.bias"),
    ({"exclude": ["0", ""]}, r"exclude='' matches no parameter"),
    ({"exclude": None}, r"exclude must be a pattern"),
    ({"exclude": [3]}, r"exclude must be a pattern"),
    ({"exclude": "*"}, r"Sequential has no weight that `exclude` leaves"),
    ({"seed": "a"}, r"seed must be a whole number, not 'a'"),
    ({"seed": 0.5}, r"seed must be a whole number, not 0\.5"),
    ({"model": {}}, r"a torch.nn.Module was expected, not dict"),
    ({"model": nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3))}, r"Sequential has no weight to prune"),
    ({"model": nn.Embedding(3, 2), "pattern": "unit"}, r"no layer has the pattern 'unit'"),
    ({"model": nn.Linear(2, 2, device="meta")}, r"weight is on the meta device"),
]


@pytest.mark.parametrize(("given", "sentence"), BAD)
def test_bad_input_gets_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        prune(**{"model": network(), "sparsity": 0.5, **given})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("pattern", ["weight", "unit"])
def test_weights_that_are_not_finite_are_refused_and_nothing_changes(
    value: float, pattern: str
) -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("2.weight")[3, 4] = value
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=r"2\.weight holds values that are not finite"):
        prune(model, 0.5, pattern=pattern)
    for name, after in model.state_dict().items():
        assert torch.equal(before[name].nan_to_num(), after.nan_to_num())
