"""Attention of several heads, without ever holding the scores of a long sequence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import expect_axes, expect_shape
from gossamer.engine.fields import Array, Count, Doubles, Shape, Value
from gossamer.engine.operator import Call, Given, Lowered, Operator, network_shape, register
from gossamer.engine.ops.constant import Constant
from gossamer.engine.ops.expand import Expand
from gossamer.engine.ops.function import Function
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
    without any pair gives zeros. Both arrays are [1 or heads, queries, keys]. What is computed may
    be added, too: `mask`, [1 or heads, 1 or queries, keys], minus infinity where a pair does not
    count. As PyTorch's `scaled_dot_product_attention`.
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
    mask: Value | None = None

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
        if self.mask is not None:
            self._check_mask(shapes[self.mask], (query[2], key[2]))
        return (value[0] // self.key_heads * self.heads, 1, query[2])

    def _check_mask(self, mask: Shape, pairs: Shape) -> None:
        known = len(mask) == 3 and mask[0] in (1, self.heads) and mask[1] in (1, pairs[0])
        if not known or mask[2] != pairs[1]:
            raise InputError(
                f"mask has shape {list(mask)}, expected 1 or {self.heads}, 1 or {pairs[0]}, "
                f"{pairs[1]}."
            )

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
            scores = scores * query.dtype.type(self.scale)
            if self.mask is not None:
                mask = values[self.mask]
                scores = scores + (mask[:, :, part] if mask.shape[2] > 1 else mask)
            shares = self._shares(scores, start)
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
        mask = 0 if width == 1 and random.random() < 0.5 else None
        drawn = cls(
            0,
            0,
            0,
            key_heads,
            key_heads,
            1 / math.sqrt(width),
            random.random() < 0.5,
            *arrays,
            mask,
        )
        return (key_heads * width, 1, length), drawn


def _attention(call: Call) -> Lowered:
    """Return attention over values [..., heads, positions, features] of PyTorch.

    Axes before the heads, as of windows, are taken for more heads.
    """
    found = _operands(call)
    if found is None or call.arguments["dropout_p"]:
        return ()
    steps, (query, key, value) = found
    ranks = {len(one.shape) for one in (query, key, value)}
    if len(ranks) != 1 or ranks.pop() < 2 or len({one.shape[:-3] for one in (query, key)}) > 1:
        return ()
    read = []
    for one in (query, key, value):
        steps += _features_first(call, one, len(steps))
        read.append(call.step(len(steps) - 1))
    pairs = (math.prod(query.shape[:-2]), query.shape[-2], key.shape[-2])
    causal = bool(call.arguments["is_causal"])
    constant = _mask(call, query.shape[:-2], pairs[1:])
    computed = _computed_mask(call, query.shape[:-2], pairs[1:], len(steps))
    if constant is None and computed is None:
        return ()
    kept, bias = constant or (None, None)
    if kept is not None and kept.shape[0] == 1 and (kept == np.tri(*pairs[1:])).all():
        kept, causal = None, True
    steps += computed or ()
    scale = call.arguments["scale"]
    attention = Attention(
        query=read[0],
        key=read[1],
        value=read[2],
        heads=pairs[0],
        key_heads=math.prod(key.shape[:-2]),
        scale=1 / math.sqrt(query.shape[-1]) if scale is None else float(scale),
        causal=causal,
        kept=kept,
        bias=bias,
        mask=call.step(len(steps) - 1) if computed else None,
    )
    *heads, positions, depth = call.shape
    if not heads:
        return (*steps, attention, Permute(call.step(len(steps)), (2, 1, 0)))
    after = (
        Reshape(call.step(len(steps)), (math.prod(heads), depth, positions)),
        Permute(call.step(len(steps) + 1), (0, 2, 1)),
    )
    last = (Reshape(call.step(len(steps) + 2), call.shape),) if len(heads) > 1 else ()
    return (*steps, attention, *after, *last)


def _operands(call: Call) -> tuple[list[Operator], list[Given]] | None:
    """Return queries, keys and values, and what gives those that are the same for all examples."""
    names = ("query", "key", "value")
    computed = [one for name in names if (one := call.given(name)) is not None]
    steps: list[Operator] = []
    read: list[Given] = []
    for name in names:
        given, numbers = call.given(name), call.constant(name)
        if given is None:
            if numbers is None or numbers.ndim < 3 or len(numbers) != 1 or not computed:
                return None
            shape = network_shape(numbers.shape[1:])
            steps.append(Constant(computed[0].value, numbers.reshape(shape), shape))
            given = Given(call.step(len(steps) - 1), numbers.shape[1:])
        read.append(given)
    return steps, read


def _features_first(call: Call, given: Given, first: int) -> list[Operator]:
    """Return [..., positions, features] as [all heads' features, 1, positions]."""
    *heads, positions, width = given.shape
    if not heads:
        return [Permute(given.value, (2, 1, 0))]
    number = math.prod(heads)
    merged = [Reshape(given.value, (number, positions, width))] if len(heads) > 1 else []
    value = call.step(first) if merged else given.value
    return [
        *merged,
        Permute(value, (0, 2, 1)),
        Reshape(call.step(first + len(merged)), (number * width, 1, positions)),
    ]


def _mask(call: Call, heads: Shape, pairs: Shape) -> tuple[Doubles | None, Doubles | None] | None:
    """Return what is kept and what is added of a constant mask; None if it is computed."""
    if call.arguments["attn_mask"] is None:
        return None, None
    mask = call.constant("attn_mask")
    if mask is None:
        return None
    if mask.ndim > len(heads) + 2 and len(mask) == 1:
        mask = mask[0]
    try:
        spread = np.broadcast_to(mask, (*heads, *pairs))
    except ValueError:  # it differs from example to example
        return None
    alike = mask.ndim == 2 or mask.shape[:-2] == (1,) * (mask.ndim - 2)
    spread = spread.reshape(-1, *pairs)[: 1 if alike else None]
    if call.is_boolean("attn_mask"):
        return (None if spread.all() else spread.astype(np.float64)), None
    kept = ~np.isneginf(spread)
    bias = np.where(kept, spread, 0.0)
    return (None if kept.all() else kept.astype(np.float64)), (bias if bias.any() else None)


def _computed_mask(call: Call, heads: Shape, pairs: Shape, first: int) -> Lowered | None:
    """Return what makes numbers to be added of a computed mask, as steps of a call from one on."""
    mask = call.given("attn_mask")
    if mask is None or len(mask.shape) != len(heads) + 2 or mask.shape[-1] != pairs[1]:
        return None
    steps: list[Operator] = []
    shape = mask.shape
    if math.prod(shape[:-2]) > 1 and shape[:-2] != heads:
        shape = (*heads, *shape[-2:])
        steps.append(Expand(mask.value, shape))
    flat = (math.prod(shape[:-2]), *shape[-2:])
    steps.append(Reshape(call.step(first) if steps else mask.value, flat))
    if mask.type == "bool":  # the logarithm of 1 is 0, that of 0 minus infinity
        steps.append(Function(call.step(first + len(steps) - 1), "log"))
    return tuple(steps)


register(
    Attention,
    {"scaled_dot_product_attention": _attention},
    any_type=("scaled_dot_product_attention",),
)
