"""What is found out, told and refused before anything is pruned."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.shrinking import shrink
from gossamer.shrinking.data import read_data
from gossamer.shrinking.fine_tuning import estimate_statistics
from gossamer.shrinking.judging import Budget, judged
from gossamer.shrinking.options import options_of
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import Task, classification, task_of
from gossamer.shrinking.ways import _asked
from gossamer.shrinking.within_budget import Begun, begin


def part(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long()


DATA: dict[str, Any] = {"train": part(60, 0), "validation": part(200, 1), "test": part(20, 2)}


def network(activation: nn.Module | None = None) -> nn.Sequential:
    """Return a network that is nearly right, without a training."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), activation or nn.ReLU(), nn.Linear(8, 2))
    first, last = (model.get_parameter(name) for name in ("0.weight", "2.weight"))
    with torch.no_grad():
        first.mul_(0.1)[:2, 0] = torch.tensor([3.0, -3.0])
        last.mul_(0.1)[:, :2] = torch.tensor([[-1.0, 1.0], [1.0, -1.0]])
    return model


def begun(
    model: nn.Module,
    data: Any = None,
    task: Task | None = None,
    out: Path | None = None,
    train: Callable[..., object] | None = None,
    time_limit: float | None = None,
    **asked: Any,
) -> Begun:
    options = options_of(
        **{"max_drop": 0.05, "target": "flops", "batch": 4, "epochs": 2, "threads": 1} | asked
    )
    return begin(
        model, read_data(DATA if data is None else data), task or classification(), options,
        train=train, out=out, time_limit=time_limit, seconds=0.02, follow=lambda _: None,
        stop=lambda: False,
    )  # fmt: skip


def test_what_is_frozen_stays_frozen_and_is_told() -> None:
    model = network()
    model[0].requires_grad_(False)
    found = begun(model)
    assert [one.requires_grad for one in found.search.dense.parameters()] == [False] * 2 + [
        True
    ] * 2
    assert any("2 of 4 parameters require no gradient" in one for one in found.known.remarks)


def test_a_network_without_any_gradients_is_trained_all_the_same() -> None:
    model = network().requires_grad_(False)
    found = begun(model)
    assert all(one.requires_grad for one in found.search.dense.parameters())
    assert not any("gradient" in one for one in found.known.remarks)
    assert not any(one.requires_grad for one in model.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_of_a_training_that_failed_are_named(value: float) -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("2.bias")[1] = value
    with pytest.raises(InputError, match=r"2\.bias of Sequential holds NaN or infinite numbers"):
        begun(model)


def test_what_is_no_network_is_refused() -> None:
    for given in ("best.pt", network().state_dict()):
        with pytest.raises(InputError, match=r"expected a trained torch\.nn\.Module"):
            begun(cast("Any", given))


def test_less_than_what_the_network_reaches_may_be_asked_for_and_no_more() -> None:
    task = classification()
    found = begun(network(), min_accuracy=0.8)
    reached = float(found.search.budget.before.mean())
    assert 0.9 < reached < 1
    assert found.search.budget.may_lose == found.search.ground.may_lose == reached - 0.8
    with pytest.raises(InputError, match=r"min_accuracy is 0.9999, but the accuracy of .* is 0\.9"):
        begun(network(), min_accuracy=0.9999)
    errors = torch.full((100,), 0.25)
    lower = Task(task.loss, task.metric, higher_is_better=False, name="error")
    assert Budget(lower, errors, 0.005, 0.75, 0.95).may_lose == 0.5


def test_how_many_examples_show_that_a_metric_is_reached_is_told() -> None:
    before = torch.tensor([1.0] * 90 + [0.0] * 10)
    close = Budget(classification(), before, 0.005, 0.88, 0.95)
    assert not close.is_provable
    wanted = 1.6448536**2 * 0.9 * 0.1 / 0.02**2
    assert close.needed_at_least == math.ceil(wanted)
    assert Budget(classification(), before, 0.005, 0.7, 0.95).is_provable


def test_a_budget_says_one_thing_in_a_unit_that_is_known() -> None:
    own: dict[str, Any] = {
        "loss": functional.cross_entropy,
        "metric": lambda o, t: (o.argmax(1) - t).abs().float(),
    }
    with pytest.raises(InputError, match="leave one of them out"):
        shrink(network(), DATA, max_drop=0.1, min_accuracy=0.5)
    with pytest.raises(InputError, match=r"max_drop is missing: .* in its own unit"):
        shrink(network(), DATA, higher_is_better=False, **own)


def test_percent_where_shares_are_meant_are_refused() -> None:
    with pytest.raises(InputError, match=r"max_drop is 5, but a share below 1 .* are 0\.05"):
        shrink(network(), DATA, max_drop=5)


@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_budget_that_a_constant_answer_keeps_is_told(share: float) -> None:
    x, y = part(200, 1)
    y[: int(200 * share)] = 0
    y[int(200 * share) :] = 1
    last = nn.Linear(8, 2)
    constant = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), last)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([50.0, 0.0]))
    found = begun(constant, {**DATA, "validation": (x, y)})
    told = [one for one in found.known.remarks if "commonest class" in one]
    assert len(told) == 1
    assert f"right on {100 * share:.1f}% of the validation examples" in told[0]
    assert not any("commonest" in one for one in begun(network()).known.remarks)


