"""Examples to predict from, in an ``.npy`` file: checked by its header, read piece by piece."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.core.formats import counted
from gossamer.core.system import failure_reason
from gossamer.engine import Signature, TensorSpec
from gossamer.engine.lengths import Plans
from gossamer.runtime.array_files import any_shape, is_archive, read_archive_array
from gossamer.runtime.inputs import fits, shape_hint, type_complaint

_ZIP_MAGIC = b"PK\x03\x04"


def open_inputs(path: Path, specs: Sequence[TensorSpec]) -> list[NDArray[Any]]:
    """Open the examples of a file for each input of a network.

    Parameters
    ----------
    path
        For one input an ``.npy`` file, or an array of an ``.npz`` file: see
        `gossamer.runtime.array_files`. For several an ``.npz`` file that holds an array of the name
        of each. Numbers of an ``.npy`` file stay on the disk until they are used.
    specs
        Of the inputs.

    Returns
    -------
    list of NDArray
        [N, *shape] for each, read-only.

    Raises
    ------
    InputError
        If the file cannot be read, or holds something else.
    """
    if len(specs) == 1:
        return [_open_input(path, specs[0])]
    names = [spec.name for spec in specs]
    if path.suffix != ".npz":
        raise InputError(f"{path}: is no .npz file, expected one of the arrays {', '.join(names)}.")
    found = [_open_input(Path(f"{path}:{spec.name}"), spec) for spec in specs]
    for name, array in zip(names, found, strict=True):
        if len(array) != len(found[0]):
            raise InputError(
                f"{path}:{name}: {counted(len(array), 'example')}, expected {len(found[0])}, as "
                f"many as {names[0]} holds."
            )
    return found


def signature_of_file(path: Path, plans: Plans) -> Signature:
    """Return what a network takes and gives at the length of the inputs of a file.

    Raises
    ------
    InputError
        If the file cannot be read, or the network does not take its length.
    """
    if plans.signature.lengths is None:
        return plans.signature
    specs = plans.signature.inputs
    paths = [path if len(specs) == 1 else Path(f"{path}:{spec.name}") for spec in specs]
    shapes = [open_array(one, "expected inputs").shape for one in paths]
    try:
        return plans.for_shapes(shapes).signature
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _open_input(path: Path, spec: TensorSpec) -> NDArray[Any]:
    shape = spec.shape
    expected = f"expected an .npy file of shape [{', '.join(map(str, ('examples', *shape)))}]"
    examples = open_array(path, expected, lambda found: fits(found, shape))
    if not fits(examples.shape, shape):
        hint = shape_hint(examples.shape, shape)
        raise InputError(f"{path}: has shape {list(examples.shape)}, {expected}{hint}.")
    if complaint := type_complaint(examples.dtype, spec.type):
        raise InputError(f"{path}: holds numbers {complaint}.")
    return examples


def open_array(
    path: Path,
    expected: str,
    suits: Callable[[tuple[int, ...]], bool] = any_shape,
    is_meant: Callable[[NDArray[Any]], bool] | None = None,
) -> NDArray[Any]:
    """Open an array; that of an ``.npy`` file stays on the disk until it is used.

    Parameters
    ----------
    path
        An ``.npy`` file, or an array of an ``.npz`` file.
    expected, suits, is_meant
        See `gossamer.runtime.array_files.read_archive_array`.

    Raises
    ------
    InputError
        If the file cannot be read, or does not say which array is meant.
    """
    if is_archive(path):
        return read_archive_array(path, expected, suits, is_meant)
    _check_start(path, expected)
    return _mapped(path, expected)


def check_finite(path: Path, examples: NDArray[Any], first: int) -> None:
    """Refuse examples of which nothing can be predicted in float32.

    Parameters
    ----------
    path
        Where they come from.
    examples
        Some of them, [n, ...].
    first
        The number of the first of these in the file.

    Raises
    ------
    InputError
        If one holds NaN, infinite numbers, or some that are too large for float32.
    """
    with np.errstate(over="ignore"):  # What is too large becomes infinite, and is found so.
        numbers = examples.astype(np.float32, copy=False)
    sound = np.isfinite(numbers).all(axis=tuple(range(1, examples.ndim)))
    if not sound.all():
        raise InputError(
            f"{path}: example {first + int(np.argmin(sound))} holds NaN or infinite numbers, "
            "or some beyond the range of float32, expected finite ones; repair or leave it out."
        )


def _check_start(path: Path, expected: str) -> None:
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no file" if path.exists() else "not there"
            raise InputError(f"{path}: is {found}, {expected}.")
        with path.open("rb") as file:
            start = file.read(len(npy.MAGIC_PREFIX))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({failure_reason(error)}), {expected}."
        ) from error
    if start[: len(_ZIP_MAGIC)] == _ZIP_MAGIC:
        raise InputError(f"{path}: is an .npz archive, {expected}; let its name end in .npz.")
    if start != npy.MAGIC_PREFIX:
        found = "is empty" if not start else "is no .npy file"
        raise InputError(f"{path}: {found}, {expected}, as numpy.save writes it.")


def _mapped(path: Path, expected: str) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns where it repairs a header.
            array: NDArray[Any] = npy.open_memmap(path, mode="r")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({failure_reason(error)}), {expected}."
        ) from error
    # What NumPy raises at damaged headers is of many kinds.
    except (
        ArithmeticError,
        EOFError,
        LookupError,
        MemoryError,
        RecursionError,
        SyntaxError,
        TokenError,
        TypeError,
        ValueError,
        Warning,
    ) as error:
        raise InputError(
            f"{path}: is damaged, not whole, or holds Python objects, {expected}; write it again."
        ) from error
    return array
