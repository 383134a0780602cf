"""A folder of images: ``train/CLASS/*.png``, ``test/CLASS/*.png`` and, perhaps, ``validation``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.core.formats import listed
from gossamer.core.installing import needing
from gossamer.shrinking.split import Preprocessing, Split

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
"""What the folder of each part may be called."""


def of_folder(folder: Path) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Return the parts of a folder of images, and the names of its classes, in sorted order.

    Images are ``[channels, height, width]`` of bytes, divided by 255 when a batch is made.

    Raises
    ------
    InputError
        If there is no ``train`` in it, a class has a folder in one part and not in another, an
        image cannot be read, or images are of different sizes.
    """
    found: dict[str, Path] = {}
    for part, names in PARTS.items():
        there = [folder / name for name in names if (folder / name).is_dir()]
        if len(there) > 1:
            raise InputError(f"{folder}: holds {there[0].name} and {there[1].name}, expected one.")
        if there:
            found[part] = there[0]
    if "train" not in found:
        raise InputError(
            f"{folder}: holds no folder train, expected train/CLASS/*.png and test/CLASS/*.png."
        )
    classes = _classes(found["train"])
    for part, place in found.items():
        if _classes(place) != classes:
            own = set(_classes(place)) ^ set(classes)
            raise InputError(
                f"{folder}: the classes of {part} are others than those of train "
                f"({listed(sorted(own))}), expected the same folders in each."
            )
    return {part: _read(place, classes) for part, place in found.items()}, classes


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(
        one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")
    )
    if len(names) < 2:
        raise InputError(
            f"{folder}: holds {len(names)} folders of classes, expected at least 2, with the "
            "images of a class in each."
        )
    return tuple(names)


def _read(folder: Path, classes: tuple[str, ...]) -> Split:
    with needing("images", f"the images of {folder}"):
        from PIL import Image
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    first: Path | None = None
    for label, name in enumerate(classes):
        paths = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in ENDINGS)
        if not paths:
            raise InputError(
                f"{folder / name}: holds no images, expected some of {', '.join(ENDINGS)}."
            )
        for path in paths:
            try:
                with Image.open(path) as image:
                    pixels = pixels_of(image)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            except (OSError, ValueError, SyntaxError, EOFError) as error:
                raise InputError(f"{path}: cannot be read as an image ({error}).") from error
            if first is None:
                first = path
            elif pixels.shape != images[0].shape:
                raise InputError(
                    f"{path}: is {_size(pixels)}, but {first} is {_size(images[0])}, expected "
                    "images of one size: resize them, or give a Dataset that does."
                )
            images.append(pixels)
            labels.append(label)
    return Split(torch.from_numpy(np.stack(images)), torch.tensor(labels), Preprocessing(255.0))


def pixels_of(image: Any) -> NDArray[np.uint8]:
    """Return a picture of Pillow's as ``[channels, height, width]``: grey has one, colour three."""
    if image.mode.startswith(("I", "F")):
        raise InputError(f"an image has pixels of mode {image.mode}, expected 8 bits a channel.")
    grey = image.mode in ("1", "L", "LA")
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return np.ascontiguousarray(pixels[np.newaxis] if grey else np.moveaxis(pixels, -1, 0))


def _size(pixels: NDArray[np.uint8]) -> str:
    channels, height, width = pixels.shape
    return f"{width} x {height} of {channels} channels"
