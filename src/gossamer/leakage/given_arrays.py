"""What an audit is given, in whatever form, as the arrays that it works on; or a sentence."""

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.core.arrays import StoredArray, as_array
from gossamer.core.errors import InputError
from gossamer.core.formats import counted
from gossamer.core.labels import is_one_hot, read_labels, without_single_axes

_FEWEST_EXAMPLES = 4
EXPECTED_LOGITS = (
    "expected [models, examples, classes] or [examples, classes] with at least two classes"
)


def check_axes(shape: tuple[int, ...], name: str, labels: ArrayLike, members: ArrayLike) -> None:
    """Refuse predictions whose axes are in another order, where labels and members tell which.

    Anything else that is wrong with them is for others to say.

    Raises
    ------
    InputError
        If the axes do not fit as they are, and in a single other order they do.
    """
    if len(shape) not in (2, 3):
        return
    try:
        true = without_single_axes(as_array("labels", labels, ""))
        inside = without_single_axes(as_array("members", members, ""))
    except InputError:
        return
    if not (true.ndim == 1 and true.dtype.kind in "biu") and not is_one_hot(true):
        return
    examples = len(true)
    classes = true.shape[1] if true.ndim == 2 else int(true.max(initial=1)) + 1
    axes = range(len(shape))
    fitting = [
        order
        for order in permutations(axes)
        if _fits([shape[axis] for axis in order], inside.shape, examples, classes)
    ]
    if len(fitting) == 1 and fitting[0] != tuple(axes):
        form = "[models, examples, classes]" if len(shape) == 3 else "[examples, classes]"
        raise InputError(
            f"{name}: the shape is {shape}, expected {form}, and there are labels of {examples} "
            f"examples; pass numpy.transpose({name}, {fitting[0]})."
        )


def _fits(shape: list[int], members: tuple[int, ...], examples: int, classes: int) -> bool:
    """Whether a shape goes with labels of so many examples and classes, and with the members."""
    models = shape[0] if len(shape) == 3 else 1
    rows = sorted(members) in (sorted((models, examples)), [examples])
    return shape[-2] == examples and shape[-1] >= max(classes, 2) and rows


def checked_beside(
    outputs: NDArray[Any] | StoredArray, given: str, labels: ArrayLike, members: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return labels and memberships that go with outputs, of which the shape alone is looked at.

    Returns
    -------
    tuple
        Class numbers, ``[examples]``, and memberships, ``[models, examples]``.

    Raises
    ------
    InputError
        If they do not go together, which is then known before the outputs are read.
    """
    check_axes(outputs.shape, given, labels, members)
    models, examples, classes = checked_shape(outputs.shape, outputs.dtype, given)
    inside = checked_members(members, models, examples)
    return checked_labels(labels, examples, classes, models), inside


def checked_logits(logits: ArrayLike, name: str) -> NDArray[np.floating[Any]]:
    """Return logits as ``[models, examples, classes]``; complain of any other shape or type.

    Raises
    ------
    InputError
        Also if there are fewer than two classes.
    """
    array = as_array(name, logits, EXPECTED_LOGITS)
    return array.reshape(checked_shape(array.shape, array.dtype, name))


def checked_shape(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> tuple[int, int, int]:
    """Return how many models, examples and classes logits of a shape and type are of.

    Raises
    ------
    InputError
        If they cannot be logits.
    """
    models, examples, classes = (1, *shape) if len(shape) == 2 else (*shape, 0, 0, 0)[:3]
    if len(shape) not in (2, 3) or 0 in shape or classes < 2:
        one = ""
        if len(shape) == 3 and classes == 1:
            first = "1 - x" if "probabilities" in name else "0 * x"
            one = (
                "; if this is one output x for the second of two classes, pass "
                f"numpy.concatenate([{first}, x], axis=-1)"
            )
        raise InputError(f"{name}: the shape is {shape}, {EXPECTED_LOGITS}{one}.")
    if dtype.kind not in "fiu":
        raise InputError(f"{name}: the type is {dtype}, expected real numbers.")
    return models, examples, classes


def checked_labels(
    labels: ArrayLike, examples: int, classes: int | None, models: int = 1
) -> NDArray[np.int64]:
    """Return the true classes of an audit, ``[examples]``, as `gossamer.core.labels` reads them.

    Raises
    ------
    InputError
        Also if all are the same: whatever lost the classes, attacks by class would run on.
    """
    numbers = read_labels("labels", labels, examples, classes=classes, models=models)
    if numbers.size and numbers.min() == numbers.max():
        among = "two classes or more" if classes is None else f"several of the {classes} classes"
        raise InputError(
            f"labels: every example is of class {int(numbers[0])}, expected examples of {among}; "
            "pass the true class of each example."
        )
    return numbers


def checked_members(members: ArrayLike, models: int, examples: int) -> NDArray[np.bool_]:
    """Return memberships as ``[models, examples]``; complain of any other shape or content.

    Raises
    ------
    InputError
        Also if some model has fewer than two members or two others: nothing to tell apart.
    """
    expected = (
        f"expected [{models}, {examples}] for models and examples, or [{examples}] if all models "
        "were trained on the same"
    )
    if examples < _FEWEST_EXAMPLES:
        raise InputError(
            f"members: {counted(examples, 'example')} cannot be told apart, expected at least "
            f"{_FEWEST_EXAMPLES}, two members and two others of each model; give more examples."
        )
    given = as_array("members", members, expected)
    array = without_single_axes(given)
    if array.shape not in {(examples,), (1, examples), (models, examples)}:
        hint = _shape_hint(array, models, examples)
        raise InputError(f"members: the shape is {given.shape}, {expected}{hint}.")
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise InputError(f"members: {_content(array)}.")
    inside = np.ascontiguousarray(np.broadcast_to(array.astype(bool), (models, examples)))
    counts = inside.sum(axis=1)
    for model, count in enumerate(counts.tolist()):
        if not 2 <= count <= examples - 2:
            raise InputError(
                f"members: model {model} has {count} members among {examples} examples, expected "
                "at least two members and two others; without either there is nothing to tell "
                "apart."
            )
    return inside


def _shape_hint(array: NDArray[Any], models: int, examples: int) -> str:
    if array.shape == (examples, models):
        return "; if the columns are the models, pass numpy.transpose(members)"
    counts = array.ndim == 1 and array.dtype.kind in "iu" and array.size
    if counts and array.min() >= 0 and array.max() < examples:
        return (
            "; if these are the positions of the members, pass "
            f"numpy.isin(numpy.arange({examples}), members)"
        )
    return ""


def _content(array: NDArray[Any]) -> str:
    """Say what is wrong with memberships that are not true and false."""
    expected = "expected true and false, or 1 and 0, and nothing else"
    if array.dtype.kind in "UST":
        return (
            f"the type is {array.dtype}, {expected}; with the word that means trained on, pass "
            "numpy.asarray(members) == word"
        )
    if array.dtype.kind in "if" and np.isin(array, (-1, 1)).all():
        return f"{expected}; if 1 means trained on, pass numpy.greater(members, 0)"
    return expected
