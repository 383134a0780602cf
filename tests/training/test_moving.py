"""Masks whose weights move: SET, RigL and gradual pruning with regrowth, in a loop of one's own."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer import ERK, Block, InputError, Mask, NByM
from gossamer.data.resident import Resident
from gossamer.training.updaters.moving import exchanged
from gossamer.training.updaters.srigl import evened
from gossamer.training.updating import Updating

MOVING: dict[str, dict[str, Any]] = {
    "set": {"fraction": 0.4, "every": 3},
    "rigl": {"fraction": 0.4, "every": 3},
    "srigl": {"fraction": 0.4, "every": 3, "salient": 0.6},
    "granet": {"final": 0.75, "initial": 0.5, "start": 3, "every": 3, "updates": 6},
}
STEPS = 24
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adadelta": lambda p: torch.optim.Adadelta(p, weight_decay=0.01),
}


class Tied(nn.Module):
    """A matrix that is used twice, once transposed, and normalisation on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 12)
        self.norm = nn.BatchNorm1d(12)
        self.back = nn.Linear(12, 6)
        self.back.weight = nn.Parameter(self.first.weight.detach().t())
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.back(self.norm(self.first(x)).tanh()).tanh())
        return result


class Loop:
    """A training of one's own, as a user writes it."""

    def __init__(
        self,
        data: Resident,
        updater: str,
        optimizer: str = "sgd",
        mask: Mask | None = None,
        pattern: Any = "weight",
        **options: Any,
    ) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = Tied()
        self.data = data
        choices = {"allocation": ERK()} if pattern == "weight" else {"pattern": pattern}
        start = gossamer.prune(self.model, 0.5, score="random", **choices)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        chosen = {**MOVING[updater], **options}
        self.updates = gossamer.updater(
            self.model, self.optimizer, updater, mask=mask or start, steps=STEPS, seed=5, **chosen
        )

    def loss(self) -> Tensor:
        return functional.cross_entropy(self.model(self.data.inputs), self.data.labels)

    def gradients(self) -> Mapping[str, Tensor]:
        named = dict(self.model.named_parameters())
        return dict(zip(named, torch.autograd.grad(self.loss(), [*named.values()]), strict=True))

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.updates.step(self.gradients)

    @property
    def mask(self) -> Mask:
        assert self.updates.mask is not None
        return self.updates.mask

    def kept(self) -> dict[str, Tensor]:
        return {name: kept.clone() for name, kept in self.mask.weights.items()}


@settings(max_examples=60)
@given(
    st.integers(1, 30).flatmap(
        lambda size: st.tuples(
            st.lists(st.booleans(), min_size=size, max_size=size),
            st.lists(st.integers(-4, 4), min_size=size, max_size=size),
            st.lists(st.integers(0, 4), min_size=size, max_size=size),
        )
    ),
    st.floats(0, 1),
)
def test_the_smallest_go_and_the_largest_grow(
    drawn: tuple[list[bool], list[int], list[int]], share: float
) -> None:
    kept, weight, growth = map(torch.tensor, drawn)
    weight = weight * kept
    count = round(share * int(kept.sum()))
    found = exchanged(kept, weight.float(), growth.float(), count)
    # By hand: positions sorted by what decides, the earlier of equal ones first.
    places = range(len(kept))
    going = sorted((i for i in places if kept[i]), key=lambda i: abs(int(weight[i])))[:count]
    left = {i for i in places if kept[i]} - set(going)
    grown = sorted((i for i in places if i not in left), key=lambda i: -int(growth[i]))[:count]
    assert found.nonzero().flatten().tolist() == sorted(left | set(grown))
    assert int(found.sum()) == int(kept.sum())


PATTERNS: dict[str, Any] = {"weight": "weight", "runs": NByM(1, 2), "blocks": Block(2, 2)}


