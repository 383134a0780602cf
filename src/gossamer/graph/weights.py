"""Which parameters an operation multiplies computed values with."""

import math

from torch import nn
from torch.nn.parameter import is_lazy

from gossamer.graph.axes import lengths
from gossamer.graph.calls import Graph, Value
from gossamer.graph.operations import PRODUCTS, looks_up, operands

_JOINING = PRODUCTS | {"cat", "concat", "concatenate", "stack", "hstack", "vstack", "block_diag"}


def multiplied_parameters(graph: Graph) -> set[int]:
    """Return the ids of the parameters that are weights of an operation.

    They are operands of a product with values that depend on the input, or tables looked up by
    such values; directly, or through what is computed from parameters and constants alone.
    """
    found: set[int] = set()
    for call in {value.call for value in graph.values if value.call is not None}:
        if not any(value.computed for value in call.inputs):
            continue
        if call.name in PRODUCTS:
            weights = [value for value in operands(call) if not value.computed]
        elif looks_up(call):
            weights = [call.args[0]]
        else:
            continue
        found |= {id(p) for value in weights for p in weights_behind(value)}
    return found


def used_parameters(graph: Graph) -> set[int]:
    """Return the ids of the parameters that any call takes."""
    calls = (value.call for value in graph.values if value.call is not None)
    return {id(v.parameter) for call in calls for v in call.inputs if v.parameter is not None}


def weights_behind(value: Value) -> list[nn.Parameter]:
    """Return the parameters of two or more dimensions whose values an uncomputed value holds.

    Of parameters that are scaled, masked or added up element by element these are the ones of the
    result's size: a scale of each row is no weight.
    """
    if value.parameter is not None:
        parameter = value.parameter
        return [parameter] if is_lazy(parameter) or parameter.dim() > 1 else []
    if value.call is None or value.computed:
        return []
    given = value.call.inputs
    if len(given) > 1 and value.call.name not in _JOINING:
        given = tuple(one for one in given if _as_large(one, value))
    return [parameter for one in given for parameter in weights_behind(one)]


def _as_large(one: Value, result: Value) -> bool:
    own, whole = lengths(one.shape), lengths(result.shape)
    return own is None or whole is None or math.prod(own) == math.prod(whole)
