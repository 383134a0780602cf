"""What moves numbers is lowered whole, and moves each one to where PyTorch does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.compression.lowering.parts import divide
from gossamer.compression.lowering.tracing import trace
from lowered_functions import Applied, Behind, errors


def several(inputs: Tensor) -> Tensor:
    """Return what several movements give, side by side."""
    first, second = inputs.chunk(2, 1)
    third, fourth, fifth = torch.split(inputs, [1, 2, 2], 3)
    parts = [first, second, third, fourth, fifth, inputs.unbind(2)[-1], inputs[:, 1]]
    return torch.cat([part.flatten(1) for part in parts], 1)


IMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, -1).movedim(2, 1),
    "slice": lambda x: x[:, ::2, 1:-1, -3:],
    "parts": several,
    "flip, roll": lambda x: x.flip(1, -1).roll((1, -2), (2, 3)),
    "places": lambda x: x[:, [3, 0, -1]].index_select(3, torch.tensor([1, 1, 0])),
    "repeat": lambda x: x.repeat(1, 2, 1, 3).tile(2, 1).repeat_interleave(3, 2),
    "expand": lambda x: x[:, :1, :, -1:].expand(-1, 3, -1, 2),
    "stack": lambda x: torch.stack([x, x.flip(3)], 2),
    "stack last": lambda x: torch.stack([x[:, 0, 0], x[:, 1, 0]], -1),
    "cat": lambda x: torch.hstack([torch.cat([x, x], -1), torch.concat([x, x.flip(1)], 3)]),
    "dstack": lambda x: torch.dstack([x, x[:, :, 1:]]),
    "pixel_shuffle": lambda x: functional.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: functional.pixel_unshuffle(x[:, :, :, :4], 2),
    "channel_shuffle": lambda x: functional.channel_shuffle(x, 2),
    "windows": lambda x: x.reshape(-1, 4, 2, 2, 5).permute(0, 2, 4, 1, 3).flatten(1, 2),
    "unfolded": lambda x: functional.unfold(x, (2, 3), (1, 2), (1, 0), (2, 1)),
    "unfolded, channel by channel": lambda x: functional.unfold(x, 2).reshape(-1, 4, 4, 12),
    "tokens": lambda x: x.flatten(2).transpose(1, 2)[:, 1:].reshape(x.shape[0], 1, -1),
}


@pytest.mark.parametrize("name", IMAGES)
def test_movements_are_lowered_whole(name: str) -> None:
    example = torch.arange(3 * 4 * 4 * 5.0).reshape(3, 4, 4, 5)
    assert set(errors(Behind(IMAGES[name], 4), example).values()) == {0.0}


SEQUENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "transpose": lambda x: x.transpose(1, 2),
    "narrow": lambda x: x.narrow(2, 1, 4)[:, 1:],
    "stack": lambda x: torch.stack([x, -x], 1),
    "flip": lambda x: x.flip(1, 2),
    "last": lambda x: x[..., -1],
    "windows": lambda x: x.reshape(x.shape[0], 4, 2, 3).permute(0, 2, 1, 3),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_axes_of_sequences_are_told_apart(name: str) -> None:
    example = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Conv1d(4, 4, 1), Applied(SEQUENCES[name]))
    assert max(errors(model, example).values()) < 1e-6


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": lambda x: x.flip(0),
    "roll": lambda x: x.roll(1, 0),
    "roll all": lambda x: x.roll(1),
    "transpose": lambda x: x.transpose(0, 1).reshape(x.shape),
    "stack": lambda x: torch.stack([x, x]).reshape(x.shape[0], 2, 4, 6),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_moves_numbers_from_example_to_example_stays_in_pytorch(name: str) -> None:
    model = nn.Sequential(nn.Conv1d(4, 4, 1), Applied(MIXING[name])).eval()
    traced = trace(model, torch.randn(3, 4, 6))
    assert divide(traced.graph).rest
