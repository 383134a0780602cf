"""What a forward writes in place, and what it takes at computed places, whole in the engine."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gossamer
from gossamer.compression.lowering.parts import divide
from gossamer.compression.lowering.rewriting import divided
from gossamer.compression.lowering.tracing import trace
from gossamer.core.errors import InputError
from gossamer.engine import Engine, run_portable_all


class Written(nn.Module):
    """A function of numbers [batch, 5, 6] behind a layer that changes nothing, and of places."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(6, 6, bias=False), function
        nn.init.eye_(self.layer.weight)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        return self.function(self.layer(x), places)


def into_slices(x: Tensor, _: Tensor) -> Tensor:
    x[:, 0] = 0
    x[:, 1:3, ::1] *= 2
    x[..., -1] = x[..., 0] + 1
    x[:, 4, 2:4] = torch.tensor([[0.5, -1.0]])
    return x


def into_zeros(x: Tensor, _: Tensor) -> Tensor:
    """Shift some channels forth and some back (Lin et al. 2019)."""
    shifted = torch.zeros_like(x)
    shifted[:, :-1, :2] = x[:, 1:, :2]
    shifted[:, 1:, 2:4] = x[:, :-1, 2:4]
    shifted[:, :, 4:] = x[:, :, 4:]
    return shifted


def into_masks(x: Tensor, places: Tensor) -> Tensor:
    mask = places[:, None] > torch.arange(5)
    mask[:, 0] = True
    counts = places[:, None].repeat(1, 5).clone()
    counts[:, 2] = 7
    return x.masked_fill(~mask[..., None], 0.0) * counts[..., None].clamp(min=2)


CASES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "slices": into_slices,
    "masks": into_masks,
    "zeros": into_zeros,
    "last": lambda x, places: x[torch.arange(x.shape[0]), places - 1],
    "at": lambda x, places: x[torch.arange(x.shape[0]), places] * places[:, None],
    "gather": lambda x, places: x.gather(1, places.view(-1, 1, 1).expand(-1, 1, 6)),
    "several of each": lambda x, places: x.gather(
        1, torch.stack((places, places * 0), 1)[..., None].expand(-1, -1, 6)
    ),
    "from the end": lambda x, places: x[torch.arange(x.shape[0]), places - 4],
    "the largest less one": lambda x, _: x[torch.arange(x.shape[0]), x[..., 0].argmax(1) - 1],
    "of either mask": lambda x, places: x[
        torch.arange(x.shape[0]),
        ((torch.arange(5) < places[:, None]) | (x[..., 0] > 1)).sum(1) - 1,
    ],
    "cumulated": lambda x, _: x[torch.arange(x.shape[0]), (x[..., 0] > 0).cumsum(1)[:, -1] - 1],
    "less another": lambda x, places: x[
        torch.arange(x.shape[0]), torch.where(places > 2, places, places - 1) - (x[:, 0, 0] > 0) * 2
    ],
    "several places": lambda x, places: x[
        torch.arange(x.shape[0])[:, None], torch.stack((places, places - 5), 1)
    ],
    "of the last axis": lambda x, places: x[torch.arange(x.shape[0]), :, places - 3],
    "of both axes": lambda x, places: x[torch.arange(x.shape[0]), places - 3, -places],
    "of each": lambda x, _: x.gather(-1, (x > 0).sum(-1, keepdim=True).clamp(max=5)),
    "one hot": lambda x, places: (functional.one_hot(places, 5)[..., None] * x).sum(1),
    "mixed": lambda x, places: (
        (x > 0) * x / (x > 0).sum(-1, keepdim=True).clamp(min=1) + places[:, None, None]
    ),
    "no numbers": lambda x, _: torch.nan_to_num(x.log(), nan=0.5) / 1e38,
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_and_chosen_is_what_pytorch_gives(name: str) -> None:
    model = Written(CASES[name]).eval()
    x, places = torch.randn(3, 5, 6), torch.tensor([4, 1, 3])
    traced, division = divided(model, (x, places))
    whole = division.whole(traced.graph)
    assert whole is not None, division.rest
    x, places = torch.randn(9, 5, 6), torch.randint(1, 5, (9,))
    x[0, 0, 0] = 0.0
    expected = model(x.clone(), places).detach()
    inputs = [
        one.numpy().reshape(9, *shape)
        for one, shape in zip((x, places), whole.network.inputs, strict=True)
    ]
    for found in (Engine(whole.network).run(inputs), run_portable_all(whole.network, inputs)):
        np.testing.assert_allclose(found[0].reshape(expected.shape), expected, 1e-5, 1e-6)


