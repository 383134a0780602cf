"""Values side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axis
from gossamer.engine.fields import Array, Axis, Shape, Value
from gossamer.engine.operator import (
    Call,
    Given,
    Lowered,
    Operator,
    Rule,
    network_axis,
    network_shape,
    random_shape,
    register,
)
from gossamer.engine.ops.constant import Constant
from gossamer.engine.ops.reshape import Reshape


@dataclass(frozen=True)
class Concatenate(Operator):
    """Values side by side along an axis: the channels (or features), or another one."""

    name = "concatenate"

    inputs: tuple[Value, ...]
    axis: Axis = 0

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given, axis = [shapes[value] for value in self.inputs], self.axis
        expect_axis(given[0], axis)
        before, behind = given[0][:axis], given[0][axis + 1 :]
        for shape in given:
            if (shape[:axis], shape[axis + 1 :]) != (before, behind):
                raise InputError(
                    f"joins shapes {list(given[0])} and {list(shape)}, expected shapes that "
                    f"differ along axis {axis} only."
                )
        return (*before, sum(shape[axis] for shape in given), *behind)

    def run(self, values: Mapping[Value, Array]) -> Array:
        return np.concatenate([values[value] for value in self.inputs], axis=self.axis + 1)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Concatenate"]:
        shape = random_shape(random)
        inputs = (0,) * int(random.integers(1, 4))
        return shape, cls(inputs, int(random.integers(len(shape))))


def _cat(call: Call, dim: int = 1) -> Lowered:
    """Return values side by side; `hstack` and `column_stack` put them so along their channels."""
    tensors = call.arguments["tensors"]
    axis = network_axis(call.shape, call.arguments.get("dim", dim))
    given = [one for one in tensors if isinstance(one, Given)]
    if axis is None or not given or any(len(one.shape) != len(call.shape) for one in given):
        return ()
    constants: list[Operator] = []
    joined: list[Value] = []
    for one in tensors:
        if isinstance(one, Given):
            joined.append(one.value)
            continue
        numbers = one()
        if numbers.ndim != len(call.shape) + 1 or len(numbers) != 1:
            return ()
        shape = network_shape(numbers.shape[1:])
        joined.append(call.step(len(constants)))
        constants.append(Constant(given[0].value, numbers.reshape(shape), shape))
    return (*constants, Concatenate(tuple(joined), axis))


def _stack(call: Call) -> Lowered:
    """Return values side by side along an axis of their own."""
    given = call.arguments["tensors"]
    dim = call.arguments["dim"] % (len(call.shape) + 1)
    axis = network_axis(call.shape, dim)
    if axis is None or not all(isinstance(one, Given) for one in given):
        return ()
    shape = network_shape((*call.shape[: dim - 1], 1, *call.shape[dim:]))
    return (
        *(Reshape(one.value, shape) for one in given),
        Concatenate(tuple(call.step(number) for number in range(len(given))), axis),
    )


_NAMES = ("cat", "concat", "concatenate", "hstack", "column_stack")
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_NAMES, _cat),
    "dstack": partial(_cat, dim=2),
    "stack": _stack,
}
register(Concatenate, _RULES, any_type=_RULES)
