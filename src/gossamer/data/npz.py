"""A user's own data: one ``.npz`` file of four arrays, read without pickle."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.arrays import entries, opened, read_header, read_numbers, readable
from gossamer.data.dataset import Dataset, Examples, Labels, check_finite
from gossamer.errors import InputError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
"""What the file is to hold."""


def load_npz(path: Path | str) -> Dataset:
    """Load ``x_train``, ``y_train``, ``x_test`` and ``y_test`` from an ``.npz`` file.

    Examples of type uint8 are taken as pixels, divided by 255 before a network sees them.
    Floating numbers are used as they are, rounded to float32. Whole numbers of other types and
    booleans are used as they are, too, up to 2**24 in size, where float32 holds them exactly.
    Labels are whole numbers from 0, of any type; the training labels say how many classes
    there are.

    Parameters
    ----------
    path
        The file, as written by `numpy.savez` or `numpy.savez_compressed`. Examples have the
        shape ``[examples, features]``, ``[examples, height, width]`` or
        ``[examples, channels, height, width]``, labels ``[examples]``.

    Returns
    -------
    Dataset
        Named as the file is.

    Raises
    ------
    InputError
        If the file cannot be read or holds something else.

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
    arrays = _read_arrays(path)
    x_train, x_test = (_examples(f"{path}: {key}", arrays[key]) for key in ("x_train", "x_test"))
    y_train, y_test = (_labels(f"{path}: {key}", arrays[key]) for key in ("y_train", "y_test"))
    return Dataset(
        path.name,
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
        for key in ARRAYS:
            read_header(path, archive, key, held[key])
        return {key: read_numbers(archive, held[key]) for key in ARRAYS}


def _examples(what: str, values: NDArray[Any]) -> Examples:
    if values.ndim not in (2, 3, 4):
        raise InputError(
            f"{what} has shape {list(values.shape)}, expected [examples, features], "
            "[examples, height, width] or [examples, channels, height, width]."
        )
    if values.ndim == 4 and _looks_channels_last(*values.shape[1:]):
        raise InputError(
            f"{what} has shape {list(values.shape)}, which looks like channels last, expected "
            "[examples, channels, height, width]; use numpy.moveaxis(x, -1, 1)."
        )
    numbers = _to_stored(what, values)
    return numbers[:, np.newaxis] if numbers.ndim == 3 else numbers


def _looks_channels_last(first: int, second: int, third: int) -> bool:
    return first == second and third in (1, 3) and first > third


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


def _labels(what: str, values: NDArray[Any]) -> Labels:
    if values.dtype.kind not in "fiub":
        raise InputError(f"{what} is {values.dtype}, expected whole numbers.")
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