def test_a_metric_of_ones_own_that_says_right_or_wrong_is_judged_exactly() -> None:
    def hits(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float()

    task = task_of(functional.cross_entropy, hits, higher_is_better=True)
    found = begun(network(), {**DATA, "validation": part(31, 1)}, task, max_drop=0.005)
    budget = found.search.budget
    assert budget.task.is_binary
    assert not budget.is_provable  # equal answers on 31 examples show nothing of half a point
    assert judged(budget, budget.before).bound == pytest.approx(3 / 31, abs=0.01)
    shares = budget.before * 0.5
    assert 0 < judged(budget, shares).bound < 1  # a candidate whose metric is no 0 or 1


def test_a_short_time_is_told_to_be_too_short() -> None:
    told = begun(network(), time_limit=0.01).known.remarks
    assert any(one.startswith("time_limit is") for one in told)
    assert not any("time_limit" in one for one in begun(network(), time_limit=1e6).known.remarks)


def test_a_training_of_ones_own_may_be_any_callable_and_its_time_is_not_foretold() -> None:
    class Own:
        def __call__(self, rate: float, model: nn.Module, mask: Any, epochs: int) -> None:
            pass

    for train in (partial(Own(), 0.1), Own()):
        found = begun(network(), train=train)
        assert found.known.foretold.endswith("beside the training of your own")
        assert not any("training" in one for one in found.known.remarks)


def test_a_folder_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot be written"):
            begun(network(), out=place)


def test_a_network_that_writes_into_its_inputs_is_timed_on_copies() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.inner(x.mul_(2))
            return found

    meter = begun(Doubling(), target="latency").search.meter
    example = meter.example
    assert isinstance(example, Tensor)
    assert meter.overwrites
    before = example.clone()
    meter.calling(meter.dense, example)()
    assert torch.equal(example, before)
    assert not begun(network()).search.meter.overwrites


def test_whole_units_alone_can_be_a_multiple() -> None:
    with pytest.raises(InputError, match="is for whole units, but pattern is 'unit\\+weight'"):
        options_of(keep_units_multiple_of=8, pattern="unit+weight")
    assert _asked(options_of(keep_units_multiple_of=8)) == ("unit",)


def test_work_that_cannot_be_counted_is_no_target() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 6))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.t()

    with pytest.raises(InputError, match="no multiply-adds can be counted of Own"):
        begun(Own())


@pytest.mark.parametrize(
    ("outputs", "targets", "said"),
    [(1, torch.int64, "gives one output"), (2, torch.float32, "give class numbers as int64")],
)
def test_labels_of_another_kind_are_refused_with_what_to_do(
    outputs: int, targets: torch.dtype, said: str
) -> None:
    model = nn.Linear(6, outputs)
    data = {name: (x, y.to(targets)) for name, (x, y) in DATA.items()}
    with pytest.raises(InputError, match=said):
        begun(model, data)


class Augmented(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Draws noise at each reading."""

    def __init__(self, seed: int) -> None:
        self.x, self.y = part(60, seed)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index] + 0.1 * torch.randn(6), int(self.y[index])


def test_a_folder_goes_on_with_the_same_network_data_and_task_alone(tmp_path: Path) -> None:
    held = {name: DATA[name] for name in ("validation", "test")}
    data = {"train": Augmented(0), **held}
    begun(network(), data, out=tmp_path)
    begun(network(), {"train": Augmented(0), **held}, out=tmp_path)
    others: list[tuple[nn.Module, Any]] = [
        (network(nn.Tanh()), data),  # the same weights in another forward
        (network(), {"train": Augmented(1), **held}),  # as many examples, but others
    ]
    for model, given in others:
        with pytest.raises(InputError, match="holds a search of another network"):
            begun(model, given, out=tmp_path)
    changed = network()
    with torch.no_grad():
        changed.get_parameter("2.bias")[0] += 1e-6
    with pytest.raises(InputError, match="holds a search of another network"):
        begun(changed, data, out=tmp_path)
    (tmp_path / "state" / "look.json").unlink()  # as of a folder from before it was looked at
    begun(network(), data, out=tmp_path)


def test_another_metric_of_the_same_name_is_another_search(tmp_path: Path) -> None:
    def tasks(factor: int) -> Task:
        return task_of(
            functional.cross_entropy,
            lambda outputs, targets: ((outputs.argmax(1) - targets).abs() + 0.5) * factor,
            higher_is_better=False,
        )

    begun(network(), task=tasks(1), out=tmp_path)
    with pytest.raises(InputError, match="holds a search of another network"):
        begun(network(), task=tasks(2), out=tmp_path)


def test_statistics_count_every_example_alike() -> None:
    torch.manual_seed(0)
    x = torch.randn(258, 3) * 2 + 1  # which batches of 256 would leave two of by themselves
    norm = nn.BatchNorm1d(3, momentum=None)
    estimate_statistics(nn.Sequential(norm), Split(x, torch.zeros(258)), 0, 0)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, x.mean(0))


def test_steps_are_counted_as_batches_are_drawn() -> None:
    for count in (1, 2, 64, 65, 66, 128, 129, 130):
        split = Split(torch.zeros(count, 1), torch.zeros(count))
        assert split.shuffled_batches(64) == len(list(split.batches(64, seed=0)))