@pytest.mark.parametrize("updater", ["set", "rigl"])
@pytest.mark.parametrize(
    ("optimizer", "pattern"),
    [*((name, "weight") for name in OPTIMIZERS), ("adam", "runs"), ("sgd", "blocks")],
)
def test_every_layer_keeps_its_count_and_what_grows_starts_from_nothing(
    points: Resident, updater: str, optimizer: str, pattern: str
) -> None:
    loop = Loop(points, updater, optimizer, pattern=PATTERNS[pattern])
    first = loop.kept()
    assert list(first) == ["first.weight", "out.weight"]
    moves = 0
    for number in range(1, STEPS + 1):
        before = loop.kept()
        loop.step()
        after = loop.kept()
        due = number % 3 == 0 and number < STEPS * (0.75 if updater == "rigl" else 1)
        for name, kept in after.items():
            weight = loop.model.get_parameter(name)
            assert int(kept.sum()) == int(first[name].sum())
            assert pattern != "runs" or bool((kept.view(-1, 2).sum(1) == 1).all())
            assert pattern != "blocks" or all(
                bool(block.all()) or not block.any()
                for rows in torch.split(kept, 2)
                for block in torch.split(rows, 2, 1)
            )
            assert not weight[~kept].any()
            grown = kept & ~before[name]
            assert due or not grown.any()
            moves += int(grown.sum())
            assert not weight[grown].any()
            for value in loop.optimizer.state[weight].values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    assert not value[grown].any()
                    assert not value[~kept].any()
    assert moves > 10
    assert loop.mask.provenance["moved"] == updater
    assert loop.mask.sparsity == (23 / 45 if pattern == "blocks" else 0.5)
    assert loop.model.first.weight.data_ptr() == loop.model.back.weight.data_ptr()
    # What grew was trained: all that is kept has a value, but for the last that SET grew.
    zeros = sum(int((loop.model.get_parameter(n)[k] == 0).sum()) for n, k in loop.kept().items())
    # (Here a unit that loses all blocks passes nothing on, either, so that no gradient comes back.)
    assert zeros == 0 or pattern == "blocks"


def test_rigl_is_that_of_the_paper(points: Resident) -> None:
    """Algorithm 1, by hand, of the gradients that the dense network would have."""
    loop = Loop(points, "rigl")
    for number in range(1, STEPS + 1):
        seen: dict[str, Tensor] = {}
        before, gradients = loop.kept(), loop.gradients

        def watched(gradients: Any = gradients, seen: dict[str, Tensor] = seen) -> Any:
            found = gradients()
            seen.update(found)
            seen["magnitude"] = loop.model.first.weight.detach().abs().clone()
            return found

        loop.gradients = watched  # type: ignore[method-assign]
        loop.step()
        loop.gradients = gradients  # type: ignore[method-assign]
        assert bool(seen) == (number in (3, 6, 9, 12, 15))
        if not seen:
            continue
        kept = before["first.weight"]
        share = 0.4 / 2 * (1 + math.cos(math.pi * number / 18))
        count = round(share * int(kept.sum()))
        smallest = (
            seen["magnitude"].masked_fill(~kept, math.inf).flatten().topk(count, largest=False)
        )
        left = kept.clone()
        left.view(-1)[smallest.indices] = False
        slope = (seen["first.weight"] + seen["back.weight"].t()).abs()
        left.view(-1)[slope.masked_fill(left, -1).flatten().topk(count).indices] = True
        assert torch.equal(left, loop.mask["first.weight"])


def test_units_of_few_salient_weights_are_emptied(points: Resident) -> None:
    """All others of the layer have as many weights each; those of the output all have some."""
    loop = Loop(points, "srigl", "adam", salient=0.9)
    counts = {name: int(kept.sum()) for name, kept in loop.kept().items()}
    emptied, before = 0, loop.kept()
    for _ in range(STEPS):
        loop.step()
        if all(torch.equal(kept, before[name]) for name, kept in loop.kept().items()):
            continue
        for name, kept in loop.kept().items():
            weight, fan_in = loop.model.get_parameter(name), kept.sum(1)
            active = int((fan_in > 0).sum())
            assert set(fan_in.tolist()) <= {0, counts[name] // active}
            assert counts[name] - active < int(kept.sum()) <= counts[name]
            assert name != "out.weight" or active == 3
            grown = kept & ~before[name]
            assert not weight[grown].any()
            assert not weight[~kept].any()
            for value in loop.optimizer.state[weight].values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    assert not value[grown].any()
            emptied += int((before[name].any(1) & ~kept.any(1)).sum())
        before = loop.kept()
    assert emptied > 0
    assert loop.mask.provenance["moved"] == "srigl"


def test_units_keep_their_weights_where_none_may_lose_all(points: Resident) -> None:
    for options in ({"salient": 0.0}, {"salient": 1.0, "keep_units": ("first", "out")}):
        loop = Loop(points, "srigl", **options)
        first = loop.kept()
        for _ in range(STEPS):
            loop.step()
        for name, kept in loop.kept().items():
            assert len(set(kept.sum(1).tolist())) == 1
            assert int(kept.sum()) == int(first[name].sum()) // len(kept) * len(kept)
            assert not torch.equal(kept, first[name])


matrices = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31), st.floats(0, 1))


