"""What a trial learns from: two arrays of examples, two of labels, and what they mean."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError

Examples = NDArray[np.uint8] | NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test examples of a classification task, as they are stored.

    The values stay raw: a network sees ``x / scale``, which `gossamer.data.resident` computes
    once. The arrays are read-only and contiguous; two datasets hold the same if their
    `fingerprint` is the same.

    Parameters
    ----------
    name
        What messages and records call it, such as ``"mnist"``.
    x_train, x_test
        Images ``[examples, channels, height, width]`` or features ``[examples, features]``,
        uint8 or finite float32.
    y_train, y_test
        Labels ``[examples]``, int64, from 0 to ``classes - 1``; training holds every class.
    classes
        The number of classes, 2 or more.
    scale
        The raw values are divided by this: 255 for pixels, 1 for values ready to use.

    Raises
    ------
    InputError
        If the arrays are not what is said above or do not fit together.

    Examples
    --------
    >>> x, y = np.arange(8, dtype=np.uint8).reshape(4, 2), np.array([0, 1, 0, 1])
    >>> tiny = Dataset("tiny", x, y, x[:1], y[:1], classes=2, scale=255)
    >>> tiny.input_shape
    (2,)
    >>> tiny.x_train.flags.writeable
    False
    """

    name: str
    x_train: Examples = field(repr=False)
    y_train: Labels = field(repr=False)
    x_test: Examples = field(repr=False)
    y_test: Labels = field(repr=False)
    classes: int
    scale: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"{self.name}: scale is {self.scale}, expected a positive number.")
        for part in ("train", "test"):
            examples, labels = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            _check_examples(f"{self.name}: x_{part}", examples)
            _check_labels(f"{self.name}: y_{part}", labels, len(examples), self.classes)
        _check_agreement(self.name, self.x_train, self.x_test)
        _check_presence(f"{self.name}: y_train", self.y_train, self.classes)
        for array in ("x_train", "y_train", "x_test", "y_test"):
            object.__setattr__(self, array, _read_only(getattr(self, array)))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example: ``(channels, height, width)`` or ``(features,)``."""
        return self.x_train.shape[1:]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of all that determines a number; the name is not part of it."""
        arrays = (self.x_train, self.y_train, self.x_test, self.y_test)
        description = {
            "arrays": [[array.dtype.str, list(array.shape)] for array in arrays],
            "classes": int(self.classes),
            "scale": float(self.scale),
        }
        digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
        for array in arrays:
            digest.update(array.data)
        return digest.hexdigest()


def _check_examples(what: str, examples: NDArray[Any]) -> None:
    if examples.dtype not in (np.uint8, np.float32):
        raise InputError(f"{what} is {examples.dtype}, expected uint8 or float32.")
    if examples.ndim not in (2, 4):
        raise InputError(
            f"{what} has shape {list(examples.shape)}, "
            "expected [examples, features] or [examples, channels, height, width]."
        )
    if examples.size == 0:
        raise InputError(
            f"{what} is empty (shape {list(examples.shape)}), expected at least one example."
        )
    if examples.dtype == np.float32:
        check_finite(what, examples)


def _check_labels(what: str, labels: NDArray[Any], examples: int, classes: int) -> None:
    if labels.dtype != np.int64:
        raise InputError(f"{what} is {labels.dtype}, expected int64.")
    if labels.shape != (examples,):
        raise InputError(
            f"{what} has shape {list(labels.shape)}, "
            f"expected [{examples}]: one class number for each example."
        )
    if (labels < 0).any():
        position = int(np.argmax(labels < 0))
        raise InputError(
            f"{what} holds {labels[position]} at position {position}, "
            "expected class numbers that start at 0."
        )
    if classes < 2:
        raise InputError(
            f"{what} goes with {classes} class, expected at least 2 classes to tell apart."
        )
    if (labels >= classes).any():
        position = int(np.argmax(labels >= classes))
        raise InputError(
            f"{what} holds {labels[position]} at position {position}, "
            f"expected class numbers from 0 to {classes - 1}."
        )


def _check_agreement(name: str, x_train: Examples, x_test: Examples) -> None:
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(
            f"{name}: an example of x_train has shape {list(x_train.shape[1:])} and one of "
            f"x_test {list(x_test.shape[1:])}, expected the same."
        )
    if x_train.dtype != x_test.dtype:
        raise InputError(
            f"{name}: x_train is {x_train.dtype} and x_test {x_test.dtype}, expected the same."
        )


def _check_presence(what: str, labels: Labels, classes: int) -> None:
    present = np.unique(labels)
    if len(present) < classes:
        numbers = np.arange(len(present))
        gaps = np.flatnonzero(present != numbers)
        missing = int(gaps[0]) if len(gaps) else len(present)
        raise InputError(
            f"{what} lacks class {missing}, "
            f"expected examples of every class from 0 to {classes - 1}; renumber the classes."
        )


def check_finite(what: str, values: NDArray[Any]) -> None:
    """Refuse NaN and infinity, naming the first position that holds one.

    Parameters
    ----------
    what
        The subject of the sentence, such as ``"mine.npz: x_train"``.
    values
        Floating numbers, ``[...]``.

    Raises
    ------
    InputError
        If a value is not finite.
    """
    finite = np.isfinite(values)
    if not finite.all():
        position = np.unravel_index(int(np.argmin(finite)), values.shape)
        raise InputError(
            f"{what} holds {values[position]} at position {[int(i) for i in position]}, "
            "expected finite numbers; remove or replace that example."
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    # A view: the array that the caller still holds stays as writeable as it was.
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
