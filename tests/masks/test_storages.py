import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim

from gossamer import compact, find_mask, prune
from gossamer.core.errors import InputError
from gossamer.masks import Mask, prunable_weights
from gossamer.masks.storages import (
    described_ties,
    first_names,
    follow,
    in_order_of,
    overlaps_itself,
)
from gossamer.measures.functional import effective_weights, size


class Autoencoder(nn.Module):
    """An encoder and a decoder whose weight lies in the encoder's memory."""

    def __init__(self, view: Callable[[Tensor], Tensor], width: int = 12) -> None:
        super().__init__()
        self.encoder = nn.Linear(width, width, bias=False)
        self.decoder = nn.Linear(width, width, bias=False)
        self.decoder.weight = nn.Parameter(view(self.encoder.weight.detach()))

    def forward(self, given: Tensor) -> Tensor:
        return self.decoder(self.encoder(given).relu())  # type: ignore[no-any-return]


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "alias": lambda weight: weight,
    "transposed": lambda weight: weight.t(),
}


@pytest.mark.parametrize("score", ["magnitude", "random"])
@pytest.mark.parametrize("view", VIEWS)
def test_views_of_one_storage_are_pruned_and_counted_once(view: str, score: str) -> None:
    torch.manual_seed(0)
    model = Autoencoder(VIEWS[view])
    mask = prune(model, 0.5, score=score)
    assert list(mask) == ["encoder.weight"]
    assert mask.size == 144
    assert int((model.encoder.weight == 0).sum()) == int((model.decoder.weight == 0).sum()) == 72
    counted = size(model, list(mask))
    assert (counted.parameters, counted.nonzero, counted.bytes_dense) == (144, 72, 4 * 144)
    assert (counted.sparsity, counted.total_sparsity) == (0.5, 0.5)


@pytest.mark.parametrize("view", VIEWS)
def test_views_of_one_storage_are_enforced_and_found_out_once(view: str) -> None:
    torch.manual_seed(0)
    model = Autoencoder(VIEWS[view])
    optimizer = optim.AdamW(model.parameters(), 0.1)
    for parameter in (model.encoder.weight, model.decoder.weight):
        parameter.grad = torch.rand(12, 12)
    optimizer.step()  # momentum gathers under both names
    mask = prune(model, 0.5, score="random")
    mask.enforce(model, optimizer)
    before = model.encoder.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.rand(5, 12)).square().sum().backward()
        optimizer.step()
        assert mask.violations(model) == {}
        assert int((model.decoder.weight == 0).sum()) == 72
    kept = mask["encoder.weight"]
    assert (model.encoder.weight.detach() != before)[kept].all()
    for parameter in (model.encoder.weight, model.decoder.weight):
        pruned = parameter.detach() == 0
        assert not optimizer.state[parameter]["exp_avg"][pruned].any()
    with torch.no_grad():
        model.decoder.weight.fill_(1)
    assert mask.violations(model) == {"encoder.weight": 72}


@pytest.mark.parametrize("turned", [False, True])
def test_a_copy_that_lost_the_tie_follows_entry_by_entry(tmp_path: Path, turned: bool) -> None:
    torch.manual_seed(0)
    model = Autoencoder(VIEWS["transposed"])
    if turned:  # the first parameter is the transposed one
        model.encoder.weight, model.decoder.weight = model.decoder.weight, model.encoder.weight
    mask = prune(model, 0.5, score="random")
    mask.save(tmp_path / "mask")
    mask = Mask.load(tmp_path / "mask")
    twin = copy.deepcopy(model)
    assert twin.encoder.weight.data_ptr() != twin.decoder.weight.data_ptr()  # what torch does
    with torch.no_grad():
        twin.decoder.weight.fill_(1)
    assert mask.violations(twin) == {"decoder.weight": 72}
    mask.apply(twin)
    assert torch.equal(twin.decoder.weight != 0, mask["encoder.weight"].t())
    optimizer = optim.SGD(twin.parameters(), 0.1)
    mask.enforce(twin, optimizer)
    twin(torch.rand(5, 12)).sum().backward()
    optimizer.step()
    assert mask.violations(twin) == {}
    assert int((twin.decoder.weight == 0).sum()) == 72
    assert (mask & mask).violations(twin) == {}
    assert mask.violations(model) == {}


