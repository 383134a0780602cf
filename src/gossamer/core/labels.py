"""True classes from outside: one class number an example, in whatever form it was given.

Each form is taken in the one way in which it can be meant, or refused in a sentence whose advice
keeps every example in its class.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.core.arrays import as_array
from gossamer.core.errors import InputError

_TEXT = "UST"
"""Kinds of NumPy's types that hold text."""


def read_labels(
    what: str, values: ArrayLike, examples: int, *, classes: int | None = None, models: int = 1
) -> NDArray[np.int64]:
    """Return class numbers, ``[examples]``.

    Parameters
    ----------
    what
        The subject of a complaint, such as ``"labels"``.
    values
        Class numbers ``[examples]``, perhaps with further axes of length 1: whole numbers of any
        type, or true and false of two classes. Or one-hot rows ``[examples, classes]``, each zeros
        and a single one. Or ``[models, examples]``, the same for every model.
    examples, classes
        How many there are; None: the classes are not known.
    models
        How many may have a row of labels each.

    Raises
    ------
    InputError
        If the values are anything else.

    Examples
    --------
    >>> read_labels("labels", [[2], [0], [1]], 3).tolist()
    [2, 0, 1]
    >>> read_labels("labels", [[0, 0, 1], [1, 0, 0]], 2).tolist()
    [2, 0]
    """
    expected = f"expected one class number for each of the {examples} examples"
    array = without_single_axes(as_array(what, values, expected))
    if array.dtype.kind in _TEXT:
        raise InputError(
            f"{what}: the type is {array.dtype}, expected whole numbers: the number of a class is "
            "the column of the logits that it has, counted from 0; with the list of names in the "
            f"order of the columns, pass [names.index(name) for name in numpy.ravel({what})]."
        )
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what}: the type is {array.dtype}, expected whole numbers.")
    if array.shape == (examples,):
        return _class_numbers(what, array, classes)
    one_hot = array.shape[:1] == (examples,) and is_one_hot(array)
    as_wide = one_hot and classes in (None, array.shape[1])
    a_row_each = array.shape in {(1, examples), (models, examples)}
    if a_row_each and not as_wide:
        return _class_numbers(what, _same_for_all(what, array), classes)
    if as_wide:
        if a_row_each and (array == array[0]).all():
            raise InputError(
                f"{what}: the shape is {array.shape}, which may be one-hot rows of one class or a "
                f"row for each model, {expected}."
            )
        columns: NDArray[np.int64] = array.argmax(axis=1).astype(np.int64)
        return columns
    ending = ""
    if one_hot:
        ending = f", or one-hot rows of as many columns as there are classes, {classes}"
    elif array.ndim == 2 and len(array) == examples:
        ending = ", or one-hot rows, each zeros and a single 1; pass the true class of each example"
    raise InputError(f"{what}: the shape is {array.shape}, {expected}{ending}.")


def without_single_axes(array: NDArray[Any]) -> NDArray[Any]:
    """Drop axes of length 1 behind the first, which tell nothing apart."""
    shape = (*array.shape[:1], *(length for length in array.shape[1:] if length != 1))
    return array.reshape(shape)


def is_one_hot(array: NDArray[Any]) -> bool:
    """Whether an array has two columns or more, and a single one among zeros in each row.

    Examples
    --------
    >>> is_one_hot(np.eye(3)), is_one_hot(np.ones((3, 1))), is_one_hot(np.ones((3, 2)))
    (True, False, False)
    """
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind not in "biuf":
        return False
    ones = array == 1
    return bool((ones | (array == 0)).all() and (ones.sum(axis=1) == 1).all())


def _same_for_all(what: str, rows: NDArray[Any]) -> NDArray[Any]:
    """Return the row that all models share."""
    differing = (rows != rows[0]).any(axis=0)
    if differing.any():
        raise InputError(
            f"{what}: the shape is {rows.shape}, a row for each model, and models do not agree on "
            f"example {int(np.argmax(differing))}, expected the true class of each example, which "
            "is the same for every model."
        )
    first: NDArray[Any] = rows[0]
    return first


def _class_numbers(what: str, numbers: NDArray[Any], classes: int | None) -> NDArray[np.int64]:
    """Return whole numbers from 0 as such; complain of others."""
    if numbers.dtype.kind == "b" and classes not in (None, 2):
        raise InputError(
            f"{what}: are true and false, expected class numbers from 0 to {(classes or 0) - 1}, "
            "each the column of its class in the logits."
        )
    if numbers.dtype.kind == "f":
        _check_whole(what, numbers)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= (classes or 2**53)):
        raise InputError(_out_of_range(what, numbers, classes))
    return numbers.astype(np.int64)


def _check_whole(what: str, numbers: NDArray[Any]) -> None:
    whole = np.isfinite(numbers) & (numbers == np.trunc(numbers))
    if not whole.all():
        example = int(np.argmin(whole))
        raise InputError(
            f"{what}: example {example} has {numbers[example]}, expected whole numbers, the true "
            "class of each example."
        )
    exact = 2 ** (np.finfo(numbers.dtype).nmant + 1)
    if numbers.max(initial=0) >= exact:
        raise InputError(
            f"{what}: hold numbers from {exact} as {numbers.dtype}, which has rounded some of "
            "them to others, expected whole numbers; save them as int64 from the start."
        )


def _out_of_range(what: str, numbers: NDArray[Any], classes: int | None) -> str:
    lowest, highest = int(numbers.min()), int(numbers.max())
    most = "" if classes is None else f" to {classes - 1}"
    text = (
        f"{what}: values reach from {lowest} to {highest}, expected class numbers from 0{most}, "
        "each the column of its class in the logits"
    )
    if classes == 2 and set(np.unique(numbers).tolist()) == {-1, 1}:
        return f"{text}; if 1 means the second column, pass numpy.greater({what}, 0)."
    if lowest >= 1 and highest == classes:
        return f"{text}; if 1 means the first column, pass numpy.subtract({what}, 1)."
    return f"{text}."
