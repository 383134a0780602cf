"""What to install where a package is missing.

gossamer itself needs NumPy alone; extras bring what its parts need, so that somebody who predicts,
prunes or audits installs no more than that takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossamer.core.errors import MissingPackageError

PACKAGES = {
    "PIL": "pillow",
    "altair": "altair",
    "click": "click",
    "dask": "dask",
    "distributed": "distributed",
    "fsspec": "fsspec",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "pooch": "pooch",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "rich": "rich",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "tensorboard": "tensorboard",
    "torch": "torch",
    "typer": "typer",
    "vl_convert": "vl-convert-python",
}
"""What the extras bring: the name of each package by that of its module."""


def extra_of_module(module: str) -> str:
    """Return the extra that a module of this library needs.

    Examples
    --------
    >>> extra_of_module("gossamer.masks"), extra_of_module("gossamer.leakage")
    ('prune', 'audit')
    """
    if module.endswith(".onnx"):
        return "onnx"
    return "audit" if "leakage" in module.split(".") else "prune"


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Say in one sentence what to install where a package turns out to be missing in the block.

    Parameters
    ----------
    extra
        What brings the packages.
    what
        What needs them, as the sentence begins.

    Raises
    ------
    MissingPackageError
        In the place of a ModuleNotFoundError about one of `PACKAGES`.

    Examples
    --------
    >>> with needing("prune", "gossamer.prune"):
    ...     raise ModuleNotFoundError(name="torch")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    gossamer.core.errors.MissingPackageError: gossamer.prune needs torch, which is ...: ...
    """
    try:
        yield
    except MissingPackageError:
        raise
    except ModuleNotFoundError as error:
        package = PACKAGES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise MissingPackageError(
            f"{what} needs {package}, which is not installed: {remedy(extra)}.", name=error.name
        ) from error


def remedy(extra: str) -> str:
    """Return the words that tell how to install an extra: where gossamer came from, if known."""
    import shlex  # all that a remedy needs is loaded for it alone: every start would wait for it

    own = _origin()
    if own is None:
        return (
            f"run `pip install '.[{extra}]'` in a clone of gossamer, or give pip its wheel with "
            f"[{extra}] behind the name"
        )
    path, editable = own
    option = "--editable " if editable else ""
    return f"run `pip install {option}{shlex.quote(f'{path}[{extra}]')}`"


def own_version() -> str:
    """Return gossamer's version, or that it is run from a folder without being installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gossamer")
    except PackageNotFoundError:
        return "of no version: it is not installed"


def _origin() -> tuple[Path, bool] | None:
    """Return the folder or wheel that gossamer was installed from, and whether editable.

    pip notes it; None if it did not, or if what it was is gone.
    """
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        text = distribution("gossamer").read_text("direct_url.json")
        noted: dict[str, Any] = json.loads(text or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    url = urlsplit(noted.get("url", ""))
    path = Path(url2pathname(url.path))
    if url.scheme != "file" or not path.exists():
        return None
    return path, bool(noted.get("dir_info", {}).get("editable"))
