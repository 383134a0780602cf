"""Whether whole numbers that are computed are held exactly, where all numbers are float32.

Numbers of examples, places and tokens are far below 2**24, up to which float32 holds all. What is
added to them is looked at: how large it may be, and who reads it.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, fx

from gossamer.compression.lowering.tracing import operation_name

MOST = 2**24
_KEEPING = frozenset(
    {"abs", "alias", "amax", "amin", "cat", "clone", "detach", "expand", "flatten", "getitem",
     "index_select", "max", "maximum", "min", "minimum", "neg", "permute", "repeat", "reshape",
     "select", "slice", "squeeze", "stack", "transpose", "unflatten", "unsqueeze", "view", "where",
     "gather", "gossamer::at_places", "gossamer::ranked", "masked_fill", "_unsafe_view",
     "contiguous", "scatter"}
)  # fmt: skip
"""Functions that give no number larger than those that they read."""
_PASSING = frozenset(
    {"add", "alias", "cat", "clamp", "clamp_min", "clone", "expand", "reshape", "select", "slice",
     "squeeze", "stack", "sub", "to", "_to_copy", "type_as", "unsqueeze", "view", "where"}
)  # fmt: skip
_LOOKING_UP = frozenset({"index", "gather", "gossamer::at_places", "embedding"})


def are_exact(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> bool:
    """Tell whether float32 does with the whole numbers of a sum or product what PyTorch does.

    It holds them, or they are up to twice as large and only looked up, where anything near 2**24
    lies beyond the end, or become float32, which rounds them.
    """
    if _largest(node, fixed) <= MOST:
        return True
    largest = max(_largest(one, fixed) for one in [node, *node.args[:3]])
    added = operation_name(node) in ("add", "sub", "where")
    return largest <= 2 * MOST and added and _looked_up(node)


def are_held(given: Iterable[Any], fixed: Mapping[fx.Node, Tensor]) -> bool:
    """Tell whether float32 holds all constants and plain whole numbers among what a call reads."""
    return all(
        _largest(one, fixed) <= MOST
        for one in given
        if isinstance(one, int) or (one in fixed and not fixed[one].is_floating_point())
    )


def _looked_up(node: fx.Node, *, summed: bool = False) -> bool:
    """Tell whether numbers are only looked up in what is at most half as long as float32 counts.

    They may become float32, too, but not where they are `summed`: what is rounded twice differs.
    """
    return all(_is_looked_up(user, summed=summed) for user in node.users)


def _is_looked_up(user: fx.Node, *, summed: bool) -> bool:
    name, value = operation_name(user), user.meta.get("val")
    if not isinstance(value, Tensor):
        return False  # as where a model returns them
    if _is_short(user) or (value.is_floating_point() and not summed):
        return True
    return name in _PASSING and _looked_up(user, summed=summed or name in ("add", "sub"))


def _is_short(user: fx.Node) -> bool:
    if operation_name(user) not in _LOOKING_UP:
        return False
    sizes = user.all_input_nodes[0].meta["val"].shape
    return all(size <= MOST // 2 for size in sizes if isinstance(size, int))


def _largest(node: Any, fixed: Mapping[fx.Node, Tensor]) -> float:
    """Return the largest magnitude that a whole number may have; infinite if that is not known."""
    if not isinstance(node, fx.Node):
        numbers = node if isinstance(node, list | tuple) else (node,)
        known = [abs(one) for one in numbers if isinstance(one, int | float)]
        return max(known, default=math.inf)
    if node in fixed:
        held = fixed[node]
        return float(held.abs().max()) if held.numel() else 0.0
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.is_floating_point():
        return math.inf
    if str(value.dtype) == "torch.bool":
        return 1.0
    return float(MOST) if node.op == "placeholder" else _computed(node, fixed)


def _computed(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> float:
    name, read = operation_name(node), node.all_input_nodes
    if name in ("argmax", "argmin") or (name == "gossamer::ranked" and node.args[-1]):
        return float(_count(read[0]))
    if name in ("to", "_to_copy", "type_as"):
        return _largest(read[0], fixed)
    if name in ("clamp", "clamp_min", "clamp_max"):
        return max(_largest(read[0], fixed), *(_largest(one, fixed) for one in node.args[1:]))
    if name in ("add", "sub", "rsub") and not node.kwargs:
        return sum(_largest(one, fixed) for one in node.args[:2])
    if name == "mul":
        return math.prod(_largest(one, fixed) for one in node.args[:2])
    if name in ("sum", "cumsum"):
        return _count(read[0]) * _largest(read[0], fixed)
    if name in _KEEPING:
        plain = [one for one in node.args[1:3] if isinstance(one, int | float)]
        number = plain if name in ("masked_fill", "where") else []
        values = [one for one in read if _is_value(one, fixed)]
        return max((_largest(one, fixed) for one in [*values, *number]), default=math.inf)
    return math.inf


def _is_value(node: fx.Node, fixed: Mapping[fx.Node, Tensor]) -> bool:
    return node in fixed or isinstance(node.meta.get("val"), Tensor)


def _count(node: fx.Node) -> float:
    """Return how many numbers one example of a value has at most."""
    sizes = [size for size in node.meta["val"].shape if isinstance(size, int)]
    return math.prod(sizes)
