import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from gossamer.core.errors import InputError
from gossamer.measures.functional import Accuracy, evaluate


class Spy(nn.Module):
    """Notes its mode and the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(5, 4)
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, values: Tensor) -> Tensor:
        logits: Tensor = self.dense(values)
        self.seen.append((len(values), self.training, logits.requires_grad))
        return logits


def examples(count: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    inputs = torch.randn(count, 5, generator=generator)
    return inputs, torch.randint(classes, (count,), generator=generator)


@pytest.mark.parametrize("batch", [1, 7, 23, 1000])
def test_agrees_with_float64_reference(batch: int) -> None:
    network = nn.Linear(5, 4)
    inputs, labels = examples(23)
    found = evaluate(network, inputs, labels, classes=4, batch=batch)
    with torch.no_grad():
        logits = network(inputs).double().numpy()
    wanted = labels.numpy()
    right = logits.argmax(1) == wanted
    assert found.examples == 23
    assert found.accuracy == right.mean()
    assert found.loss == pytest.approx(
        -log_softmax(logits, axis=1)[np.arange(23), wanted].mean(), rel=1e-6
    )
    assert found.per_class == tuple(right[wanted == c].mean() for c in range(4))


def test_loss_is_summed_in_float64() -> None:
    # The first loss is 2**24 nats, where float32 cannot add 0.69 any more.
    inputs = torch.zeros(1001, 2)
    inputs[0, 1] = 2.0**24
    found = evaluate(nn.Identity(), inputs, torch.zeros(1001, dtype=torch.int64), 2)
    assert found.loss * 1001 == pytest.approx(2**24 + 1000 * math.log(2), abs=1e-6)


def test_runs_in_evaluation_mode_and_restores_each_mode() -> None:
    network = nn.Sequential(Spy(), nn.BatchNorm1d(4), nn.Dropout(0.9))
    network[1].eval()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    inputs, labels = examples(10)
    first = evaluate(network, inputs, labels, 4, batch=4)
    assert evaluate(network, inputs, labels, 4, batch=4) == first
    spy = network[0]
    assert isinstance(spy, Spy)
    assert spy.seen[:3] == [(4, False, False), (4, False, False), (2, False, False)]
    assert [module.training for module in network] == [True, False, True]
    assert network.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


def test_restores_modes_after_a_failure() -> None:
    network = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        evaluate(network, *examples(3), classes=4)
    assert network.training
    assert network[0].training


def test_class_without_examples_has_accuracy_zero() -> None:
    found = evaluate(nn.Identity(), torch.eye(3)[:2], torch.tensor([0, 1]), classes=3)
    assert found.per_class == (1.0, 1.0, 0.0)
    assert found.accuracy == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_show(bad: float) -> None:
    logits = torch.eye(2)
    logits[0, 0] = bad
    found = evaluate(nn.Identity(), logits, torch.tensor([0, 1]), classes=2)
    assert not math.isfinite(found.loss)
    assert found.accuracy == 0.5
    assert found.per_class == (0.0, 1.0)


def test_impossible_label_has_infinite_loss() -> None:
    logits = torch.tensor([[0.0, -math.inf]])
    assert evaluate(nn.Identity(), logits, torch.tensor([1]), classes=2).loss == math.inf


def test_half_precision_network_and_small_labels() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.bfloat16)
    found = evaluate(nn.Identity(), logits, torch.tensor([0, 1], dtype=torch.uint8), classes=2)
    assert found == Accuracy(found.loss, accuracy=1.0, per_class=(1.0, 1.0), examples=2)
    assert found.loss == pytest.approx(math.log(1 + math.exp(-1)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1]), "for 3 examples, but one integer per example"),
        (torch.eye(3), "one integer per example"),
        (torch.tensor([0.0, 1.0, 2.0]), "labels are torch.float32"),
        (torch.tensor([0, 1, 3]), "lie between 0 and 3, but numbers from 0 to 2"),
        (torch.tensor([-1, 1, 2]), "lie between -1 and 2"),
    ],
)
def test_bad_labels(labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(nn.Identity(), torch.eye(3), labels, classes=3)


def test_no_examples_and_no_batch() -> None:
    with pytest.raises(InputError, match="There are no examples"):
        evaluate(nn.Identity(), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 3)
    with pytest.raises(InputError, match="The batch is 0"):
        evaluate(nn.Identity(), torch.eye(3), torch.arange(3), 3, batch=0)


def test_output_that_is_no_tensor() -> None:
    class Pair(nn.Module):
        def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
            return values, values

    with pytest.raises(InputError, match=r"an output of type tuple for 3 examples"):
        evaluate(Pair(), torch.eye(3), torch.arange(3), classes=3)


def test_wrong_number_of_logits() -> None:
    with pytest.raises(InputError, match=r"shape \(3, 3\) for 3 examples, but \(3, 2\) was"):
        evaluate(nn.Identity(), torch.eye(3), torch.tensor([0, 1, 1]), classes=2)
