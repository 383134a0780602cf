"""The axes of a value in another order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.fields import Array, Indices, Shape, Value
from gossamer.engine.operator import (
    Call,
    Lowered,
    Operator,
    network_shape,
    random_shape,
    register,
)
from gossamer.engine.ops.reshape import Reshape


@dataclass(frozen=True)
class Permute(Operator):
    """The axes of a value in another order: `order` says which one each axis of the result was."""

    name = "permute"

    input: Value
    order: Indices

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        if sorted(self.order) != list(range(len(given))):
            raise InputError(
                f"order is {list(self.order)}, expected each of the {len(given)} axes once that "
                "it reads."
            )
        return tuple(given[axis] for axis in self.order)

    def run(self, values: Mapping[Value, Array]) -> Array:
        return values[self.input].transpose(0, *(axis + 1 for axis in self.order))

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Permute"]:
        shape = random_shape(random)
        return shape, cls(0, tuple(map(int, random.permutation(len(shape)))))


def permuted(value: Value, shape: Shape, order: Sequence[int], result: Shape) -> Operator:
    """Return what brings the axes of a value of PyTorch in another order.

    Parameters
    ----------
    value, shape
        What is read, without the batch.
    order
        Which axis of it each one of the result was.
    result
        The shape of the result.
    """
    wide = [axis for axis in order if shape[axis] > 1]
    if wide == sorted(wide):  # axes of length 1 move alone
        return Reshape(value, network_shape(result))
    if len(shape) == 2:
        return Permute(value, (2, 1, 0))
    return Permute(value, tuple(order))


def _transposed(call: Call) -> Lowered:
    """Return a transposition that leaves the batch where it is."""
    given, rank = call.given("self"), len(call.shape) + 1
    order = list(range(rank))
    if "dims" in call.arguments:
        order = [dim % rank for dim in call.arguments["dims"]]
    else:
        first, second = call.arguments["dim0"] % rank, call.arguments["dim1"] % rank
        order[first], order[second] = second, first
    if given is None or order[0] != 0:
        return ()
    return (permuted(given.value, given.shape, [axis - 1 for axis in order[1:]], call.shape),)


def _shuffled(call: Call) -> Lowered:
    """Return rearrangements between channels and pixels, as reshapes around a transposition."""
    given = call.given("self")
    if given is None or len(given.shape) != 3:
        return ()
    channels, height, width = given.shape
    if "downscale_factor" in call.arguments:
        factor = call.arguments["downscale_factor"]
        parted: Shape = (channels, height // factor, factor, width // factor, factor)
        order: Indices = (0, 2, 4, 1, 3)
    else:
        groups = call.arguments["groups"]
        parted, order = (groups, channels // groups, height, width), (1, 0, 2, 3)
    return (
        Reshape(given.value, parted),
        Permute(call.step(0), order),
        Reshape(call.step(1), call.shape),
    )


_TRANSPOSED = ("transpose", "permute")
_SHUFFLED = ("pixel_unshuffle", "channel_shuffle", "native_channel_shuffle")
_RULES = dict.fromkeys(_TRANSPOSED, _transposed) | dict.fromkeys(_SHUFFLED, _shuffled)
register(Permute, _RULES, any_type=_RULES)
