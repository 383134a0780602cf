"""Leakage before and after: of networks whose margins tell members, or do not."""

import pytest
import torch
from torch import Tensor, nn

from gossamer.shrinking.data import Data
from gossamer.shrinking.leaking import leaked
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import Task, classification


class Margins(nn.Module):
    """Is right by a margin that is read from a column of its inputs."""

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column
        self.unused = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        margin = x[:, self.column]
        return torch.stack([margin * (1 - x[:, 0]), margin * x[:, 0]], 1)


def part(count: int, margin: float, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 2, generator=generator)
    labels = torch.arange(count) % 2
    inputs = torch.stack([labels.float(), margin + noise[:, 0], 2 + noise[:, 1]], 1)
    return Split(inputs, labels)


def data(members: Split | None) -> Data:
    train = part(300, 5.0, 0)
    return Data(train, train, part(300, 2.0, 1), members=members)


def test_a_network_that_remembers_is_told_from_one_that_does_not() -> None:
    given = data(part(300, 5.0, 2))
    found = leaked(Margins(1), Margins(2), given, classification())
    (one,) = [one for one in found if one.is_headline]
    assert (one.members, one.others) == (300, 300)
    assert one.before.value > 0.95  # of normal margins three deviations apart: Phi(3 / sqrt 2)
    assert abs(one.after.value - 0.5) < 0.1


def test_nothing_is_measured_without_members_or_of_another_task() -> None:
    task = classification()
    own = Task(task.loss, task.metric)
    assert leaked(Margins(1), Margins(2), data(None), task) == ()
    assert leaked(Margins(1), Margins(2), data(part(300, 5.0, 2)), own) == ()
    assert leaked(Margins(1), Margins(2), data(part(20, 5.0, 2)), task) == ()


def test_an_audit_that_cannot_be_is_said_and_loses_nothing() -> None:
    given = part(300, 5.0, 2)
    alike = Split(given.inputs, torch.zeros(300, dtype=torch.long))
    same = Data(alike, alike, alike, members=alike)
    with pytest.warns(RuntimeWarning, match="no leakage was measured: labels"):
        assert leaked(Margins(1), Margins(2), same, classification()) == ()
