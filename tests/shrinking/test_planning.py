"""What is settled before the descent: how epochs are shared out, the rate, what is zero already."""

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from gossamer.core.errors import InputError
from gossamer.masks import Mask
from gossamer.shrinking import piloting, planning, searching
from gossamer.shrinking.descent import (
    LEAST_STEPS,
    MOST,
    Ground,
    Way,
    count_of,
    depths,
    kept_when_given,
    shared_out,
)
from gossamer.shrinking.features import features_read, output_layers
from gossamer.shrinking.fine_tuning import Lesson, fine_tune, lesson, train_epochs
from gossamer.shrinking.layout import layout_of
from gossamer.shrinking.options import DEFAULT_RATE, options_of
from gossamer.shrinking.pace import Pace
from gossamer.shrinking.piloting import pilot_epochs, tried_rate
from gossamer.shrinking.planning import Plan
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification
from gossamer.shrinking.teaching import Room
from gossamer.shrinking.ways import sensitivity_examples

STEPS = 5
EXAMPLES = 8 * STEPS


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def split() -> Split:
    generator = torch.Generator().manual_seed(1)
    return Split(torch.randn(EXAMPLES, 4, generator=generator), torch.arange(EXAMPLES) % 3)


def learnt(**asked: Any) -> Lesson:
    return lesson(split(), classification(), network().eval(), options_of(train_batch=8, **asked),
                  None)  # fmt: skip


def whole(model: nn.Module) -> Mask:
    return Mask({n: torch.ones_like(p, dtype=torch.bool) for n, p in model.named_parameters()
                 if p.ndim == 2})  # fmt: skip


def nothing(_: float) -> None:
    pass


@pytest.mark.parametrize("epochs", [0.05, 1, 3, 11, 30])
@pytest.mark.parametrize("steps", [1, 40, 700])
def test_few_epochs_are_spent_on_candidates_that_begin_where_it_is_safe(
    epochs: float, steps: int
) -> None:
    count = count_of(epochs, steps, whole=False)
    at, shares = depths(count), shared_out(epochs, count)
    assert 1 <= count <= MOST
    assert at[0] == 0
    assert all(0 < b - a <= 2 for a, b in itertools.pairwise(at))
    assert sum(shares) == pytest.approx(epochs)
    assert list(shares) == sorted(shares)
    if epochs >= 1 and steps == 700:
        assert count == MOST  # an epoch that is long is enough for all
    assert count_of(epochs, steps, whole=True) <= max(1, epochs)


@pytest.mark.parametrize(("epochs", "steps"), [(0.4, 2), (1, 5), (1.5, 8), (2.01, 10), (0.01, 1)])
def test_a_part_of_an_epoch_is_so_many_steps(epochs: float, steps: int) -> None:
    model = network()
    before = [one.detach().clone() for one in model.parameters()]
    seen: list[float] = []
    taken = 0

    def counted(*_: Any) -> None:
        nonlocal taken
        taken += 1

    handle = register_optimizer_step_post_hook(counted)
    losses = train_epochs(model, whole(model), learnt(), epochs, 0, seen.append)
    handle.remove()
    assert taken == steps
    assert len(losses) == -(-steps // STEPS)
    assert seen[-1] == steps / STEPS
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def ground(**asked: Any) -> Ground:
    return Ground(split().example(4), split(), classification(), options_of(**asked), 0.01)


def rate_found(
    monkeypatch: pytest.MonkeyPatch, far: Callable[[float], float], **asked: Any
) -> tuple[float, float]:
    """Return what is found where a rate leads so far from the dense network."""
    trained: list[float] = []

    def train(_: Any, __: Any, given: Lesson, *___: Any) -> tuple[float, ...]:
        trained.append(given.rate)
        return ()

    monkeypatch.setattr(piloting, "fine_tune", train)
    monkeypatch.setattr(piloting, "masked_to", lambda *_: None)
    monkeypatch.setattr(piloting, "distance_from", lambda *_: far(trained[-1]))
    epochs = 50 * LEAST_STEPS / STEPS
    way = Way("weight", lambda _: {}, {})
    return tried_rate(
        way, network(), learnt(**asked), ground(**asked), epochs, nothing, lambda _: None
    )


def test_the_rate_that_leads_nearest_to_the_dense_network_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, spent = rate_found(monkeypatch, lambda rate: rate)
    assert small == 1e-4
    assert spent == pytest.approx(4 * 0.02 * 50 * LEAST_STEPS / STEPS)
    large, _ = rate_found(monkeypatch, lambda rate: 1 / rate)
    assert large == 3e-3
    usual, _ = rate_found(monkeypatch, lambda rate: 1.0 if rate == DEFAULT_RATE else 0.99)
    assert usual == DEFAULT_RATE  # which another is hardly better than
    assert rate_found(monkeypatch, lambda rate: rate, rate=0.02) == (0.02, 0.0)


def test_a_rate_is_not_tried_in_fewer_steps_than_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piloting, "fine_tune", None)
    way = Way("weight", lambda _: {}, {})
    found = tried_rate(way, network(), learnt(), ground(), 30, nothing, lambda _: None)
    assert found == (DEFAULT_RATE, 0.0)