@settings(max_examples=60)
@given(matrices, st.floats(0, 1))
def test_units_are_evened_as_the_paper_says(drawn: Any, salient: float) -> None:
    """Section 3 of Lasby et al. (2024), by hand and unit by unit."""
    units, inputs, seed, share = drawn
    random = torch.Generator().manual_seed(seed)
    kept = torch.rand(units, inputs, generator=random) < 0.5
    kept[seed % units, seed % inputs] = True
    # No two alike, so that no tie is to be broken.
    order = torch.randperm(2 * units * inputs, generator=random).view(2, units, inputs) + 1.0
    magnitude, growth = order[0] * kept, order[1]
    total, dropped = int(kept.sum()), round(share * int(kept.sum()))
    found = evened(kept, magnitude, growth, dropped, total, salient)
    places = [(u, i) for u in range(units) for i in range(inputs)]
    by_size = sorted((p for p in places if kept[p]), key=lambda p: -float(magnitude[p]))
    by_slope = sorted(places, key=lambda p: -float(growth[p]))
    salient_ones = {*by_size[: total - dropped], *by_slope[:dropped]}
    found_salient = [sum(u == unit for u, _ in salient_ones) for unit in range(units)]
    needed = max(1, int(salient * (total // units))) if salient else 0
    count = max(sum(one >= needed for one in found_salient), math.ceil(total / inputs))
    ranked = sorted(range(units), key=lambda u: -found_salient[u])[: min(count, total)]
    fan_in = total // len(ranked)
    survivors = [p for p in by_size if p[0] in ranked][: total - dropped]
    for unit in range(units):
        own = [p for p in survivors if p[0] == unit][:fan_in] if unit in ranked else []
        others = [p for p in by_slope if p[0] == unit and p not in own]
        grown = others[: fan_in - len(own)] if unit in ranked else []
        expected = sorted(i for _, i in [*own, *grown])
        assert found[unit].nonzero().flatten().tolist() == expected


def test_set_grows_at_random_anew_each_time(points: Resident) -> None:
    runs = []
    for _ in range(2):
        loop, grown = Loop(points, "set", fraction=1.0), []
        for _ in range(STEPS):
            before = loop.kept()["first.weight"]
            loop.step()
            grown.append((loop.kept()["first.weight"] & ~before).flatten().tolist())
        runs.append(grown)
    assert runs[0] == runs[1]
    drawn = [one for one in runs[0] if any(one)]
    assert len(drawn) == 7
    assert len({tuple(one) for one in drawn}) == 7


def test_gradual_pruning_with_regrowth_keeps_to_its_schedule(points: Resident) -> None:
    loop = Loop(points, "granet")
    sizes = {name: kept.numel() for name, kept in loop.kept().items()}
    grown = []
    for number in range(1, STEPS + 1):
        before = loop.kept()
        loop.step()
        update = min((number - 3) // 3, 6)
        if number >= 3:
            share = 0.75 - 0.25 * (1 - update / 6) ** 3
            for name, kept in loop.kept().items():
                # ERK left other densities than the uniform schedule: what is gone stays counted.
                asked = round(share * sizes[name])
                initial = sizes[name] - int(before[name].sum())
                assert sizes[name] - int(kept.sum()) == max(asked, initial), (number, name)
        new = sum(int((kept & ~before[name]).sum()) for name, kept in loop.kept().items())
        grown.append(new)
        assert not any(
            loop.model.get_parameter(name)[kept & ~before[name]].any()
            for name, kept in loop.kept().items()
        )
    assert sum(grown[:20]) > 10
    assert not any(grown[20:])  # nothing moves from the last update on
    assert loop.mask.provenance["score"] == "magnitude"
    assert "earlier" not in loop.mask.provenance.get("earlier", {})


@pytest.mark.parametrize(
    ("updater", "pattern"),
    [*((name, "weight") for name in MOVING), ("rigl", "runs"), ("rigl", "blocks")],
)
def test_going_on_from_what_was_kept_gives_the_same_bits(
    points: Resident, updater: str, pattern: str
) -> None:
    def run(loop: Loop, count: int) -> Loop:
        for _ in range(count):
            loop.step()
        return loop

    chosen = PATTERNS[pattern]
    whole = run(Loop(points, updater, "adam", pattern=chosen), STEPS)
    for stop in (1, 3, 4, 14, 15):
        left = run(Loop(points, updater, "adam", pattern=chosen), stop)
        again = Loop(points, updater, "adam", mask=left.mask, pattern=chosen)
        again.model.load_state_dict(left.model.state_dict())
        again.optimizer.load_state_dict(left.optimizer.state_dict())
        again.updates.load_state_dict(left.updates.state_dict())
        run(again, STEPS - stop)
        assert again.mask == whole.mask
        for one, other in zip(
            whole.model.state_dict().values(), again.model.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), stop


def test_a_layer_that_is_whole_stays_whole(points: Resident) -> None:
    for updater in ("set", "rigl"):
        model = nn.Linear(6, 3)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        mask = Mask({"weight": torch.ones(3, 6, dtype=torch.bool)})
        updates = gossamer.updater(model, optimizer, updater, mask=mask, steps=9, every=1)
        loss = functional.cross_entropy(model(points.inputs), points.labels)
        (slope,) = torch.autograd.grad(loss, [model.weight])
        before = model.weight.detach().clone()
        updates.step(partial(dict, weight=slope))
        assert updates.mask is not None
        assert updates.mask.zeros == 0
        assert torch.equal(model.weight, before)


def test_a_kept_weight_that_is_zero_does_not_add_to_what_goes() -> None:
    """Zeros that are kept rank with those that are pruned: as many go as were asked for."""
    for allocation in ("uniform", "global"):
        model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 5))
        mask = gossamer.prune(model, 0.5, allocation=allocation)
        for name, kept in mask.weights.items():
            model.get_parameter(name).data.view(-1)[kept.flatten().nonzero().flatten()[:2]] = 0
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        updates = gossamer.updater(
            model, optimizer, "gradual", mask=mask, initial=0.5, final=0.5, updates=1,
            allocation=allocation,
        )  # fmt: skip
        updates.step()
        assert updates.mask is not None
        assert updates.mask.zeros == mask.zeros == 26
        assert all(bool((mask[name] | ~kept).all()) for name, kept in updates.mask.weights.items())


def refused(match: str, model: nn.Module, name: str, mask: Mask | None, **options: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(InputError, match=match):
        gossamer.updater(model, optimizer, name, mask=mask, **options)


def test_what_cannot_move_is_refused_in_a_sentence() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 4))
    single = gossamer.find_mask(model, 0.5)
    refused(r"'rigl' moves the weights of a mask: pass mask=", model, "rigl", None, steps=1000)
    refused("must know how many optimizer steps the training has", model, "set", single)
    refused("every 100 steps before step 75 of a training of 100", model, "rigl", single, steps=100)
    units = gossamer.find_mask(model, 0.5, pattern="unit", coupled=False)
    refused("of the pattern .* and block, but the mask has the pattern 'unit'", model, "set", units,
            steps=900)  # fmt: skip
    runs = gossamer.find_mask(model, pattern=NByM(2, 4))
    refused("of the pattern weight, but the mask has the pattern NByM", model, "granet", runs,
            final=0.9, updates=2)  # fmt: skip
    refused("of the pattern weight, but the mask has .*NByM", model, "srigl", runs, steps=900)
    refused(r"mask of 0\.weight does not have the pattern NByM\(.*neither shuffled", model, "rigl",
            runs.shuffled(0), steps=900)  # fmt: skip
    for pattern in ({"name": "n-by-m", "k": 2}, {"name": ["n-by-m"]}, {"n": 2}, 7):
        odd = Mask(runs.weights, provenance={"pattern": pattern})
        refused("unknown pattern .*: choose one of weight", model, "rigl", odd, steps=900)
    refused("keep_units='head' matches no parameter", model, "srigl", single, steps=900,
            keep_units=("head",))  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    updates: Updating = gossamer.updater(model, optimizer, "rigl", mask=single, steps=9, every=1)
    with pytest.raises(
        InputError, match=r"needs the gradient of 0\.weight, but only those of 1\.w"
    ):
        updates.step(lambda: {"1.weight": torch.zeros(4, 4)})
