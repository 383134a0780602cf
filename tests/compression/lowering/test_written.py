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


def into_masks(x: Tensor, places: Tensor) -> Tensor:
    mask = places[:, None] > torch.arange(5)
    mask[:, 0] = True
    counts = places[:, None].repeat(1, 5).clone()
    counts[:, 2] = 7
    return x.masked_fill(~mask[..., None], 0.0) * counts[..., None].clamp(min=2)


CASES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "slices": into_slices,
    "masks": into_masks,
    "last": lambda x, places: x[torch.arange(x.shape[0]), places - 1],
    "at": lambda x, places: x[torch.arange(x.shape[0]), places] * places[:, None],
    "gather": lambda x, places: x.gather(1, places.view(-1, 1, 1).expand(-1, 1, 6)),
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


def test_a_place_beyond_the_end_gives_no_number_and_a_class_is_refused(tmp_path: Path) -> None:
    model = Written(lambda x, places: x[torch.arange(x.shape[0]), places]).eval()
    example = (torch.randn(3, 5, 6), torch.tensor([0, 4, 2]))
    small = gossamer.compress(model, example, choose="engine", threads=1)
    small.save(tmp_path / "n.gsm")
    network = gossamer.load(tmp_path / "n.gsm")
    found = network(torch.ones(2, 5, 6).numpy(), np.array([4, 5]))
    assert np.isnan(found[1]).all()
    assert (found[0] == 1).all()
    classes = Written(CASES["one hot"]).eval()
    small = gossamer.compress(classes, example, choose="engine", threads=1)
    with pytest.raises(InputError, match="holds 5, expected numbers of rows from 0 to 4"):
        small(torch.ones(2, 5, 6), torch.tensor([4, 5]))


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
