"""Updaters in a loop of one's own."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gossamer
from gossamer.core.errors import InputError
from gossamer.data.resident import Resident
from gossamer.masks import Mask
from gossamer.training.updaters import UPDATERS, Moment, Updater
from gossamer.training.updating import Updating

OPTIONS: dict[str, Any] = {"final": 0.75, "start": 2, "every": 3, "updates": 3}


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, data: Resident) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(data.inputs), data.labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def zeros(model: nn.Module) -> list[int]:
    return [int((p == 0).sum()) for p in model.parameters() if p.dim() == 2]


def test_each_layer_has_the_scheduled_zeros_after_every_step(points: Resident) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=0.1)
    updates = gossamer.updater(model, optimizer, "gradual", **OPTIONS)
    assert updates.density == 1
    for number in range(1, 16):
        step(model, optimizer, points)
        updates.step()
        update = max(0, min((number - 2) // 3, 3))
        share = 0.75 - 0.75 * (1 - update / 3) ** 3
        assert zeros(model) == [round(share * 96), round(share * 48)], number
    assert updates.mask is not None
    assert updates.density == pytest.approx(1 - 108 / 144)
    assert updates.mask.violations(model) == {}


def test_going_on_from_what_was_kept_gives_the_same_bits(points: Resident) -> None:
    def run(model: nn.Module, optimizer: Any, updates: Updating, count: int) -> None:
        for _ in range(count):
            step(model, optimizer, points)
            updates.step()

    def made(mask: Mask | None = None) -> tuple[nn.Module, torch.optim.Optimizer, Updating]:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, gossamer.updater(model, optimizer, "gradual", mask=mask, **OPTIONS)

    whole, optimizer, updates = made()
    run(whole, optimizer, updates, 14)
    for first in range(15):
        model, optimizer, updates = made()
        run(model, optimizer, updates, first)
        kept = updates.mask, updates.state_dict(), model.state_dict(), optimizer.state_dict()
        again, optimizer, updates = made(kept[0])
        updates.load_state_dict(kept[1])
        again.load_state_dict(kept[2])
        optimizer.load_state_dict(kept[3])
        run(again, optimizer, updates, 14 - first)
        for one, other in zip(whole.parameters(), again.parameters(), strict=True):
            assert torch.equal(one, other), first


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "gradul",
            OPTIONS,
            r"no updater 'gradul', only 'gradual', .*, 'rigl', 'srigl': did you mean 'gradual'",
        ),
        (
            "gradual",
            {**OPTIONS, "final": 2},
            r"cannot have these options \(final: Input should be less than or equal to 1\)",
        ),
        ("gradual", {"final": 0.5}, "updates: Field required"),
        (
            "gradual",
            {**OPTIONS, "initial": 0.9},
            r"\(gradual: initial is 0\.9, but sparsity can only rise to final",
        ),
        ("gradual", {**OPTIONS, "until": 9}, "until: Extra inputs are not permitted"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, options: dict[str, Any], said: str) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match=said):
        gossamer.updater(model, optimizer, name, **options)


def test_an_updater_sees_the_gradients_that_it_is_given(
    points: Resident, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Looker(Updater):
        """Look at the gradients."""

        def after_step(self, moment: Moment) -> None:
            seen.append(dict(moment.gradients()))

    seen: list[dict[str, Tensor]] = []
    monkeypatch.setitem(UPDATERS, "looker", Looker)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    updates = gossamer.updater(model, optimizer, "looker")
    step(model, optimizer, points)
    given = {"0.weight": torch.ones(16, 6)}
    updates.step(lambda: given)
    assert seen == [given]
    with pytest.raises(InputError, match=r"looks at gradients: call step\(gradients=\.\.\.\)"):
        updates.step()


def test_many_updates_are_told_as_one_pruning() -> None:
    model = nn.Linear(10, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    gossamer.prune(model, 0.1).enforce(model, optimizer)
    updater = gossamer.updater(
        model, optimizer, "gradual", initial=0.1, final=0.9, every=1, updates=1200
    )
    for _ in range(1201):
        updater.step()
    mask = updater.mask
    assert mask is not None
    assert mask.sparsity == 0.9
    depth, told = 0, mask.provenance
    while "earlier" in told:
        depth, told = depth + 1, told["earlier"]
    assert depth <= 1
