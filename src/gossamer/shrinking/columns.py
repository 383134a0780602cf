"""Datasets of Hugging Face: columns by name, of which one holds the targets.

They are known by what they offer, `column_names` and `features`, so that the package is not needed.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer.core.errors import InputError
from gossamer.core.formats import listed
from gossamer.shrinking.forms import LABEL_COLUMNS, resident
from gossamer.shrinking.images import pixels_of
from gossamer.shrinking.split import Batch, Items, Preprocessing, Split


def of_columns(given: Any) -> tuple[Split, tuple[str, ...] | None]:
    """Return the examples of a dataset of columns, and its class names where it has them.

    One column beside the targets is what the network takes, several are keyword arguments. Pictures
    become channels first and are divided by 255, as pixels are; text has to be tokenised before.

    Raises
    ------
    InputError
        If it cannot be told which column holds the targets, or one holds text.
    """
    names = [str(name) for name in given.column_names]
    labels = [name for name in names if name in LABEL_COLUMNS]
    inputs = [name for name in names if name not in labels]
    if len(labels) != 1 or not inputs:
        raise InputError(
            f"columns are {listed(names) or 'none'}, expected inputs and one of "
            f"{', '.join(LABEL_COLUMNS)}: call the targets so with rename_column"
        )
    text = [name for name in inputs if isinstance(given[0][name], str)]
    if text:
        raise InputError(
            f"the column {text[0]!r} holds text, expected numbers: tokenise it with map, and "
            "remove it with remove_columns"
        )
    label = labels[0]
    class_names = getattr(given.features[label], "names", None)
    split = resident(Items(given, _Collate(tuple(inputs), label)))
    pixels = isinstance(split.inputs, Tensor) and split.inputs.dtype == torch.uint8
    if pixels:
        split = Split(split.inputs, split.targets, Preprocessing(255.0))
    return split, tuple(class_names) if class_names else None


class _Collate:
    """Makes a batch of rows."""

    def __init__(self, inputs: tuple[str, ...], label: str) -> None:
        self._inputs = inputs
        self._label = label

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        columns = {name: _column(name, [row[name] for row in rows]) for name in self._inputs}
        targets = _column(self._label, [row[self._label] for row in rows])
        return (columns[self._inputs[0]] if len(columns) == 1 else columns), targets


def _column(name: str, values: list[Any]) -> Tensor:
    if isinstance(values[0], Tensor):
        return torch.stack(values)
    if hasattr(values[0], "getbands"):
        values = [pixels_of(value) for value in values]
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(
            f"the column {name!r} holds rows of different lengths: pad them to one length"
        ) from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"the column {name!r} is {array.dtype}, expected numbers")
    if array.dtype == np.uint8:
        return torch.from_numpy(array)
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))
