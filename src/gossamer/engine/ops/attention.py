"""Attention of several heads, without ever holding the scores of a long sequence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axes, expect_shape
from gossamer.engine.fields import Array, Count, Doubles, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, register
from gossamer.engine.ops.permute import Permute
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.weights import NUMBERS_AT_ONCE


@dataclass(frozen=True, eq=False)
class Attention(Operator):
    """Values averaged by how well their keys fit a query, for each head and each query.

    Queries are [heads * width, 1, queries], keys [key_heads * width, 1, keys], values
    [key_heads * depth, 1, keys]; the result is [heads * depth, 1, queries]. Query heads share the
    keys and values of `heads / key_heads` neighbours (grouped queries; J. Ainslie et al., EMNLP
    2023). A score is the product of a query and a key times `scale`, plus its `bias`; where `kept`
    is 0, or the key comes after the query and `causal` is set, the pair does not count. A query
    without any pair gives zeros. Both arrays are [1 or heads, queries, keys]. As PyTorch's
    `scaled_dot_product_attention`.
    """

    name = "attention"

    query: Value
    key: Value
    value: Value
    heads: Count
    key_heads: Count
    scale: float
    causal: bool = False
    kept: Array | None = None
    bias: Array | None = None

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        query, key, value = (shapes[one] for one in (self.query, self.key, self.value))
        for shape in (query, key, value):
            expect_axes(shape, "features", "1", "positions")
            if shape[1] != 1:
                raise InputError(
                    f"reads a value of shape {list(shape)}, expected [features, 1, positions]."
                )
        if self.heads % self.key_heads or query[0] % self.heads or value[0] % self.key_heads:
            raise InputError(
                f"heads is {self.heads} and key_heads {self.key_heads}, expected that the one "
                f"divides {query[0]} features, the other {value[0]} and the heads."
            )
        expected = (query[0] // self.heads * self.key_heads, 1, value[2])
        if key != expected:
            raise InputError(f"key has shape {list(key)}, expected {list(expected)}.")
        for name, array in (("kept", self.kept), ("bias", self.bias)):
            pairs = (query[2], key[2])
            expect_shape(name, array, (1, *pairs), (self.heads, *pairs))
        return (value[0] // self.key_heads * self.heads, 1, query[2])

    def run(self, values: Mapping[Value, Array]) -> Array:
        query, key, value = (values[one] for one in (self.query, self.key, self.value))
        count, _, _, queries = query.shape
        heads, keys = self.heads, key.shape[-1]
        by_head = query.reshape(count, heads, -1, queries)
        shared = heads // self.key_heads
        keys_by_head = key.reshape(count, self.key_heads, -1, keys).repeat(shared, axis=1)
        values_by_head = value.reshape(count, self.key_heads, -1, keys).repeat(shared, axis=1)
        result = np.empty((count, heads, values_by_head.shape[2], queries), query.dtype)
        step = max(1, NUMBERS_AT_ONCE // max(1, count * heads * keys))
        for start in range(0, queries, step):
            part = slice(start, start + step)
            scores = by_head[..., part].swapaxes(2, 3) @ keys_by_head
            shares = self._shares(scores * query.dtype.type(self.scale), start)
            result[..., part] = values_by_head @ shares.swapaxes(2, 3)
        return result.reshape(count, -1, 1, queries)

    def _shares(self, scores: Array, start: int) -> Array:
        """Return how much each key counts, [N, heads, queries from `start`, keys]."""
        part = slice(start, start + scores.shape[2])
        if self.bias is not None:
            scores = scores + self.bias[:, part].astype(scores.dtype)
        counts = np.ones(scores.shape[2:], bool)
        if self.kept is not None:
            counts = self.kept[:, part] != 0
        if self.causal:
            counts = counts & np.tri(scores.shape[2], scores.shape[3], start, dtype=bool)
        scores = np.where(counts, scores, scores.dtype.type(-np.inf))
        peak = scores.max(axis=-1, keepdims=True)
        powers = np.exp(scores - np.where(np.isneginf(peak), 0, peak))
        total = powers.sum(axis=-1, keepdims=True)
        shares: Array = powers / np.where(total == 0, 1, total)
        return shares

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Attention"]:
        key_heads, shared, width, length = map(int, random.integers(1, [4, 2, 5, 40]))
        if shared > 1 or random.random() < 0.5:  # all read one value, which has to fit
            shared = 1
        pairs = (random.choice([1, key_heads]), length, length)
        kept = (random.random(pairs) < 0.7).astype(np.float32)
        bias = random.standard_normal(pairs).astype(np.float32)
        arrays = (kept if random.random() < 0.5 else None, bias if random.random() < 0.5 else None)
        drawn = cls(
            0, 0, 0, key_heads, key_heads, 1 / math.sqrt(width), random.random() < 0.5, *arrays
        )
        return (key_heads * width, 1, length), drawn


def _attention(call: Call) -> Lowered:
    """Return attention over values [heads, positions, features] of PyTorch."""
    found = [call.given(name) for name in ("query", "key", "value")]
    query, key, value = found
    if query is None or key is None or value is None or call.arguments["dropout_p"]:
        return ()
    if any(len(one.shape) != 3 for one in (query, key, value)):
        return ()
    pairs = _mask(call, (query.shape[0], query.shape[1], key.shape[1]))
    if pairs is None:
        return ()
    scale = call.arguments["scale"]
    steps: list[Operator] = []
    for one in (query, key, value):
        heads, positions, width = one.shape
        steps += [
            Permute(one.value, (0, 2, 1)),
            Reshape(call.step(len(steps)), (heads * width, 1, positions)),
        ]
    attention = Attention(
        call.step(1),
        call.step(3),
        call.step(5),
        heads=query.shape[0],
        key_heads=key.shape[0],
        scale=1 / math.sqrt(query.shape[2]) if scale is None else float(scale),
        causal=bool(call.arguments["is_causal"]),
        kept=pairs[0],
        bias=pairs[1],
    )
    heads, positions, depth = call.shape
    after = (
        Reshape(call.step(6), (heads, depth, positions)),
        Permute(call.step(7), (0, 2, 1)),
    )
    return (*steps, attention, *after)


def _mask(call: Call, shape: Shape) -> tuple[Doubles | None, Doubles | None] | None:
    """Return what is kept and what is added of a constant mask; None if it is computed."""
    if call.arguments["attn_mask"] is None:
        return None, None
    mask = call.constant("attn_mask")
    if mask is None:
        return None
    mask = mask.reshape(mask.shape[-3:]) if mask.ndim > 3 and len(mask) == 1 else mask
    try:
        heads = mask.shape[0] if mask.ndim == 3 else 1
        spread = np.broadcast_to(mask, (heads, *shape[1:]))
    except ValueError:  # it differs from example to example
        return None
    if heads not in (1, shape[0]):
        return None
    if call.is_boolean("attn_mask"):
        return (None if spread.all() else spread.astype(np.float64)), None
    kept = ~np.isneginf(spread)
    bias = np.where(kept, spread, 0.0)
    return (None if kept.all() else kept.astype(np.float64)), (bias if bias.any() else None)


register(Attention, {"scaled_dot_product_attention": _attention})
