"""What the numbers along an axis come to up to each of them: sums, products, logarithms of sums."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer.engine.epilogue import expect_axis
from gossamer.engine.fields import Array, Axis, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, random_shape, register

CumulationName = Literal["log-sum-exp", "product", "sum"]


@dataclass(frozen=True)
class Cumulate(Operator):
    """The sum (or product) of each number and all that lie before it along an axis.

    `log-sum-exp` is the logarithm of the sum of their powers of e.
    """

    name = "cumulate"

    input: Value
    cumulation: CumulationName
    axis: Axis

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        expect_axis(shapes[self.input], self.axis)
        return shapes[self.input]

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        # Many numbers: in float64, as the compiled kernels add them up.
        exact = _CUMULATIONS[self.cumulation](given.astype(np.float64), self.axis + 1)
        found: Array = exact.astype(given.dtype)
        return found

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Cumulate"]:
        shape, names = random_shape(random), get_args(CumulationName)
        name = names[int(random.integers(len(names)))]
        return shape, cls(0, name, int(random.integers(len(shape))))


_CUMULATIONS: Mapping[str, Callable[[NDArray[Any], int], NDArray[Any]]] = {
    "log-sum-exp": np.logaddexp.accumulate,
    "product": np.multiply.accumulate,
    "sum": np.add.accumulate,
}


def _cumulated(call: Call, cumulation: CumulationName) -> Lowered:
    """Return a cumulation along any axis but the batch, in the type of the numbers."""
    given = call.given("self")
    axis = None if given is None else given.axis(call.arguments["dim"])
    counted = given is not None and "float32" not in (given.type, call.type)
    if given is None or axis is None or not (counted or call.type == given.type):
        return ()
    return (Cumulate(given.value, cumulation, axis),)


register(
    Cumulate,
    {
        "cumprod": partial(_cumulated, cumulation="product"),
        "cumsum": partial(_cumulated, cumulation="sum"),
        "logcumsumexp": partial(_cumulated, cumulation="log-sum-exp"),
    },
)