@pytest.mark.parametrize("name", ["last", "gather"])
def test_a_place_that_is_not_there_is_refused_as_pytorch_refuses_it(
    name: str, tmp_path: Path
) -> None:
    model = Written(CASES[name]).eval()
    x = torch.randn(9, 5, 6)
    small = gossamer.compress(model, (x[:3], torch.tensor([1, 4, 2])), choose="engine", threads=1)
    small.save(tmp_path / "n.gsm")
    network = gossamer.load(tmp_path / "n.gsm")
    for places in (torch.arange(9) % 5, torch.arange(9) - 4, torch.arange(9) - 5):
        for count in (9, 1):
            given, at = x[-count:], places[:count]
            arrays = (given.numpy(), at.numpy().astype(np.int64))
            try:
                expected = model(given, at)
            except (IndexError, RuntimeError):
                with pytest.raises(InputError, match="a computed place is"):
                    network(*arrays)
            else:
                np.testing.assert_array_equal(network(*arrays), expected.detach())


def test_a_place_that_is_refused_is_so_where_nothing_of_it_is_read() -> None:
    def function(x: Tensor, places: Tensor) -> Tensor:
        found = x[torch.arange(x.shape[0]), places]
        return torch.where((places < 5)[:, None], found, torch.zeros_like(found))

    example = (torch.randn(3, 5, 6), torch.tensor([1, 4, 2]))
    small = gossamer.compress(Written(function).eval(), example, choose="engine", threads=1)
    with pytest.raises(InputError, match="a computed place is 7, expected a whole number from -5"):
        small(example[0], torch.tensor([1, 7, 2]))


def test_a_class_that_is_not_there_is_refused() -> None:
    example = (torch.randn(3, 5, 6), torch.tensor([0, 4, 2]))
    classes = Written(CASES["one hot"]).eval()
    small = gossamer.compress(classes, example, choose="engine", threads=1)
    with pytest.raises(InputError, match="holds 5, expected numbers of rows from 0 to 4"):
        small(torch.ones(2, 5, 6), torch.tensor([4, 5]))


LARGE = 2**24 + 1
ROUNDED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "returned": lambda _, places: places + 1,
    "chosen": lambda x, places: torch.where(x[:, 0] > 0, places[:, None], LARGE),
    "joined": lambda x, _: torch.cat((x[:, 0].argsort(1), torch.full((len(x), 1), LARGE)), 1),
    "bounded": lambda x, _: torch.maximum(x[:, 0].argsort(1), torch.tensor(LARGE)),
    "at least": lambda x, _: x[:, 0].argsort(1).clamp(min=LARGE),
    "scattered": lambda x, _: torch.zeros(len(x), 6, dtype=torch.int64).scatter(
        1, x[:, 0].argsort(1)[:, :2], LARGE
    ),
    "twice": lambda x, places: (places + 2 - 2).float()[:, None] + 0 * x[:, 0],
}


@pytest.mark.parametrize("name", ROUNDED)
def test_whole_numbers_are_not_rounded(name: str) -> None:
    model = Written(ROUNDED[name]).eval()
    example = (torch.randn(3, 5, 6), torch.tensor([0, 4, 2]))
    small = gossamer.compress(model, example, choose="engine", threads=1)
    for places in (example[1], torch.tensor([2**24 - 1, 2**24])):
        given = (torch.randn(len(places), 5, 6), places)
        torch.testing.assert_close(small(*given), model(*given), rtol=0, atol=0)


def test_whole_numbers_that_float32_would_round_stay() -> None:
    def function(x: Tensor, places: Tensor) -> Tensor:
        return (places * places).float()[:, None] + x[:, 0] * ((places + 1) == 2**24 + 1)[:, None]

    example = (torch.randn(3, 5, 6), torch.tensor([0, 4, 2]))
    assert divide(trace(Written(function).eval(), example).graph).rest


@pytest.mark.parametrize(
    "function",
    [
        lambda x, places: x[torch.arange(x.shape[0]).flip(0), places],  # of other examples
        lambda x, places: x[places],
    ],
)
def test_what_moves_numbers_between_examples_stays(
    function: Callable[[Tensor, Tensor], Tensor],
) -> None:
    example = (torch.randn(3, 5, 6), torch.tensor([0, 2, 1]))
    assert divide(trace(Written(function).eval(), example).graph).rest