def test_a_mask_that_contradicts_itself_is_refused() -> None:
    loose = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    mask = find_mask(loose, 0.5, score="random")
    tied: Any = copy.deepcopy(loose)
    tied[1].weight = nn.Parameter(tied[0].weight.detach().t())
    with pytest.raises(InputError, match=r"0.weight and 1.weight are one weight in this network"):
        mask.apply(tied)
    kept = mask["0.weight"]
    both = Mask({"0.weight": kept, "1.weight": kept.t()})
    both.apply(tied)
    assert both.violations(tied) == {}


def test_a_tie_that_cannot_be_followed_is_refused() -> None:
    model = nn.ParameterDict({"a": torch.rand(6, 4).t()})
    model["b"] = nn.Parameter(model["a"].detach().t().view(8, 3))
    mask = prune(model, 0.5)
    assert list(mask) == ["a"]
    assert mask.violations(model) == {}
    with pytest.raises(InputError, match=r"b lay in the memory of another parameter.*find a mask"):
        mask.apply(copy.deepcopy(model))


def test_units_of_a_tie_are_those_that_all_its_holders_see() -> None:
    alias: Any = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 2))
    alias[2].weight = nn.Parameter(alias[0].weight.detach())
    mask = prune(alias, 0.5, pattern="unit", exclude="3", example=torch.rand(3, 4))
    assert set(mask) == {"0.weight", "0.bias", "1.weight", "1.bias", "2.bias"}
    with pytest.raises(InputError, match="no layer has the pattern"):
        find_mask(Autoencoder(VIEWS["transposed"]), 0.5, pattern="unit")
    # A transposed convolution has its outputs along dimension 1: the transpose of a convolution's.
    turned: Any = nn.Sequential(nn.Conv1d(4, 4, 1), nn.ConvTranspose1d(4, 4, 1))
    turned[1].weight = nn.Parameter(turned[0].weight.detach().transpose(0, 1))
    found = prune(turned, 0.5, pattern="unit")
    assert set(found) == {"0.weight", "0.bias", "1.bias"}
    assert (turned.get_parameter("1.weight") == 0).all(dim=(0, 2)).sum() == 2


@pytest.mark.parametrize("name", ["encoder", "decoder", "decoder.weight"])
def test_a_tie_is_excluded_by_any_of_its_names(name: str) -> None:
    model = nn.Sequential(nn.Linear(12, 12, bias=False), Autoencoder(VIEWS["transposed"]))
    assert list(find_mask(model, 0.5, exclude=f"1.{name}").weights) == ["0.weight"]


def test_an_effective_weight_is_so_on_any_path() -> None:
    model = Autoencoder(VIEWS["transposed"], 2)
    with torch.no_grad():
        model.encoder.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    # The second unit is the sum of both inputs; all three weights lie on a path.
    found = effective_weights(model, torch.zeros(1, 2))
    assert found["encoder.weight"].tolist() == [[True, False], [True, True]]
    assert list(found) == ["encoder.weight"]


def test_compacting_a_tie_stays_exact() -> None:
    torch.manual_seed(0)
    first, tie = nn.Linear(12, 12), Autoencoder(VIEWS["transposed"])
    model: Any = nn.Sequential(first, nn.ReLU(), tie).double()
    model[2].decoder.weight = nn.Parameter(model[2].encoder.weight.detach().t())
    prune(model, 0.5, pattern="unit")
    with torch.no_grad():
        model[2].encoder.weight[:, :5] = 0
    given = torch.randn(7, 12, dtype=torch.float64)
    assert torch.allclose(compact(model, given)(given), model(given), rtol=1e-12, atol=1e-12)


def test_views_of_one_buffer_that_do_not_overlap_are_weights_of_their_own() -> None:
    flat = torch.rand(2, 40)
    model = nn.ParameterDict({"rows": flat[0].view(4, 10), "more": flat[1].view(10, 4)})
    columns = torch.rand(6, 10)
    model["left"], model["right"] = nn.Parameter(columns[:, ::2]), nn.Parameter(columns[:, 1::2])
    assert len({p.untyped_storage().data_ptr() for p in model.values()}) == 2
    mask = prune(model, 0.5, allocation="uniform", score="random")
    assert mask.densities == dict.fromkeys(["left", "more", "right", "rows"], 0.5)
    assert {name: int((p == 0).sum()) for name, p in model.items()} == {
        "left": 15, "more": 20, "right": 15, "rows": 20,
    }  # fmt: skip


