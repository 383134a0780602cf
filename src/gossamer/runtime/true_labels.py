"""Predictions held against true classes: how many are right, for all and for each class."""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.core.labels import read_labels
from gossamer.engine import Floats
from gossamer.runtime.examples import open_array
from gossamer.runtime.prediction_table import class_names, columns
from gossamer.runtime.predictor import Predictor

Labels = NDArray[np.int64]

_CLASSES_SHOWN = 20
_CONFIDENCE = 0.95


def read_true_labels(path: Path, examples: int, classes: int) -> Labels:
    """Read the true class of each example.

    Parameters
    ----------
    path
        An ``.npy`` file, or an array of an ``.npz`` file, in any form that
        `gossamer.core.labels.read_labels` takes; where an ``.npz`` file holds several arrays and
        none is named, the single one that can be true classes is taken.
    examples, classes
        How many there are.

    Raises
    ------
    InputError
        If the file cannot be read, or holds anything else.
    """

    def labels_in(given: NDArray[Any]) -> Labels:
        return read_labels("labels", given, examples, classes=classes)

    def are_labels(given: NDArray[Any]) -> bool:
        with suppress(InputError):
            return len(labels_in(given)) == examples
        return False

    expected = f"expected the true class of each of the {examples} examples"
    sizes = (examples, examples * classes)
    given = open_array(
        path, expected, lambda shape: bool(shape) and math.prod(shape) in sizes, are_labels
    )
    try:
        return labels_in(given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def accuracy_lines(predictor: Predictor, outputs: Floats, labels: Labels) -> Iterator[str]:
    """Yield lines that tell how often the likeliest class is the true one.

    Parameters
    ----------
    predictor
        What predicted; its metadata may name the classes.
    outputs
        [N, classes].
    labels
        [N].
    """
    if not len(labels):
        yield "No examples."
        return
    right = outputs.argmax(axis=1) == labels
    low, high = wilson_interval(int(right.sum()), len(right))
    yield (
        f"Accuracy {100 * right.mean():.2f}%, 95% interval {100 * low:.2f}% to {100 * high:.2f}%: "
        f"{int(right.sum()):,} of {len(right):,} right."
    )
    yield ""
    names = class_names(predictor)
    counts = np.bincount(labels, minlength=len(names))
    hits = np.bincount(labels[right], minlength=len(names))
    present = np.flatnonzero(counts)
    ranking = present[np.argsort(hits[present] / counts[present], kind="stable")][:_CLASSES_SHOWN]
    rows = [
        (f"{counts[k]:,}", f"{hits[k]:,}", f"{100 * hits[k] / counts[k]:.1f}%", names[k])
        for k in ranking.tolist()
    ]
    yield from columns(("Examples", "Right", "Accuracy", "True class"), rows)
    if more := len(present) - len(ranking):
        yield f"and {more:,} more {'class' if more == 1 else 'classes'}, all at least as accurate"


def wilson_interval(right: int, count: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Return the interval of a share by Wilson's score test (Wilson 1927, JASA 22, 209).

    Examples
    --------
    >>> low, high = wilson_interval(9, 10)
    >>> round(low, 4), round(high, 4)
    (0.5958, 0.9821)
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
