"""Which normalisations act on the units of a layer."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.nn.parameter import is_lazy

from gossamer.graph.axes import LOST, Axis, followed, is_pointwise, keeps_zero, scaled_by
from gossamer.graph.calls import Call, Graph, Value
from gossamer.graph.operations import NORMALISATIONS
from gossamer.networks.normalisation import normalised_axis

_FUNCTIONS = frozenset({"batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"})
_PLACES = {
    nn.BatchNorm2d: 2, nn.BatchNorm3d: 3,
    nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3,
}  # fmt: skip
"""Dimensions behind the channels, of normalisations that fix their number."""


@dataclass(frozen=True, eq=False)
class Source:
    """A layer whose units are followed.

    Parameters
    ----------
    modules
        Those that hold its weight.
    weight
        The weight itself, which functions may use.
    units
        How many it has.
    """

    modules: Sequence[nn.Module]
    weight: nn.Parameter
    units: int


@dataclass(frozen=True, eq=False)
class Behind:
    """What normalises the units of a layer.

    Parameters
    ----------
    parameters
        Scales and shifts, each with the dimension along which the units lie.
    unclear
        Calls of which it is not known whether they normalise units or something else.
    """

    parameters: list[tuple[nn.Parameter, int]] = field(default_factory=list)
    unclear: list[Call] = field(default_factory=list)


def normalisations_behind(graph: Graph, sources: Sequence[Source]) -> list[Behind]:
    """Return, for each layer, the normalisations that act on its units.

    They follow it directly, or behind functions that keep units apart (activations, dropout,
    pooling, moved axes). One that also acts on something else than units of these layers is left
    out.
    """
    reached: set[Call] = set()
    results = []
    for source in sources:
        behind = Behind()
        for call, axis in _normalising(graph, source):
            found = _along(call, axis, source.units)
            if found is None:
                behind.unclear.append(call)
            elif found:
                behind.parameters.extend(found)
            if found is None or found:
                reached.add(call)
        results.append(behind)
    calls = {value.call for value in graph.values if value.call is not None}
    elsewhere = {id(p) for call in calls if call not in reached for p in parameters_of(call)}
    return [
        Behind(
            [(p, dimension) for p, dimension in behind.parameters if id(p) not in elsewhere],
            [call for call in behind.unclear if not elsewhere & set(map(id, parameters_of(call)))],
        )
        for behind in results
    ]


def parameters_of(call: Call) -> list[nn.Parameter]:
    """Return the scale and shift of a normalisation; none for another call."""
    if isinstance(call.module, NORMALISATIONS):
        return list(call.module.parameters(recurse=False))
    if call.name in _FUNCTIONS and not call.nested:
        return [value.parameter for value in call.inputs if value.parameter is not None]
    return []


def _normalising(graph: Graph, source: Source) -> Iterator[tuple[Call, Axis]]:
    """Yield the first normalisations on every path from a layer, and where its units lie there."""
    reached: dict[Value, Axis] = dict(_results(graph, source))
    zero = set(reached)  # where a unit without weights and bias gives zeros
    pending = [(user.order, user) for value in reached for user in graph.users.get(value, ())]
    heapq.heapify(pending)
    while pending:
        _, value = heapq.heappop(pending)
        call = value.call
        assert call is not None
        if value in reached:
            continue
        inputs = dict.fromkeys(call.inputs)
        given = [one for one in inputs if one.computed or one in reached]
        axis = _axis_given(call, given, reached, zero)
        if axis == LOST:
            continue
        if is_normalisation(call):
            yield call, axis
            continue
        axis = followed(call, axis, given[0], value)
        if axis == LOST or not _as_long(value, axis, source.units):
            continue
        reached[value] = axis
        if keeps_zero(call) and not zero.isdisjoint(given):
            zero.add(value)
        for user in graph.users.get(value, ()):
            heapq.heappush(pending, (user.order, user))


def _axis_given(
    call: Call, given: Sequence[Value], reached: Mapping[Value, Axis], zero: set[Value]
) -> Axis:
    """Return where the units lie in what a call acts on; LOST where something else comes in.

    A factor, such as a gate, does not: a unit of zeros stays so whatever it is multiplied with.
    """
    factors = [one for one in scaled_by(call) if one in zero]
    axes = {reached[one] for one in factors} or {reached.get(one, LOST) for one in given}
    if len(given) > 1 and not (is_pointwise(call) and len(axes) == 1):
        return LOST
    return axes.pop()


def _results(graph: Graph, source: Source) -> Iterator[tuple[Value, Axis]]:
    """Yield the results of a layer, by its modules or as a function, and where its units lie."""
    for value in graph.values:
        call = value.call
        if call is None or call.nested:
            continue
        if call.module is not None and any(call.module is module for module in source.modules):
            yield value, -1 - len(getattr(call.module, "kernel_size", ()))
        elif call.name == "linear" or call.name.startswith("conv"):
            weight = call.argument(1, "weight")
            if isinstance(weight, Value) and weight.parameter is source.weight:
                yield value, 1 - source.weight.dim()


def is_normalisation(call: Call) -> bool:
    """Tell whether a call normalises."""
    return isinstance(call.module, NORMALISATIONS) or call.name in _FUNCTIONS


def _as_long(value: Value, axis: Axis, units: int) -> bool:
    return axis is None or value.shape is None or value.shape[axis] in (units, None)


def _along(call: Call, axis: Axis, units: int) -> list[tuple[nn.Parameter, int]] | None:
    """Return the scale and shift of a normalisation of this axis; None where that is not known."""
    parameters = parameters_of(call)
    if normalises_last(call):
        dimensions = {p.dim() for p in parameters if not is_lazy(p)}
        if axis is None:
            return None if any(units in p.shape for p in parameters) else []
        return [(p, p.dim() + axis) for p in parameters if -axis <= min(dimensions, default=0)]
    if not all(is_lazy(p) or p.shape == (units,) for p in parameters):
        return []
    channels = channel_axis(call)
    if channels is None or axis is None:
        possible = axis in (None, -1, -2) or not isinstance(call.module, nn.BatchNorm1d)
        return None if possible and parameters else []
    return [(p, 0) for p in parameters] if channels == axis else []


def normalises_last(call: Call) -> bool:
    """Tell whether a normalisation has its scale for the last dimensions."""
    if call.module is None:
        return call.name in ("layer_norm", "rms_norm")
    return isinstance(call.module, nn.LayerNorm | nn.RMSNorm) and normalised_axis(call.module) != 1


def channel_axis(call: Call) -> Axis:
    """Return the axis for which a normalisation has its scale, of one that has it for channels."""
    for kind, places in _PLACES.items():
        if isinstance(call.module, kind):
            return -1 - places
    given = call.argument(0, "input")
    if not isinstance(given, Value) or given.shape is None:
        return None
    return 1 - len(given.shape)
