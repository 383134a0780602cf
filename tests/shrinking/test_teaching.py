"""How long a candidate is trained: on, where it is further away than the one before lets expect."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from gossamer.masks import Mask
from gossamer.shrinking import teaching
from gossamer.shrinking.fine_tuning import lesson
from gossamer.shrinking.options import options_of
from gossamer.shrinking.split import Split
from gossamer.shrinking.task import classification
from gossamer.shrinking.teaching import LEAP, Room, Taught, taught


def trained(
    monkeypatch: pytest.MonkeyPatch, distances: list[float], before: float | None, room: Room
) -> tuple[Taught, nn.Linear]:
    """Teach a network whose weights count trainings, at given distances from the dense one."""
    far: Iterator[float] = iter(distances)
    network = nn.Linear(2, 2)
    nn.init.zeros_(network.weight)

    def training(model: nn.Linear, *_: Any) -> tuple[float, ...]:
        with torch.no_grad():
            model.weight += 1
        return (0.5,)

    monkeypatch.setattr(teaching, "fine_tune", training)
    monkeypatch.setattr(teaching, "distance_from", lambda *_: next(far))
    learnt = lesson(
        Split(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)), classification(),
        nn.Linear(2, 2).eval(), options_of(), None,
    )  # fmt: skip
    mask = Mask({"weight": torch.ones(2, 2, dtype=torch.bool)})
    told = taught(
        nn.Linear(2, 2), network, mask, learnt, room, before, 0, lambda _: None, lambda _: None
    )
    return told, network


def test_a_leap_away_is_trained_on_until_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    told, network = trained(monkeypatch, [9.0, 4.0, 1.9], 1.0, Room(0.5, 10.0))
    assert told == Taught(1.0, (0.5, 0.5), 1.9)
    assert network.weight[0, 0] == 2


def test_what_is_as_near_as_may_be_expected_takes_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, network = trained(monkeypatch, [9.0, 3.0], 3.0 / LEAP, Room(0.5, 10.0))
    assert told == Taught(0.5, (0.5,), 3.0)
    assert network.weight[0, 0] == 1


def test_the_first_candidate_is_trained_on_while_that_helps_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, network = trained(monkeypatch, [9.0, 4.0, 1.5], None, Room(0.5, 10.0))
    assert (told.epochs, told.distance) == (1.0, 1.5)
    assert network.weight[0, 0] == 2


@pytest.mark.parametrize(("left", "shares"), [(100.0, 2), (1.2, 2), (0.6, 1)])
def test_no_candidate_takes_more_than_two_shares(
    left: float, shares: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, _ = trained(monkeypatch, [9.0, 8.0, 7.0, 6.0, 5.0], 1.0, Room(0.5, left))
    assert told.epochs == 0.5 * shares


def test_training_on_ends_where_it_leads_away(monkeypatch: pytest.MonkeyPatch) -> None:
    told, network = trained(monkeypatch, [9.0, 4.0, 4.5], 1.0, Room(0.5, 10.0))
    assert (told.epochs, told.distance) == (1.0, 4.0)
    assert network.weight[0, 0] == 1
