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
from gossamer import ERK, InputError, Mask, NByM
from gossamer.data.resident import Resident
from gossamer.training.updaters.moving import exchanged
from gossamer.training.updating import Updating

MOVING: dict[str, dict[str, Any]] = {
    "set": {"fraction": 0.4, "every": 3},
    "rigl": {"fraction": 0.4, "every": 3},
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
        **options: Any,
    ) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = Tied()
        self.data = data
        start = gossamer.prune(self.model, 0.5, score="random", allocation=ERK())
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


@settings(deadline=None, max_examples=60)
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


@pytest.mark.parametrize("updater", ["set", "rigl"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_layer_keeps_its_count_and_what_grows_starts_from_nothing(
    points: Resident, updater: str, optimizer: str
) -> None:
    loop = Loop(points, updater, optimizer)
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
    assert loop.mask.sparsity == 0.5
    assert loop.model.first.weight.data_ptr() == loop.model.back.weight.data_ptr()
    # What grew was trained: all that is kept has a value, but for the last that SET grew.
    zeros = sum(int((loop.model.get_parameter(n)[k] == 0).sum()) for n, k in loop.kept().items())
    assert zeros == 0


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


@pytest.mark.parametrize("updater", MOVING)
def test_going_on_from_what_was_kept_gives_the_same_bits(points: Resident, updater: str) -> None:
    def run(loop: Loop, count: int) -> Loop:
        for _ in range(count):
            loop.step()
        return loop

    whole = run(Loop(points, updater, "adam"), STEPS)
    for stop in (1, 3, 4, 14, 15):
        left = run(Loop(points, updater, "adam"), stop)
        again = Loop(points, updater, "adam", mask=left.mask)
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
    refused("moves single weights, but the mask has the pattern 'unit'", model, "set", units,
            steps=900)  # fmt: skip
    runs = gossamer.find_mask(model, pattern=NByM(2, 4))
    refused("but the mask has the pattern .*n-by-m", model, "granet", runs, final=0.9, updates=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    updates: Updating = gossamer.updater(model, optimizer, "rigl", mask=single, steps=9, every=1)
    with pytest.raises(
        InputError, match=r"needs the gradient of 0\.weight, but only those of 1\.w"
    ):
        updates.step(lambda: {"1.weight": torch.zeros(4, 4)})
