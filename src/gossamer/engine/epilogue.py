"""What an operator does with its sums before they are stored, and which axes its values have."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.activations import IDENTITY, Activation, ActivationName, activate
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.windows import Pooling


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What happens to the sums of an operator before they are stored, in this order.

    The value `residual` (of the same shape) is added, the activation applied, each channel
    multiplied by `scale` and `shift` added (both [channels]), and windows pooled.
    """

    residual: Value | None = None
    activation: Activation = IDENTITY
    scale: Array | None = None
    shift: Array | None = None
    pooling: Pooling | None = None

    @property
    def stages(self) -> tuple[int, ...]:
        """The places in the order of what is there: 1 a sum, 2 an activation, and so on."""
        affine = self.scale is not None or self.shift is not None
        there = (
            self.residual is not None, self.activation != IDENTITY, affine, self.pooling is not None
        )  # fmt: skip
        return tuple(number for number, is_there in enumerate(there, start=1) if is_there)

    def infer_shape(self, shape: Shape, shapes: Mapping[Value, Shape]) -> Shape:
        """Return the shape of what comes of sums of a shape.

        Raises
        ------
        InputError
            If something does not fit the sums.
        """
        if self.residual is not None and shapes[self.residual] != shape:
            raise InputError(
                f"residual has shape {list(shapes[self.residual])}, expected {list(shape)}, "
                "that of the sums."
            )
        for name in ("scale", "shift"):
            expect_shape(name, getattr(self, name), shape[:1])
        if self.pooling is None:
            return shape
        if len(shape) != 3:
            raise InputError(
                f"pooling of a value of shape {list(shape)}, expected [channels, height, width]."
            )
        return self.pooling.infer_shape(shape)

    def run(self, sums: Array, values: Mapping[Value, Array]) -> Array:
        """Finish sums [N, ...]."""
        if self.residual is not None:
            sums = sums + values[self.residual]
        sums = activate(self.activation, sums)
        if self.scale is not None:
            sums = sums * _along_channels(self.scale, sums)
        if self.shift is not None:
            sums = sums + _along_channels(self.shift, sums)
        return sums if self.pooling is None else self.pooling.run(sums)

    @classmethod
    def sampled(
        cls, random: np.random.Generator, channels: int, *, pooled: bool = False
    ) -> "Epilogue":
        """Return one with random fields for sums of so many channels, for a test."""
        scale, shift = random.standard_normal((2, channels)).astype(np.float32)
        pooling = Pooling("max", (1, 1), (1, 1)) if pooled and random.random() < 0.5 else None
        activation = Activation(get_args(ActivationName)[int(random.integers(11))], 0.5)
        if random.random() < 0.5:
            return cls(activation=activation, pooling=pooling)
        return cls(None, activation, scale, shift, pooling)


NOTHING = Epilogue()


def unpooled(operator: Any) -> Any:
    """Return an operator that does not pool what it computes."""
    epilogue = getattr(operator, "epilogue", None)
    if not isinstance(epilogue, Epilogue) or epilogue.pooling is None:
        return operator
    return replace(operator, epilogue=replace(epilogue, pooling=None))


def _along_channels(numbers: Array, like: Array) -> Array:
    return numbers.astype(like.dtype).reshape(-1, *(1,) * (like.ndim - 2))


def expect_axes(shape: Shape, *axes: str, advice: str = "") -> None:
    """Refuse a value that has other axes than an operator takes."""
    if len(shape) != len(axes):
        raise InputError(
            f"reads a value of shape {list(shape)}, expected [{', '.join(axes)}]{advice}."
        )


def expect_axis(shape: Shape, axis: int) -> None:
    """Refuse an axis that a value does not have."""
    if axis >= len(shape):
        raise InputError(
            f"axis is {axis}, expected at most {len(shape) - 1} for a value of shape {list(shape)}."
        )


def expect_shape(name: str, array: Array | None, *shapes: Shape) -> None:
    """Refuse an array that has none of some shapes."""
    if array is not None and array.shape not in shapes:
        expected = next((shape for shape in shapes if len(shape) == array.ndim), shapes[0])
        raise InputError(
            f"{name} is {array.dtype} {list(array.shape)}, expected {array.dtype} {list(expected)}."
        )
