"""Softmax and its logarithm."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import (
    Call,
    Lowered,
    Operator,
    network_shape,
    random_shape,
    register,
)
from gossamer.engine.ops.permute import Permute


@dataclass(frozen=True)
class Softmax(Operator):
    """Softmax over the channels or features, or its logarithm."""

    name = "softmax"

    input: Value
    logarithm: bool = False

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        return shapes[self.input]

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        shifted = given - given.max(axis=1, keepdims=True)
        exponentials = np.exp(shifted)
        total = exponentials.sum(axis=1, keepdims=True)
        return cast("Array", shifted - np.log(total) if self.logarithm else exponentials / total)

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Softmax"]:
        return random_shape(random), cls(0, logarithm=random.random() < 0.5)


def _softmax(call: Call, *, logarithm: bool) -> Lowered:
    """Return a softmax over any axis but the batch, which is the first for a moment."""
    given = call.given("self")
    axis = None if given is None else given.axis(call.arguments["dim"])
    if given is None or axis is None or len(call.shape) == 0:
        return ()
    if axis == 0:
        return (Softmax(given.value, logarithm),)
    order = list(range(len(network_shape(given.shape))))
    order[0], order[axis] = axis, 0
    return (
        Permute(given.value, tuple(order)),
        Softmax(call.step(0), logarithm),
        Permute(call.step(1), tuple(order)),
    )


_SOFTMAX = partial(_softmax, logarithm=False)
_LOGARITHM = partial(_softmax, logarithm=True)
register(
    Softmax,
    {
        "softmax": _SOFTMAX,
        "_softmax": _SOFTMAX,
        "log_softmax": _LOGARITHM,
        "_log_softmax": _LOGARITHM,
    },
)
