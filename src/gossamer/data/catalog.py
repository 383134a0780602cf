"""Datasets by name: the built-in ones and the user's own file."""

import difflib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gossamer.core.errors import InputError
from gossamer.data.cifar import load_cifar10_folder
from gossamer.data.dataset import Dataset
from gossamer.data.digits import load_digits
from gossamer.data.download import download
from gossamer.data.idx import load_idx_folder
from gossamer.data.npz import load_npz


def names() -> tuple[str, ...]:
    """Return the names of the built-in datasets.

    Examples
    --------
    >>> names()
    ('digits', 'mnist', 'fashion-mnist', 'cifar10')
    """
    return tuple(_BUILT_IN)


def load(name_or_path: str, root: Path | str | None = None) -> Dataset:
    """Load a built-in dataset or an ``.npz`` file.

    Parameters
    ----------
    name_or_path
        One of `names`, or a path that ends in ``.npz`` (see `gossamer.data.load_npz`).
    root
        A folder of datasets on disk, ``<root>/<name>/`` holding the files of one; without it
        the environment variable ``GOSSAMER_DATA`` names the folder. What is not there at all is
        downloaded into the user's cache; what is there in part is refused.

    Returns
    -------
    Dataset
        The examples as they are stored.

    Raises
    ------
    InputError
        If the name is unknown, or the files are missing or damaged.

    Examples
    --------
    >>> load("digits").input_shape
    (1, 8, 8)
    """
    if name_or_path in _BUILT_IN:
        return _BUILT_IN[name_or_path](datasets_folder(root))
    if name_or_path.endswith(".npz"):
        return load_npz(Path(name_or_path).expanduser())
    similar = difflib.get_close_matches(name_or_path.lower(), _BUILT_IN, n=1)
    hint = f"; did you mean {similar[0]}?" if similar else "."
    raise InputError(
        f"{name_or_path}: no such dataset, expected {', '.join(_BUILT_IN)} "
        f"or a path that ends in .npz{hint}"
    )


def datasets_folder(root: Path | str | None) -> Path | None:
    """Return the folder of datasets on disk: the given one, else ``GOSSAMER_DATA``, else None."""
    chosen = root or os.environ.get("GOSSAMER_DATA")
    return Path(chosen).expanduser() if chosen else None


def _load_published(
    load_folder: Callable[[Path, str], Dataset], name: str, root: Path | None
) -> Dataset:
    """Load the files of ``<root>/<name>/`` or, if nothing is there, the download."""
    if root is None:
        return load_folder(download(name), name)
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder, expected a folder of datasets "
            f"(--data or GOSSAMER_DATA) that holds {name}/."
        )
    folder = root / name
    there = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    return load_folder(folder if there else download(name), name)


_BUILT_IN: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": lambda _: load_digits(),
    "mnist": partial(_load_published, load_idx_folder, "mnist"),
    "fashion-mnist": partial(_load_published, load_idx_folder, "fashion-mnist"),
    "cifar10": partial(_load_published, load_cifar10_folder, "cifar10"),
}
