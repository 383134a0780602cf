"""Softmax and its logarithm."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, random_shape, register


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
    given = call.given("self")
    if given is None or call.arguments["dim"] % (len(call.shape) + 1) != 1:
        return ()
    return (Softmax(given.value, logarithm),)


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
