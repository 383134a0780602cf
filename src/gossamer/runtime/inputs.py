"""Inputs of a network that was compressed: numbers in the shapes and of the types that it takes.

Whatever is taken is taken alike by a loaded network, by one that was just compressed, and by
`gossamer predict`: a network says nothing of how its pixels were scaled, so that whole numbers,
which were not scaled yet, are refused by all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core.arrays import as_array
from gossamer.core.errors import InputError
from gossamer.core.formats import counted
from gossamer.engine import Floats, NumberType, Shape, TensorSpec
from gossamer.engine.lengths import Plan, Plans

Given = tuple[int, ...]


def arranged(
    specs: Sequence[TensorSpec], inputs: Sequence[Any], named: Mapping[str, Any]
) -> list[Any]:
    """Return what is given to each input, in their order.

    Parameters
    ----------
    specs
        The inputs of a network.
    inputs
        What is given in order, or one dictionary of all by name.
    named
        What is given by name.

    Raises
    ------
    InputError
        If one is missing, or there is one too many.

    Examples
    --------
    >>> specs = (TensorSpec("tokens", (4,), "int64"), TensorSpec("mask", (4,), "bool"))
    >>> arranged(specs, [1], {"mask": 2}), arranged(specs, [{"mask": 2, "tokens": 1}], {})
    ([1, 2], [1, 2])
    """
    if len(inputs) == 1 and isinstance(together := inputs[0], Mapping):
        inputs, named = [], {**together, **named}
    names = [spec.name for spec in specs]
    if len(inputs) > len(names):
        raise InputError(
            f"inputs: {len(inputs)} are given, expected {len(names)} ({', '.join(names)}); all "
            "else, such as threads, is given by name."
        )
    by_order = dict(zip(names, inputs, strict=False))
    unknown = [name for name in named if name not in names or name in by_order]
    missing = [name for name in names if name not in by_order and name not in named]
    if unknown or missing:
        problem = f"{unknown[0]!r:.80} is one too many" if unknown else f"{missing[0]} is missing"
        raise InputError(f"inputs: {problem}, expected {', '.join(names)}.")
    return [by_order[name] if name in by_order else named[name] for name in names]


def plan_for(plans: Plans, values: Sequence[Any]) -> Plan:
    """Return the plan for inputs of the length that is given.

    Raises
    ------
    InputError
        If the network does not take it.
    """
    if plans.signature.lengths is None:
        return plans.for_shapes(())
    arrays = [
        as_array(spec.name, value, expected_shape(spec.shape))
        for spec, value in zip(plans.signature.inputs, values, strict=True)
    ]
    return plans.for_shapes([array.shape for array in arrays])


def as_inputs(values: Sequence[object], specs: Sequence[TensorSpec]) -> tuple[NDArray[Any], ...]:
    """Return what each input of a network is given, laid out in memory as it was.

    Parameters
    ----------
    values
        For each input an array, a tensor of PyTorch, or nested lists, of numbers of any type of
        the kind that the input takes.
    specs
        The inputs.

    Returns
    -------
    tuple of NDArray
        [N, *shape] for each, of float32, whole numbers or truth values.

    Raises
    ------
    InputError
        If the values are anything else, or too large for float32.

    Examples
    --------
    >>> as_inputs([[[0.5, 1.0]]], [TensorSpec("input", (2,))])[0].dtype
    dtype('float32')
    """
    named = [spec.name if len(specs) > 1 else "inputs" for spec in specs]
    found = [_as_input(*one) for one in zip(named, values, specs, strict=True)]
    for name, array in zip(named, found, strict=True):
        if len(array) != len(found[0]):
            raise InputError(
                f"{name}: {counted(len(array), 'example')}, expected {len(found[0])}, as many as "
                f"of {named[0]}."
            )
    return tuple(found)


def _as_input(name: str, values: object, spec: TensorSpec) -> NDArray[Any]:
    expected = expected_shape(spec.shape)
    array = as_array(name, values, expected)
    if not fits(array.shape, spec.shape):
        hint = shape_hint(array.shape, spec.shape)
        raise InputError(f"{name}: shape {list(array.shape)}, {expected}{hint}.")
    if complaint := type_complaint(array.dtype, spec.type):
        raise InputError(f"{name}: {complaint}.")
    return _as_floats(name, array) if spec.type == "float32" else array


def fits(given: Given, shape: Shape) -> bool:
    """Whether an array of a shape holds examples of a shape."""
    return len(given) > 0 and given[1:] == shape


def expected_shape(shape: Shape) -> str:
    """Return the end of a sentence that complains of another shape."""
    return f"expected [{', '.join(map(str, ('examples', *shape)))}]"


def shape_hint(given: Given, shape: Shape) -> str:
    """Return what to do about another shape, behind a semicolon; empty if that is not clear.

    Examples
    --------
    >>> shape_hint((8, 8), (8, 8)), shape_hint((5, 28, 28), (1, 28, 28))
    ('; for a single example pass numpy.expand_dims(x, 0)', '; pass numpy.expand_dims(x, 1)')
    """
    if given == shape and shape:
        return "; for a single example pass numpy.expand_dims(x, 0)"
    if len(shape) == 3 and given[1:] == shape[1:] and shape[0] == 1:
        return "; pass numpy.expand_dims(x, 1)"
    if len(shape) == 3 and given[1:] == (*shape[1:], shape[0]):
        return "; if the channels are last, pass numpy.moveaxis(numpy.asarray(x), -1, 1)"
    return ""


def type_complaint(dtype: np.dtype[Any], wanted: NumberType = "float32") -> str:
    """Say why numbers of a type are not taken; empty if they are.

    Examples
    --------
    >>> type_complaint(np.dtype("int32"), "int64"), type_complaint(np.dtype("bool"), "bool")
    ('', '')
    """
    if dtype.kind in _KINDS[wanted]:
        return ""
    if wanted == "bool":
        return f"of type {dtype}, expected truth values; pass numpy.asarray(x, bool)"
    if wanted != "float32":
        return f"of type {dtype}, expected whole numbers, such as tokens"
    text = f"of type {dtype}, expected floating-point numbers, scaled and normalised as in training"
    if dtype.kind in "iub":
        text += (
            "; convert them as it was done there, pixels often by "
            "`numpy.asarray(x, 'float32') / 255`"
        )
    return text


_KINDS: dict[NumberType, str] = {"float32": "f", "int32": "iu", "int64": "iu", "bool": "b"}
"""The kinds of NumPy's types that inputs of a type take."""


def _as_floats(name: str, array: NDArray[Any]) -> Floats:
    if array.dtype == np.float32 and array.dtype.isnative:
        return array
    try:
        with np.errstate(over="raise"):
            return array.astype(np.float32)
    except FloatingPointError as error:
        raise InputError(
            f"{name}: hold numbers beyond {np.finfo(np.float32).max:.4g}, the largest of float32, "
            "expected numbers scaled as in training."
        ) from error