TANGLED: dict[str, Callable[[], list[Tensor]]] = {
    "expanded rows": lambda: [torch.rand(1, 5).expand(3, 5)],
    "expanded columns": lambda: [torch.rand(3, 1).expand(3, 5)],
    "sliding windows": lambda: [torch.rand(8).unfold(0, 4, 1)],
    "overlapping strides": lambda: [torch.rand(20).as_strided((3, 4), (1, 2))],
}
IN_PART: dict[str, Callable[[], list[Tensor]]] = {
    "rows": lambda: (lambda w: [w[:4], w[2:]])(torch.rand(6, 4)),
    "columns": lambda: (lambda w: [w[:, :4], w[:, 3:]])(torch.rand(6, 6)),
    "a row of it": lambda: (lambda w: [w, w[2]])(torch.rand(6, 4)),
    "another type": lambda: (lambda w: [w, w.view(torch.float16)])(torch.ones(6, 4)),
    "every second": lambda: (lambda w: [w, w[::2]])(torch.rand(6, 4)),
}


@pytest.mark.parametrize("case", TANGLED)
def test_memory_that_overlaps_itself_is_refused_and_the_advice_works(case: str) -> None:
    model = nn.ParameterDict({"a": TANGLED[case]()[0]})
    mask = Mask({"a": torch.ones(model["a"].shape).bool()})
    for call in (lambda: prune(model, 0.5), lambda: mask.apply(model)):
        with pytest.raises(InputError, match="several entries of a are one place in memory"):
            call()
    parameter = model["a"]
    parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    assert prune(model, 0.5).violations(model) == {}
    assert int((model["a"] == 0).sum()) == round(0.5 * parameter.numel())


@pytest.mark.parametrize("case", IN_PART)
def test_memory_shared_in_part_is_refused_and_the_advice_works(case: str) -> None:
    one, other = IN_PART[case]()
    model = nn.ParameterDict({"a": one, "b": other})
    with pytest.raises(InputError, match="a and b share some of their memory but not all"):
        prune(model, 0.5)
    with pytest.raises(InputError, match="share some of their memory"):
        Mask({"a": torch.ones(one.shape).bool()}).apply(model)
    parameter = model["b"]
    parameter.data = parameter.data.clone()
    mask = prune(model, 0.5)
    assert mask.zeros == sum(int((model[name] == 0).sum()) for name in mask.weights)


@given(st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_entries_follow_by_position_in_memory(seed: int, shape: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    base = torch.zeros(math.prod(shape))
    orders = [torch.randperm(len(shape), generator=generator).tolist() for _ in range(2)]
    one, other = (base.view(shape).permute(order) for order in orders)
    kept = torch.rand(one.shape, generator=generator) > 0.5
    one.copy_(kept)
    assert first_names({"one": one, "other": other})["other"] == "one"
    assert torch.equal(in_order_of(kept, one, other), other.bool())
    tie = described_ties({"one": one, "other": other}, ["one"])["other"]
    assert torch.equal(follow(kept, tie), other.bool())


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 7)), min_size=1, max_size=3))
def test_overlap_is_that_of_the_places_counted_one_by_one(
    dimensions: list[tuple[int, int]],
) -> None:
    shape, strides = zip(*dimensions, strict=True)
    view = torch.zeros(100).as_strided(shape, strides)
    places = [
        sum(index * stride for index, stride in zip(indices, strides, strict=True))
        for indices in itertools.product(*(range(length) for length in shape))
    ]
    assert overlaps_itself(view) == (len(set(places)) < len(places))


def test_memory_counts_and_not_who_allocated_it() -> None:
    values = np.arange(1.0, 13.0).reshape(3, 4)
    model = nn.ParameterDict({"a": torch.from_numpy(values), "b": torch.from_numpy(values.T)})
    assert len({p.untyped_storage().data_ptr() for p in model.values()}) == 1
    mask = prune(model, 0.5)
    assert list(mask) == ["a"]
    assert values.tolist() == [[0, 0, 0, 0], [0, 0, 7, 8], [9, 10, 11, 12]]
    model["b"] = nn.Parameter(torch.from_numpy(values[1:]))
    with pytest.raises(InputError, match="a and b share some of their memory"):
        prune(model, 0.5)


def test_lazy_and_tied_parameters_live_side_by_side() -> None:
    model = nn.Sequential(nn.LazyLinear(3), Autoencoder(VIEWS["transposed"]))
    found = prunable_weights(model, exclude="0")
    assert [layer.name for layer in found] == ["1.encoder.weight"]
