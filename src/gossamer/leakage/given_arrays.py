"""What an audit is given, in whatever form, as the arrays that it works on; or a sentence."""

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.core.arrays import as_array
from gossamer.core.errors import InputError
from gossamer.core.labels import is_one_hot, read_labels, without_single_axes

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


def checked_logits(logits: ArrayLike, name: str) -> NDArray[np.floating[Any]]:
    """Return logits as ``[models, examples, classes]``; complain of any other shape or type.

    Raises
    ------
    InputError
        Also if there are fewer than two classes.
    """
    expected = EXPECTED_LOGITS
    given = as_array(name, logits, expected)
    array = given[None] if given.ndim == 2 else given
    if array.ndim != 3 or 0 in array.shape or array.shape[2] < 2:
        one = ""
        if array.ndim == 3 and array.shape[2] == 1:
            first = "1 - x" if "probabilities" in name else "0 * x"
            one = (
                "; if this is one output x for the second of two classes, pass "
                f"numpy.concatenate([{first}, x], axis=-1)"
            )
        raise InputError(f"{name}: the shape is {given.shape}, {expected}{one}.")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name}: the type is {array.dtype}, expected real numbers.")
    return array


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