def test_trials_and_pilots_of_large_data_take_no_more_steps_than_tell() -> None:
    large: Any = SimpleNamespace(train=None, steps=1000)
    assert pilot_epochs(45, 8, large) == 0.25  # not 0.2 * 45 / 8
    small: Any = SimpleNamespace(train=None, steps=100)
    assert pilot_epochs(45, 8, small) == pytest.approx(1.125)
    own: Any = SimpleNamespace(train=print, steps=1000)
    assert pilot_epochs(45, 8, own) == 1


def test_plans_from_before_rates_were_found_out_have_the_usual_one() -> None:
    told = Plan("weight", (), (1.5, 2), (), "because", rate=3e-4, early=4).to_dict()
    assert Plan.of(told).early == 4
    assert Plan.of(told).rate == 3e-4
    assert Plan.of(told).epochs == (1.5, 2)
    del told["rate"], told["early"]  # nor were there early candidates
    assert Plan.of(told).early == 0
    assert Plan.of(told).rate == DEFAULT_RATE
    assert json.dumps(options_of().key()) == (  # as it was when a rate could be no other
        '{"max_drop": 0.005, "min_accuracy": null, "target": "latency", "pattern": "auto", '
        '"batch": 64, "threads": 1, "exclude": [], "keep_units_multiple_of": 1, '
        '"confidence": 0.95, "epochs": 30, "rate": 0.001, "train_batch": 64, '
        '"distillation": 0.7, "temperature": 2.0, "seed": 0}'
    )
    assert options_of(distill_features=True).key()["distill_features"]


def test_a_search_begins_where_so_few_examples_could_show_its_first_candidate() -> None:
    drops = torch.tensor([1.0] * 8 + [0.0] * 1992)  # 0.4 points
    for examples, safe in ((100, False), (200, False), (20_000, True)):
        asked = replace(ground(), may_lose=0.011, judged_on=examples)
        assert planning.is_safe(drops, asked) is safe
    assert not planning.is_safe(drops, replace(ground(), may_lose=0.007, judged_on=10**9))
    assert planning.is_safe(torch.zeros(100), replace(ground(), judged_on=1))
    # So few training examples tell half a budget from a whole one no better than by chance.
    few = torch.tensor([1.0] + [0.0] * 249)
    assert not planning.is_safe(few, replace(ground(), may_lose=0.011, judged_on=10**9))


def test_a_forecast_counts_the_candidates_that_there_can_be() -> None:
    options = options_of(epochs=10)
    pace = Pace(layers=4.0, tables=6.0, ways=2.0, epoch=2.0, candidate=3.0, final=7.0, most=5)
    assert pace.forecast(options) == 12.0 + 0.5 * (10 * 2.0 + 5 * 3.0) + 7.0
    assert pace.least(options) == 12.0 + 2.0 + 3.0 + 7.0
    # Layers are not timed where little is trained, or the time is short.
    assert pace.forecast(options_of(epochs=5)) == 6.0 + 0.5 * (5 * 2.0 + 5 * 3.0) + 7.0
    assert pace.least(options, left=20.0) == 6.0 + 2.0 + 3.0 + 7.0


def test_a_short_time_is_shared_out_too() -> None:
    class Task:
        pace, learnt, ground = (
            Pace(1.0, 2.0, 1.0, 10.0, 1.0, 0.0),
            learnt(),
            ground(pattern="weight"),
        )
        deadline = time.monotonic() + 4 + MOST + 55.0

    task: Any = Task()
    assert searching._epochs_in_time(task) == pytest.approx(5.5, abs=0.1)
    task.deadline = time.monotonic()
    assert searching._epochs_in_time(task) == LEAST_STEPS / STEPS
    task.deadline = float("inf")
    assert searching._epochs_in_time(task) == 30


def test_a_candidate_is_trained_on_only_where_there_is_time_to_test_it_too() -> None:
    class Task:
        pace = Pace(0.0, 0.0, 0.0, epoch=10.0, candidate=5.0, final=0.0)
        learnt = learnt()
        journal = SimpleNamespace(tried=[])
        deadline = math.inf

    task: Any = Task()
    way: Any = SimpleNamespace(epochs=(2.0, 2.0, 4.0))
    assert searching._room(task, way, 0) == Room(2.0, 8.0)
    assert searching._room(task, way, 0).most == 4.0
    task.deadline = time.monotonic() + 5 + 25
    found = searching._room(task, way, 0)
    assert found.share == 2.0
    assert found.most == pytest.approx(2.5, abs=0.01)


