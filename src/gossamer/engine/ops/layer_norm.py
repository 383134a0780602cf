"""Normalisation over the last axes of each example."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_shape
from gossamer.engine.fields import Array, Count, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, network_shape, random_shape, register
from gossamer.engine.ops.pointwise import affine
from gossamer.engine.ops.reshape import Reshape


@dataclass(frozen=True, eq=False)
class LayerNorm(Operator):
    """Numbers along the last axes, shifted to the mean 0 and scaled to the variance 1.

    The variance is that of all of them, plus `epsilon`; then each is multiplied by its `scale`, and
    its `shift` added (both of the lengths of those axes). As PyTorch's `layer_norm`.
    """

    name = "layer_norm"

    input: Value
    axes: Count = 1
    epsilon: float = 1e-5
    scale: Array | None = None
    shift: Array | None = None

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        if self.axes > len(given):
            raise InputError(
                f"axes is {self.axes}, expected at most {len(given)} for a value of shape "
                f"{list(given)}."
            )
        if self.epsilon < 0:
            raise InputError(f"epsilon is {self.epsilon}, expected 0 or more.")
        for name, numbers in (("scale", self.scale), ("shift", self.shift)):
            expect_shape(name, numbers, given[-self.axes :])
        return given

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        axes = tuple(range(-self.axes, 0))
        centred = given - given.mean(axis=axes, keepdims=True)
        variance = np.square(centred).mean(axis=axes, keepdims=True)
        found: Array = centred / np.sqrt(variance + given.dtype.type(self.epsilon))
        if self.scale is not None:
            found = found * self.scale.astype(given.dtype, copy=False)
        if self.shift is not None:
            found = found + self.shift.astype(given.dtype, copy=False)
        return found

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "LayerNorm"]:
        shape = random_shape(random)
        axes = int(random.integers(1, len(shape) + 1))
        scale, shift = random.standard_normal((2, *shape[-axes:])).astype(np.float32)
        return shape, cls(0, axes, 0.01, scale, shift if axes % 2 else None)


def _layer_norm(call: Call) -> Lowered:
    given, lengths = call.given("input"), tuple(call.arguments["normalized_shape"])
    if given is None or given.shape[-len(lengths) :] != lengths:  # reaches into the batch
        return ()
    whole = len(lengths) == len(given.shape)
    inner = network_shape(given.shape) if whole else lengths  # a whole sequence is an image
    scale, shift = call.constant("weight"), call.constant("bias")
    return (
        LayerNorm(
            given.value,
            len(inner),
            float(call.arguments["eps"]),
            None if scale is None else scale.reshape(inner),
            None if shift is None else shift.reshape(inner),
        ),
    )


def _group_norm(call: Call) -> Lowered:
    return _by_groups(call, int(call.arguments["num_groups"]))


def _instance_norm(call: Call) -> Lowered:
    return _by_groups(call, call.shape[0]) if call.arguments["use_input_stats"] else ()


def _by_groups(call: Call, groups: int) -> Lowered:
    """Return a normalisation over all places of each group of channels."""
    given = call.given("input")
    if given is None:
        return ()
    channels = given.shape[0]
    norm: tuple[Operator, ...] = (
        Reshape(given.value, (groups, 1, math.prod(given.shape) // groups)),
        LayerNorm(call.step(0), 2, float(call.arguments["eps"])),
        Reshape(call.step(1), network_shape(given.shape)),
    )
    constants = [call.constant(name) for name in ("weight", "bias")]
    if all(found is None for found in constants):
        return norm
    scale, shift = (
        np.full(channels, default) if found is None else found
        for found, default in zip(constants, (1.0, 0.0), strict=True)
    )
    return (*norm, affine(call.step(2), scale, shift))


_RULES = dict.fromkeys(("layer_norm", "native_layer_norm"), _layer_norm)
_GROUPED = {"group_norm": _group_norm, "instance_norm": _instance_norm}
register(LayerNorm, _RULES | _GROUPED, row_by_row=_RULES)
