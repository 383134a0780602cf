"""Values of which a part is written anew, as they are left when a forward writes in place."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gossamer.engine.fields import Doubles, Shape
from gossamer.engine.operator import Call, Given, Lowered, Operator, network_shape, register_rules
from gossamer.engine.ops.concatenate import Concatenate
from gossamer.engine.ops.constant import Constant
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.ops.slice import Slice

_ENDLESS = 2**63 - 1


def _written(call: Call) -> Lowered:
    """Return a value with some of its numbers along an axis replaced: parts side by side."""
    arguments = call.arguments
    base, given = _base(call)
    if given is None:
        return ()
    axis = given.axis(arguments["dim"])
    if axis is None:
        return _copied(call) if _takes_all(arguments) else ()
    size = network_shape(given.shape)[axis]
    ends: tuple[Any, ...] = tuple(arguments.get(name) for name in ("start", "end", "step"))
    if isinstance(index := arguments.get("index"), int):
        ends = (index % size, index % size + 1, 1)
    elif "index" in arguments or not all(end is None or isinstance(end, int) for end in ends):
        return ()
    places = range(size)[slice(*ends)]
    if places.step != 1 or not len(places):
        return ()
    shape = list(network_shape(given.shape))
    shape[axis] = len(places)
    source = _as_value(call, "src", given, tuple(shape))
    found = [*base, *source]
    if not source:
        return ()
    middle = call.step(len(found) - 1)
    joined = []
    for start, stop in ((0, places.start), (places.stop, size)):
        if stop > start:
            found.append(Slice(given.value, axis, start, stop - start))
            joined.append(call.step(len(found) - 1))
        if start == 0:
            joined.append(middle)
    return (*found, Concatenate(tuple(joined), axis))


def _base(call: Call) -> tuple[tuple[Operator, ...], Given | None]:
    """Return the value of which a part is written, and the step that gives it if it is constant."""
    given, source, numbers = call.given("self"), call.given("src"), call.constant("self")
    if given is not None or source is None or numbers is None:
        return (), given
    shape = network_shape(call.shape)
    if numbers.size != _count(shape) or not _fits(numbers, call.type):
        return (), None
    held = Constant(source.value, np.ascontiguousarray(numbers.reshape(shape)), shape)
    return (held,), Given(call.step(0), call.shape, call.type)


def _takes_all(arguments: Mapping[str, Any]) -> bool:
    """Tell whether a slice takes all, of how many soever."""
    start, end, step = (arguments.get(name) for name in ("start", "end", "step"))
    return start in (None, 0) and (end is None or end == _ENDLESS) and step == 1


def _as_value(call: Call, name: str, like: Given, shape: Shape) -> tuple[Operator, ...]:
    """Return an argument under a shape, as one operator."""
    given, numbers = call.given(name), call.constant(name)
    if given is not None:
        fits = given.type == call.type and _count(given.shape) == _count(shape)
        return (Reshape(given.value, shape),) if fits else ()
    if numbers is None or not _fits(numbers, call.type):
        return ()
    if numbers.size == 1:
        numbers = np.full(shape, float(numbers.flat[0]))
    if numbers.size != _count(shape):
        return ()
    return (Constant(like.value, np.ascontiguousarray(numbers.reshape(shape)), shape),)


def _fits(numbers: Doubles, kind: str) -> bool:
    """Tell whether a value of a type can hold numbers as they are."""
    if kind == "bool":
        return bool(((numbers == 0) | (numbers == 1)).all())
    whole = kind == "float32" or bool((numbers == np.floor(numbers)).all())
    return whole and bool(np.isfinite(numbers).all())


def _count(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _filled(call: Call) -> Lowered:
    """Return one number everywhere."""
    given, shape = call.given("self"), network_shape(call.shape)
    number = call.constant("value")
    if given is None or number is None or number.size != 1 or not _fits(number, call.type):
        return ()
    return (Constant(given.value, np.full(shape, float(number.flat[0])), shape),)


def _copied(call: Call) -> Lowered:
    """Return what is written over all of a value, where it has its shape and type."""
    given, source = call.given("self"), call.given("src")
    if source is not None and (source.shape, source.type) == (call.shape, call.type):
        return (Reshape(source.value, network_shape(call.shape)),)
    return () if given is None else _as_value(call, "src", given, network_shape(call.shape))


_RULES = {
    "slice_scatter": _written,
    "select_scatter": _written,
    "fill": _filled,
    "copy": _copied,
}
register_rules(_RULES, of="written parts", any_type=_RULES)
