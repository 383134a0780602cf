"""Normalisation over the channels of each position."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_shape
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, network_shape, random_shape, register
from gossamer.engine.ops.permute import Permute


@dataclass(frozen=True, eq=False)
class ChannelNorm(Operator):
    """Channels of each position scaled to the variance 1 (plus `epsilon`).

    They are shifted to the mean 0 first where `centred` is set, as by layer normalisation over
    features; otherwise they are scaled to the mean square 1 (B. Zhang and R. Sennrich, Root Mean
    Square Layer Normalization, NeurIPS 2019). Then each is multiplied by its `scale`, and its
    `shift` added (both [channels]).
    """

    name = "channel_norm"

    input: Value
    epsilon: float = 1e-5
    centred: bool = True
    scale: Array | None = None
    shift: Array | None = None

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        given = shapes[self.input]
        if self.epsilon < 0:
            raise InputError(f"epsilon is {self.epsilon}, expected 0 or more.")
        for name, numbers in (("scale", self.scale), ("shift", self.shift)):
            expect_shape(name, numbers, given[:1])
        return given

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        if self.centred:
            given = given - given.mean(axis=1, keepdims=True)
        squares = np.square(given).mean(axis=1, keepdims=True)
        found: Array = given / np.sqrt(squares + given.dtype.type(self.epsilon))
        channels = (-1, *(1,) * (given.ndim - 2))
        if self.scale is not None:
            found = found * self.scale.astype(given.dtype, copy=False).reshape(channels)
        if self.shift is not None:
            found = found + self.shift.astype(given.dtype, copy=False).reshape(channels)
        return found

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "ChannelNorm"]:
        shape = random_shape(random)
        scale, shift = random.standard_normal((2, shape[0])).astype(np.float32)
        return shape, cls(0, 0.01, random.random() < 0.5, scale, shift)


def _rms_norm(call: Call) -> Lowered:
    """Return a normalisation over the last axis by the mean square alone."""
    given = call.given("input")
    if given is None or tuple(call.arguments["normalized_shape"]) != given.shape[-1:]:
        return ()
    epsilon, scale = call.arguments["eps"], call.constant("weight")
    if scale is None and call.arguments["weight"] is not None:
        return ()
    least = float(np.finfo(np.float32).eps)  # PyTorch's default in float32
    inner = network_shape(given.shape)
    last = len(inner) - 1
    norm = ChannelNorm(call.step(0), least if epsilon is None else float(epsilon), False, scale)
    return (
        Permute(given.value, (last, *range(last))),
        norm,
        Permute(call.step(1), (*range(1, last + 1), 0)),
    )


register(ChannelNorm, {"rms_norm": _rms_norm}, row_by_row=("rms_norm",))
