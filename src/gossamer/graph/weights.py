"""Which parameters an operation multiplies computed values with."""

import math

from torch import nn
from torch.nn.parameter import is_lazy

from gossamer.graph.axes import lengths
from gossamer.graph.calls import Call, Graph, Value
from gossamer.graph.operations import PRODUCTS, has_data, is_whole, looks_up, weight_operands

_JOINING = PRODUCTS | {"cat", "concat", "concatenate", "stack", "hstack", "vstack", "block_diag"}


def multiplied_parameters(graph: Graph) -> set[int]:
    """Return the ids of the parameters that are weights of an operation.

    Of what is computed within a layer that is kept whole only its own parameters count: what it
    was given is data.
    """
    found: set[int] = set()
    for call in {value.call for value in graph.values if value.call is not None}:
        weights = {id(parameter) for parameter in weights_of(call)}
        if weights and call.within is not None:
            weights &= {id(parameter) for parameter in call.within.parameters()}
        found |= weights
    return found


def used_parameters(graph: Graph) -> set[int]:
    """Return the ids of the parameters that any call takes."""
    calls = {value.call for value in graph.values if value.call is not None}
    return {id(v.parameter) for call in calls for v in call.inputs if v.parameter is not None}


def weights_of(call: Call) -> list[nn.Parameter]:
    """Return the parameters that are weights of a function; none for a layer that is kept whole.

    They are the operands of a product of which the others depend on the input, or a table looked
    up by what does; directly, or through what is computed from parameters and constants alone. Of
    functions that tell weights from data (linear, convolution, attention) the data is none: learned
    queries are no weights. Of a matrix product, which does not tell, they are.
    """
    table = call.args[:1] if looks_up(call) else ()
    return [
        parameter
        for value in (*weight_operands(call), *table)
        if not value.computed
        for parameter in weights_behind(value)
    ]


def weights_behind(value: Value) -> list[nn.Parameter]:
    """Return the parameters of two or more dimensions whose values an uncomputed value holds.

    Of parameters that are scaled, masked or added up element by element these are the ones of the
    result's size: a scale of each row is no weight. What a layer was given, such as learned
    queries, is not held by its result.
    """
    found: list[nn.Parameter] = []
    pending, seen = [value], {value}
    while pending:
        one = pending.pop()
        if (parameter := one.parameter) is not None:
            found += [parameter] if is_lazy(parameter) or parameter.dim() > 1 else []
        new = [before for before in _held_by(one) if before not in seen]
        pending += new
        seen.update(new)
    return found


def _held_by(value: Value) -> list[Value]:
    """Return the values whose numbers an uncomputed value is made of."""
    call = value.call
    if call is None or value.computed or (call.module is not None and is_whole(call.module)):
        return []
    given = [*weight_operands(call)] if has_data(call) else [*call.inputs]
    if len(given) > 1 and call.name not in _JOINING:
        return [one for one in given if _as_large(one, value)]
    return given


def _as_large(one: Value, result: Value) -> bool:
    own, whole = lengths(one.shape), lengths(result.shape)
    return own is None or whole is None or math.prod(own) == math.prod(whole)
