"""A compressed network is called as the module is, in whatever way that takes its tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gossamer
from gossamer.core.errors import InputError


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(5, 8), nn.Linear(3, 8), nn.Linear(8, 2)

    def joined(self, x: Tensor, z: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.left(x) - self.right(z)))
        return found


class Plain(Towers):
    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.joined(x, z)


class ByName(Towers):
    def forward(self, x: Tensor, *, z: Tensor) -> Tensor:
        return self.joined(x, z)


class Flagged(Towers):
    def forward(self, x: Tensor, swap: bool = False, z: Tensor | None = None) -> Tensor:
        assert z is not None
        return self.joined(x, z) * (-1 if swap else 1)


class Many(Towers):
    def forward(self, *both: Tensor) -> Tensor:
        return self.joined(*both)


class Nested(Towers):
    def forward(self, both: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.joined(*both), both[0].sum(1)


Call = Callable[[Callable[..., Any], Any, Any], Any]
CALLS: dict[str, tuple[type[Towers], Any, Call]] = {
    "in order": (Plain, lambda x, z: (x, z), lambda f, x, z: f(x, z)),
    "by their names": (Plain, lambda x, z: {"z": z, "x": x}, lambda f, x, z: f(z=z, x=x)),
    "one by its name": (Plain, lambda x, z: (x, z), lambda f, x, z: f(x, z=z)),
    "by name only": (ByName, lambda x, z: {"x": x, "z": z}, lambda f, x, z: f(x, z=z)),
    "around a flag": (Flagged, lambda x, z: {"x": x, "z": z}, lambda f, x, z: f(x, z=z)),
    "beside a flag": (
        Flagged,
        lambda x, z: {"x": x, "swap": True, "z": z},
        lambda f, x, z: f(x, True, z),
    ),
    "as many as there are": (Many, lambda x, z: (x, z), lambda f, x, z: f(x, z)),
    "in a tuple": (Nested, lambda x, z: ((x, z),), lambda f, x, z: f((x, z))),
}


@pytest.mark.parametrize("name", CALLS)
def test_tensors_and_arrays_are_taken_as_the_module_takes_them(name: str) -> None:
    torch.manual_seed(0)
    kind, example, call = CALLS[name]
    model = kind().eval()
    small = gossamer.compress(model, example(torch.randn(4, 5), torch.randn(4, 3)), choose="engine")
    x, z = torch.randn(3, 5), torch.randn(3, 3)
    with torch.no_grad():
        expected = call(model, x, z)
    torch.testing.assert_close(call(small, x, z), expected)
    found = call(small, x.numpy(), z.numpy())
    for one, other in zip(_flat(found), _flat(expected), strict=True):
        assert isinstance(one, np.ndarray)
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-6)


def _flat(output: Any) -> tuple[Any, ...]:
    return output if isinstance(output, tuple) else (output,)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((torch.ones(3, 5),), "inputs: are not arranged as the example was"),
        ((torch.ones(3, 5), torch.ones(3, 3), torch.ones(3, 3)), "are not arranged"),
        ((torch.ones(3, 3), torch.ones(3, 5)), r"x: shape \[3, 3\], expected \[examples, 5\]"),
        ((torch.ones(3, 5), torch.ones(2, 3)), "z: 2 examples, expected 3"),
        ((torch.ones(3, 5), 4), "z: "),
    ],
)
def test_what_is_not_arranged_so_is_refused(given: tuple[Any, ...], told: str) -> None:
    small = gossamer.compress(
        Plain().eval(), (torch.randn(4, 5), torch.randn(4, 3)), choose="engine"
    )
    with pytest.raises(InputError, match=told):
        small(*given)
