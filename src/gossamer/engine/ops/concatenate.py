"""Values side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import Call, Given, Lowered, Operator, random_shape, register


@dataclass(frozen=True)
class Concatenate(Operator):
    """Values side by side along their channels (or features)."""

    name = "concatenate"

    inputs: tuple[Value, ...]

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = [shapes[value] for value in self.inputs]
        for shape in given:
            if shape[1:] != given[0][1:]:
                raise InputError(
                    f"joins shapes {list(given[0])} and {list(shape)}, expected shapes that "
                    "differ in their first length only."
                )
        return (sum(shape[0] for shape in given), *given[0][1:])

    def run(self, values: Mapping[Value, Array]) -> Array:
        return np.concatenate([values[value] for value in self.inputs], axis=1)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Concatenate"]:
        return random_shape(random), cls((0,) * int(random.integers(1, 4)))


def _cat(call: Call) -> Lowered:
    """Return values side by side; `hstack` and `column_stack` put them so along their channels."""
    given, rank = call.arguments["tensors"], len(call.shape) + 1
    if call.arguments.get("dim", 1) % rank != 1 or not all(isinstance(g, Given) for g in given):
        return ()
    return (Concatenate(tuple(one.value for one in given)),)


_NAMES = ("cat", "concat", "concatenate", "hstack", "column_stack")
register(Concatenate, dict.fromkeys(_NAMES, _cat))
