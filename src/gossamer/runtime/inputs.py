"""Inputs of a network that was compressed: floating-point numbers in the shape that it takes.

Whatever is taken is taken alike by a loaded network, by one that was just compressed, and by
`gossamer predict`: a network says nothing of how its pixels were scaled, so that whole numbers,
which were not scaled yet, are refused by all of them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core.arrays import as_array
from gossamer.core.errors import InputError
from gossamer.engine import Floats, Shape

Given = tuple[int, ...]


def as_inputs(values: object, shape: Shape) -> Floats:
    """Return what a network is given as float32 ``[N, *shape]``, laid out in memory as it was.

    Parameters
    ----------
    values
        An array, a tensor of PyTorch, or nested lists, of floating-point numbers of any type.
    shape
        Of one example.

    Raises
    ------
    InputError
        If the values are anything else, or too large for float32.

    Examples
    --------
    >>> as_inputs([[0.5, 1.0]], (2,)).dtype
    dtype('float32')
    """
    expected = expected_shape(shape)
    array = as_array("inputs", values, expected)
    if not fits(array.shape, shape):
        hint = shape_hint(array.shape, shape)
        raise InputError(f"inputs: shape {list(array.shape)}, {expected}{hint}.")
    if complaint := type_complaint(array.dtype):
        raise InputError(f"inputs: {complaint}.")
    return _as_floats(array)


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


def type_complaint(dtype: np.dtype[Any]) -> str:
    """Say why numbers of a type are not taken; empty if they are."""
    if dtype.kind == "f":
        return ""
    text = f"of type {dtype}, expected floating-point numbers, scaled and normalised as in training"
    if dtype.kind in "iub":
        text += (
            "; convert them as it was done there, pixels often by "
            "`numpy.asarray(x, 'float32') / 255`"
        )
    return text


def _as_floats(array: NDArray[Any]) -> Floats:
    if array.dtype == np.float32 and array.dtype.isnative:
        return array
    try:
        with np.errstate(over="raise"):
            return array.astype(np.float32)
    except FloatingPointError as error:
        raise InputError(
            f"inputs: hold numbers beyond {np.finfo(np.float32).max:.4g}, the largest of float32, "
            "expected numbers scaled as in training."
        ) from error
