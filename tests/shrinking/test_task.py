"""Tasks: one number for each example, of any loss and metric that people bring."""

# ruff: noqa: ARG005

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer.core.errors import InputError
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import Task, check_task, classification, evaluate, task_of


def test_classification_is_right_or_wrong_and_cross_entropy() -> None:
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 3), torch.randn(50, 4), torch.randint(3, (50,))
    right = evaluate(model, Split(x, y), classification(), batch_size=7)
    assert torch.equal(right, (model(x).argmax(1) == y).double())
    log = model(x).double().log_softmax(1)
    expected = -log[torch.arange(50), y].mean()
    torch.testing.assert_close(
        classification().loss(model(x), y), expected.float(), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("wrap", [lambda x: {"logits": x}, lambda x: SimpleNamespace(logits=x)])
def test_outputs_that_hold_their_logits_by_name(wrap: Any) -> None:
    task = classification()
    assert task.metric(wrap(torch.eye(2)), torch.tensor([0, 0])).tolist() == [1, 0]


def test_evaluation_leaves_the_network_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 2))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    split = Split(torch.randn(9, 4), torch.zeros(9, dtype=torch.long))
    first = evaluate(model, split, classification())
    assert torch.equal(first, evaluate(model, split, classification(), batch_size=2))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    check_task(model, split, classification())
    assert all(parameter.grad is None for parameter in model.parameters())


class Regressor(nn.Module):
    """Two inputs by name, one number out."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 8), nn.Linear(2, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.left(left) + self.right(right)))
        return out[:, 0]


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square()


def test_a_regression_of_several_inputs_learns_through_its_task() -> None:
    torch.manual_seed(0)
    left, right = torch.randn(200, 3), torch.randn(200, 2)
    targets = left[:, 0] - 2 * right[:, 1]
    split = Split({"left": left, "right": right}, targets)
    task = task_of(functional.mse_loss, squared_error, higher_is_better=False)
    model = Regressor()
    check_task(model, split, task)
    before = evaluate(model, split, task)
    torch.testing.assert_close(before, (model(left, right) - targets).square().double())
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for epoch in range(10):
        for inputs, wanted in split.batches(32, seed=0, epoch=epoch):
            optimizer.zero_grad()
            task.loss(model(**inputs), wanted).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    after = evaluate(model, split, task)
    assert float(after.mean()) < 0.1 * float(before.mean())
    assert float(task.drop(before, after).mean()) < 0  # better: it drops less than nothing
    assert (task.name, task.is_binary) == ("squared error", False)


def overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    found, wanted = (outputs[:, 0] > 0).flatten(1), targets.bool().flatten(1)
    either = (found | wanted).sum(1).clamp(min=1)
    return (found & wanted).sum(1) / either


def test_a_segmentation_is_judged_by_the_overlap_of_each_image() -> None:
    torch.manual_seed(0)
    images = torch.rand(40, 1, 8, 8)
    wanted = (images[:, 0] > 0.5).float()
    split = Split(images, wanted)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets)

    task = task_of(loss, overlap, higher_is_better=True, name="IoU")
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    check_task(model, split, task)
    perfect = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        perfect.weight.fill_(1.0)
        perfect.bias.fill_(-0.5)  # type: ignore[union-attr]
    assert evaluate(perfect, split, task).tolist() == [1.0] * 40
    assert float(task.drop(evaluate(perfect, split, task), evaluate(model, split, task)).min()) >= 0


LABELS = torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize(
    ("task", "targets", "told"),
    [
        (
            classification(),
            LABELS - 1,
            "labels reach from -1 to 1, but the network tells 3 classes",
        ),
        (classification(), LABELS + 1, "labels reach from 1 to 3, .* labels from 0 to 2"),
        (
            classification(),
            LABELS.float(),
            r"targets are of shape \[4\], float32, expected a class",
        ),
        (classification(), torch.eye(4), r"targets are of shape \[4, 4\]"),
        (Task(lambda o, t: o, squared_error), LABELS, "the metric fails"),
        (Task(lambda o, t: o.sum(), lambda o, t: o.mean()), LABELS, "leave out its mean"),
        (Task(lambda o, t: o.sum(), lambda o, t: 0.5), LABELS, r"shape \[4\], not float"),  # type: ignore[arg-type, return-value]
        (Task(lambda o, t: o, lambda o, t: o[:, 0]), LABELS, r"one number.*shape \[4, 3\]"),
        (Task(lambda o, t: o.sum() / 0, lambda o, t: o[:, 0]), LABELS, "the loss is"),
        (Task(lambda o, t: o.detach().sum(), lambda o, t: o[:, 0]), LABELS, "does not depend"),
        (Task(lambda o, t: o @ t, lambda o, t: o[:, 0]), LABELS, "the loss fails"),
        (Task(lambda o, t: o.sum(), lambda o, t: o[:, 0] / 0), LABELS, "NaN or infinite"),
    ],
)
def test_tasks_that_do_not_fit_are_said_before_any_work(
    task: Task, targets: Tensor, told: str
) -> None:
    torch.manual_seed(0)
    with pytest.raises(InputError, match=told):
        check_task(nn.Linear(5, 3), Split(torch.randn(4, 5), targets), task)


def test_labels_out_of_range_are_found_wherever_they_are() -> None:
    labels = torch.zeros(500, dtype=torch.long)
    labels[-1] = 7
    with pytest.raises(InputError, match="test: labels reach from 0 to 7"):
        check_task(nn.Linear(5, 3), Split(torch.randn(500, 5), labels), classification(), "test")


def test_networks_that_do_not_take_the_data_or_give_no_logits() -> None:
    split = Split(torch.randn(4, 6), LABELS)
    with pytest.raises(InputError, match=r"Linear fails on a batch of the data \(float32 \[4, 6\]"):
        check_task(nn.Linear(5, 3), split, classification())
    with pytest.raises(InputError, match=r"gives shape \[4, 6, 1\], but logits"):
        check_task(nn.Unflatten(1, (6, 1)), split, classification())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"loss": squared_error}, "metric is missing"),
        ({"metric": squared_error}, "loss is missing"),
        ({"loss": squared_error, "metric": squared_error}, "higher_is_better is missing"),
        ({"loss": 1, "metric": squared_error, "higher_is_better": False}, "loss must be a func"),
        ({"higher_is_better": True}, "is said of a metric"),
    ],
)
def test_half_a_task_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        task_of(**arguments)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of few validation examples
def test_a_regression_is_shrunk_within_a_budget_of_its_error() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1)), torch.randn(900, 6)
    y = x[:, :1] - 2 * x[:, 1:2]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        functional.mse_loss(model(x[:400]), y[:400]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    parts = {"train": slice(0, 400), "validation": slice(400, 700), "test": slice(700, 900)}
    found = gossamer.shrink(
        model, {name: (x[at], y[at]) for name, at in parts.items()}, loss=functional.mse_loss,
        metric=lambda outputs, targets: (outputs - targets).square().mean(1),
        higher_is_better=False, max_drop=0.5, target="flops", pattern="weight", epochs=11,
        threads=1, batch=8, seconds=0.05,
    )  # fmt: skip
    assert found.sparsity > 0.3
    with torch.no_grad():
        error = (found.masked(x[700:]) - y[700:]).square().mean()
    assert found.after.metric.value == pytest.approx(float(error), rel=1e-4)
    assert found.after.metric.value - found.before.metric.value < 0.5
