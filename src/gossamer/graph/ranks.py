"""How many dimensions a result has, as far as that follows from layers and functions alone."""

from collections.abc import Sequence

from torch import nn

from gossamer.graph.axes import REDUCING, flattened_dimensions, is_pointwise, operation
from gossamer.graph.calls import Call
from gossamer.graph.operations import POOLS

_KEEPING = frozenset({
    "linear", "layernorm", "rmsnorm", "groupnorm", "batchnorm", "batchnorm1d", "syncbatchnorm",
    "instancenorm", "softmax", "logsoftmax", "normalize", "cat", "concat", "transpose", "swapaxes",
    "permute", "movedim", "interpolate", "pad", "flip", "roll", "cumsum",
})  # fmt: skip
"""Functions whose result has as many dimensions as their first value."""


def rank_of(call: Call) -> int | None:
    """Return the number of dimensions of a result; None where it does not follow.

    Images are taken to come in batches.
    """
    name = operation(call)
    required = _required_rank(call, name)
    if required is not None:
        return required
    given = [None if value.shape is None else len(value.shape) for value in call.inputs]
    known = [rank for rank in given if rank is not None]
    if is_pointwise(call):
        return max(known, default=None) if len(known) == len(given) else None
    if not given or given[0] is None:
        return None
    if isinstance(call.module, nn.Linear) or name in _KEEPING:
        return given[0]
    dimensions = call.argument(1, "dim")
    if name in REDUCING and dimensions is not None:
        gone = len(dimensions) if isinstance(dimensions, Sequence) else 1
        return given[0] if call.argument(2, "keepdim") else given[0] - gone
    return given[0] + 1 if name == "unsqueeze" else None


def _required_rank(call: Call, name: str) -> int | None:
    """Return the rank that a layer or function fixes whatever it is given."""
    if isinstance(call.module, nn.modules.conv._ConvNd):
        return len(call.module.kernel_size) + 2
    if isinstance(call.module, nn.BatchNorm2d | nn.InstanceNorm2d):
        return 4
    if isinstance(call.module, nn.BatchNorm3d | nn.InstanceNorm3d):
        return 5
    if name.startswith("conv") and name[-2:] in ("1d", "2d", "3d"):
        return int(name[-2]) + 2
    if name in POOLS:
        return POOLS[name] + 2
    if name == "flatten":
        first, last = flattened_dimensions(call)
        return first + 1 if last == -1 and first >= 0 else None
    if name in ("view", "reshape"):
        sizes = call.args[1:]
        inside = sizes[0] if len(sizes) == 1 else sizes
        return len(inside) if isinstance(inside, tuple | list) else None
    return None
