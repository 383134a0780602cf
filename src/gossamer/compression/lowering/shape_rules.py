"""What changes no number or takes channels together: reshapes, concatenations and softmax."""

from collections.abc import Callable, Mapping

from gossamer.compression.lowering.calls import Call, Lowered, Rule
from gossamer.compression.lowering.operations import (
    Concatenate,
    Reshape,
    Softmax,
    network_shape,
    numbers,
)


def _reshape(call: Call) -> Lowered:
    """Return what gives the numbers of a value in the same order; the batch stays the first axis.

    The dimension of the batch is the same before and behind, so that no number changes example.
    """
    shape, result = call.shape("self"), call.shapes[call.node]
    if shape is None or numbers(shape) != numbers(result):
        return ()
    return (Reshape(call.name("self"), network_shape(result)),)


def _moved(call: Call) -> Lowered:
    """Return a transposition that keeps the order of the numbers, as axes of size 1 move."""
    shape, rank = call.shape("self"), len(call.shapes[call.node]) + 1
    order = list(range(rank))
    if "dims" in call.arguments:
        order = [dim % rank for dim in call.arguments["dims"]]
    else:
        first, second = call.arguments["dim0"] % rank, call.arguments["dim1"] % rank
        order[first], order[second] = second, first
    if shape is None or order[0] != 0:
        return ()
    wide = [axis for axis in order if axis and shape[axis - 1] > 1]
    return _reshape(call) if wide == sorted(wide) else ()


def _slice(call: Call) -> Lowered:
    """Return a slice that takes everything."""
    whole = call.shape("self") == call.shapes[call.node] and call.arguments["step"] == 1
    return _reshape(call) if whole else ()


def _expand(call: Call) -> Lowered:
    return _reshape(call) if call.shape("self") == call.shapes[call.node] else ()


def _first(call: Call) -> Lowered:
    return _reshape(call) if call.arguments["index"] == 0 else ()


def _cat(call: Call) -> Lowered:
    """Return values side by side; `hstack` and `column_stack` put them so along their channels."""
    values, rank = call.arguments["tensors"], len(call.shapes[call.node]) + 1
    if call.arguments.get("dim", 1) % rank != 1 or any(v not in call.shapes for v in values):
        return ()
    return (Concatenate(tuple(value.name for value in values)),)


def _softmax(logarithm: bool) -> Callable[[Call], Lowered]:
    def rule(call: Call) -> Lowered:
        rank = len(call.shapes[call.node]) + 1
        if call.arguments["dim"] % rank != 1:
            return ()
        return (Softmax(call.name("self"), logarithm),)

    return rule


RULES: Mapping[str, Rule] = {
    "flatten": _reshape,
    "unflatten": _reshape,
    "view": _reshape,
    "_unsafe_view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "clone": _reshape,
    "contiguous": _reshape,
    "alias": _reshape,
    "detach": _reshape,
    "to": _reshape,
    "_to_copy": _reshape,
    "transpose": _moved,
    "permute": _moved,
    "slice": _slice,
    "expand": _expand,
    "getitem": _first,
    **dict.fromkeys(("cat", "concat", "concatenate", "hstack", "column_stack"), _cat),
    "softmax": _softmax(logarithm=False),
    "_softmax": _softmax(logarithm=False),
    "log_softmax": _softmax(logarithm=True),
    "_log_softmax": _softmax(logarithm=True),
}
