"""A user's own data: one ``.npz`` file of four arrays, read without pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.core.arrays import entries, opened, read_header, read_numbers, readable
from gossamer.core.errors import InputError
from gossamer.core.labels import is_one_hot, without_single_axes
from gossamer.data.dataset import Dataset, Examples, Labels, check_finite
from gossamer.data.layout import Layout, channels_first, checked_layout

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
"""What the file is to hold."""

LAYOUT = "layout"
"""What it may hold beside: text that says which axis of images holds their channels."""


def load_npz(path: Path | str, layout: Layout | None = None) -> Dataset:
    """Load ``x_train``, ``y_train``, ``x_test`` and ``y_test`` from an ``.npz`` file.

    Examples of type uint8 are taken as pixels, divided by 255 before a network sees them.
    Floating numbers are used as they are, rounded to float32. Whole numbers of other types and
    booleans are used as they are, too, up to 2**24 in size, where float32 holds them exactly.
    Labels are whole numbers from 0, of any type, or one-hot rows; the training labels say how
    many classes there are.

    Images may have their channels last if the file says so by a text beside the arrays,
    ``layout="channels_last"`` (or ``"channels_first"``). Where it does not, channels come first,
    and a shape that leaves this open is refused: one for which channels last is likely, too, as
    the last axis has 1 to 4 entries, the first two are equal, or the last is the shortest.

    Parameters
    ----------
    path
        The file, as written by `numpy.savez` or `numpy.savez_compressed`. Examples have the
        shape ``[examples, features]``, ``[examples, height, width]`` or
        ``[examples, channels, height, width]``, labels ``[examples]``.
    layout
        Where the channels of images are, ``"channels_first"`` or ``"channels_last"``; None: as the
        file says.

    Returns
    -------
    Dataset
        Named as the file is.

    Raises
    ------
    InputError
        If the file cannot be read or holds something else, or it is open which axis of its images
        holds the channels, or there is a layout and no such axis.

    Examples
    --------
    >>> import tempfile
    >>> x, y = np.zeros((4, 28, 28), np.uint8), np.array([0, 1, 1, 0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    ...     mine = load_npz(f"{folder}/mine.npz")
    >>> mine.name, mine.input_shape, mine.classes, mine.scale
    ('mine.npz', (1, 28, 28), 2, 255.0)
    """
    path = Path(path)
    asked = checked_layout("layout", layout)
    arrays = _read_arrays(path)
    return dataset_of(str(path), path.name, arrays, asked or _layout(path, arrays))


def dataset_of(
    where: str, name: str, arrays: Mapping[str, NDArray[Any]], layout: Layout | None = None
) -> Dataset:
    """Return the dataset of the four arrays of `ARRAYS`, as `load_npz` takes them.

    Parameters
    ----------
    where
        What holds the arrays, for complaints.
    name
        Of the dataset.
    arrays
        By their names.
    layout
        Where the channels of images are; None: as their shape says.

    Raises
    ------
    InputError
        If they are not what `load_npz` describes.
    """
    x_train, x_test = (
        _examples(f"{where}: {key}", arrays[key], layout) for key in ("x_train", "x_test")
    )
    y_train, y_test = (
        _labels(f"{where}: y_{part}", arrays[f"y_{part}"], len(examples))
        for part, examples in (("train", x_train), ("test", x_test))
    )
    return Dataset(
        name,
        x_train,
        y_train,
        x_test,
        y_test,
        classes=int(y_train.max(initial=-1)) + 1,
        scale=255.0 if x_train.dtype == np.uint8 else 1.0,
    )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with readable(path):
        if not path.is_file():
            raise InputError(f"{path}: no such file, expected an .npz file.")
    with opened(path) as archive:
        held = entries(archive)
        missing = [key for key in ARRAYS if key not in held]
        if missing:
            raise InputError(
                f"{path}: lacks {', '.join(missing)}, expected {', '.join(ARRAYS)}; "
                f"it holds {', '.join(held) or 'nothing'}."
            )
        wanted = [*ARRAYS, *([LAYOUT] if LAYOUT in held else [])]
        for key in wanted:
            read_header(path, archive, key, held[key])
        return {key: read_numbers(archive, held[key]) for key in wanted}


def _layout(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Layout | None:
    """Return what the file says of its images' axes."""
    if LAYOUT not in arrays:
        return None
    text = arrays[LAYOUT]
    if text.size != 1 or text.dtype.kind not in "US":
        raise InputError(
            f"{path}: {LAYOUT} has shape {list(text.shape)} of {text.dtype}, expected one text, "
            "channels_first or channels_last."
        )
    word = text.item()
    return checked_layout(
        f"{path}: {LAYOUT}", word.decode(errors="replace") if isinstance(word, bytes) else word
    )


def _examples(what: str, values: NDArray[Any], layout: Layout | None) -> Examples:
    if values.ndim not in (2, 3, 4):
        raise InputError(
            f"{what} has shape {list(values.shape)}, expected [examples, features], "
            "[examples, height, width] or [examples, channels, height, width]."
        )
    numbers = _to_stored(what, values)
    if numbers.ndim == 4:
        return channels_first(what, numbers, layout)
    if layout is not None:
        raise InputError(
            f"{what} has shape {list(values.shape)}, without an axis of channels, but layout is "
            f"{layout!r}; leave it out, or write images of four axes."
        )
    return numbers[:, np.newaxis] if numbers.ndim == 3 else numbers


def _to_stored(what: str, values: NDArray[Any]) -> Examples:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "fiub":
        raise InputError(f"{what} is {values.dtype}, expected uint8 or floating numbers.")
    check_finite(what, values)
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if values.dtype.kind == "f":
        wrong = ~np.isfinite(numbers)
    else:  # Whole numbers are not rounded, and float32 skips some beyond 2^24.
        wrong = np.abs(values.astype(np.float64)) > 2**24
    if wrong.any():
        position = np.unravel_index(int(np.argmax(wrong)), values.shape)
        raise InputError(
            f"{what} holds {values[position]} at position {[int(i) for i in position]}, which "
            "float32 cannot hold, expected uint8 or floating numbers of moderate size; rescale it."
        )
    return numbers


def _labels(what: str, given: NDArray[Any], examples: int) -> Labels:
    if given.dtype.kind not in "fiub":
        raise InputError(
            f"{what} is {given.dtype}, expected whole numbers: number the classes from 0, in "
            "y_train and y_test alike."
        )
    values = without_single_axes(given)
    if values.shape[:1] == (examples,) and is_one_hot(values):
        columns: Labels = values.argmax(axis=1).astype(np.int64)
        return columns
    if values.dtype.kind == "f":
        check_finite(what, values)
    # float64 holds every whole number up to 2^53, and no class number is as large as that.
    numbers = values.astype(np.float64)
    wrong = (numbers != np.trunc(numbers)) | (np.abs(numbers) > 2**53)
    if wrong.any():
        position = np.unravel_index(int(np.argmax(wrong)), values.shape)
        raise InputError(
            f"{what} holds {values[position]} at position {[int(i) for i in position]}, "
            "expected class numbers: whole numbers that start at 0."
        )
    return values.astype(np.int64)