def test_what_was_zero_when_it_was_given_is_pruned_already() -> None:
    model = network()
    assert kept_when_given(model, torch.ones(1, 4), ()) is None
    weight = model.get_parameter("0.weight")
    with torch.no_grad():
        weight[2:] = 0
    found = kept_when_given(model, torch.ones(1, 4), ())
    assert found is not None
    assert torch.equal(found["0.weight"], weight != 0)
    assert found["2.weight"].all()


class Two(nn.Module):
    """Two output layers, beside one that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 5)
        self.one, self.two = nn.Linear(5, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        inside = torch.relu(self.inner(x))
        return {"logits": self.one(inside), "more": self.two(input=inside).exp()}


def test_features_are_what_the_output_layers_read() -> None:
    model = Two().eval()
    x = torch.randn(3, 4)
    names = output_layers(model, x)
    assert set(names) == {"one", "two"}
    with features_read(model, names) as read:
        model(x)
    inside = torch.relu(model.inner(x))
    assert len(read) == 2
    assert all(torch.equal(one, inside) for one in read)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_features_of_the_dense_network_are_learnt() -> None:
    """A network that gives the right outputs from other features moves towards the dense ones."""
    teacher = network().eval()
    off: dict[bool, float] = {}
    for asked in (False, True):
        model = network()
        with torch.no_grad():  # the same function with its hidden units twice as large
            for name, factor in (("0.weight", 2.0), ("0.bias", 2.0), ("2.weight", 0.5)):
                model.get_parameter(name).mul_(factor)
        given = learnt(distill_features=asked, rate=0.01)
        assert given.features == (("2",) if asked else ())
        fine_tune(model, whole(model), given, 20, 0, nothing)
        x = split().whole()[0]
        with torch.no_grad():
            off[asked] = (model[:2](x) - teacher[:2](x)).square().mean().item()
    assert off[True] < 0.5 * off[False]


def test_features_are_not_for_a_training_of_ones_own() -> None:
    with pytest.raises(InputError, match="distill_features cannot stand beside train"):
        lesson(split(), classification(), network(), options_of(distill_features=True), print)


def test_images_are_trained_channels_last_where_the_network_can() -> None:
    class Viewing(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self[1](self[0](x).view(len(x), -1))
            return found

    images = Split(torch.randn(9, 3, 4, 4), torch.arange(9) % 2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    assert layout_of(model, images) == torch.channels_last
    assert layout_of(Viewing(model[0], model[2]), images) == torch.contiguous_format
    assert layout_of(network(), split()) == torch.contiguous_format
    options = options_of(train_batch=4)
    before = [one.clone() for one in model.parameters()]
    own = lesson(
        images, classification(), network().eval(), replace(options, distillation=0.0), None
    )
    train_epochs(model, whole(model), own, 1, 0, nothing)
    assert all(one.is_contiguous() for one in model.parameters())
    assert not any(map(torch.equal, before, model.parameters()))


def test_layers_are_tried_on_fewer_examples_where_little_is_trained() -> None:
    few, many = (ground(epochs=epochs) for epochs in (1, 10**6))
    assert sensitivity_examples(20, few) == 128
    assert sensitivity_examples(20, many) == 1024
    assert 128 < sensitivity_examples(20, ground(epochs=20_000)) < 1024


def test_a_way_is_not_taken_untried_for_being_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units may be fast by keeping nothing, at a depth that the other ways never reach."""
    steps = {"weight": 0.1, "unit": 1.0, "block": 0.12}
    ways = {name: Way(name, lambda _: {}, {}) for name in steps}
    speeds = {name: piloting.Speed(0.0, step) for name, step in steps.items()}
    at: list[float] = []
    monkeypatch.setattr(piloting, "timed_at", lambda way, depth, *_: steps[way.pattern] * depth)
    monkeypatch.setattr(piloting, "masked_to", lambda _, __, depth, ___: at.append(depth))
    monkeypatch.setattr(piloting, "fine_tune", lambda *_: ())
    far = iter([0.1, 0.3, 0.096])  # blocks are hardly nearer
    monkeypatch.setattr(piloting, "distance_from", lambda *_: next(far))
    given: Any = None
    found, reason, spent = piloting.piloted(
        ways, speeds, network(), learnt(), ground(), given, 30, nothing, lambda _: None
    )
    assert found == "weight"
    assert len(at) == len(ways)
    assert [math.exp(steps[n] * d) for n, d in zip(steps, at, strict=True)] == pytest.approx(
        [math.exp(0.12 * 7)] * 3
    )
    assert "unit 0.3" in reason
    assert 0 < spent <= 15
