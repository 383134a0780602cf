"""Batches: every example once, in an order that the seed alone decides."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.shrinking.forms import separated
from gossamer.shrinking.split import Items, Preprocessing, Split


def numbered(count: int) -> Split:
    return Split(torch.arange(count, dtype=torch.float32)[:, None], torch.arange(count))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3))
def test_each_example_comes_once(count: int, size: int, epoch: int) -> None:
    split = numbered(count)
    batches = [targets for _, targets in split.batches(size, seed=5, epoch=epoch)]
    assert sorted(torch.cat(batches).tolist()) == list(range(count))
    assert torch.cat([t for _, t in split.batches(size)]).tolist() == list(range(count))
    if count > 1:
        assert size == 1 or min(len(one) for one in batches) > 1
    assert all(torch.equal(x[:, 0].long(), y) for x, y in split.batches(size, seed=5))


def test_the_order_is_of_seed_and_epoch() -> None:
    split = numbered(30)

    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([t for _, t in split.batches(7, seed=seed, epoch=epoch)]).tolist()

    torch.manual_seed(1)
    first = order(0, 0)
    torch.manual_seed(2)
    assert first == order(0, 0)
    assert len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}) == 4


def test_inputs_of_every_structure_are_cut_alike() -> None:
    x, mask = torch.arange(6.0), torch.arange(6) % 2
    several = Split((x, {"mask": mask}), {"y": x})
    inputs, targets = several.at(torch.tensor([4, 1]))
    assert inputs[0].tolist() == [4, 1]
    assert inputs[1]["mask"].tolist() == [0, 1]
    assert targets["y"].tolist() == [4, 1]
    (whole, _), _ = several.subset(torch.tensor([5, 0])).whole()
    assert whole.tolist() == [5, 0]


def test_a_sample_keeps_the_mixture_of_classes() -> None:
    labels = torch.tensor([0] * 80 + [1] * 20)
    sample = Split(torch.zeros(100, 1), labels).sample(10, seed=3)
    assert torch.bincount(sample.targets).tolist() == [8, 2]


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_preprocessing_is_by_channel(kind: torch.dtype) -> None:
    raw = torch.tensor([[[[0, 100]], [[50, 200]]]]).to(kind)
    found = Preprocessing(100.0, (0.5, 1.0), (0.25, 2.0))(raw)
    torch.testing.assert_close(found, torch.tensor([[[[-2.0, 2.0]], [[-0.25, 0.5]]]]))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"scale": 0.0}, "scale is 0, expected positive"),
        ({"deviation": (1.0, float("nan"))}, "deviation is 1, nan, expected positive"),
        ({"mean": (float("inf"),)}, "mean is inf, expected finite"),
    ],
)
def test_senseless_preprocessing_is_refused(arguments: dict[str, float], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Preprocessing(**arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mean has 3 numbers, but inputs have 1 channels"):
        Preprocessing(mean=(1.0, 2.0, 3.0))(torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize(
    ("inputs", "targets", "told"),
    [
        (torch.zeros(0, 3), torch.zeros(0), "no examples"),
        (torch.zeros(4, 3), torch.zeros(3), "not as long as each other .3, 4 examples"),
        ((torch.zeros(4), torch.zeros(5)), torch.zeros(4), "not as long as each other"),
        (torch.zeros(4), None, "must hold a tensor each"),
        (Items([], separated), None, "no examples"),
    ],
)
def test_parts_that_do_not_fit_are_refused(inputs: object, targets: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Split(inputs, targets)  # type: ignore[arg-type]


def test_augmentation_is_drawn_by_the_seed_and_leaves_the_generators_alone() -> None:
    def collate(items: list[Tensor]) -> tuple[Tensor, Tensor]:
        return torch.stack(items) + torch.rand(len(items)), torch.stack(items)

    split = Split(Items(list(torch.arange(6.0)), collate))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = [x for x, _ in split.batches(4, seed=1, epoch=2)]
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(99)
    again = [x for x, _ in split.batches(4, seed=1, epoch=2)]
    assert all(map(torch.equal, first, again))
    other = [x for x, _ in split.batches(4, seed=1, epoch=3)]
    assert not any(map(torch.equal, first, other))
