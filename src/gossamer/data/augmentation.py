"""Random affine maps of resident batches of images, with Keras' ``ImageDataGenerator`` semantics.

Rotation, shift, shear, zoom and flip of an image are one matrix, so a batch is warped in one
bilinear pass. Standardised values may be warped as well as raw ones: every new pixel is a weighted
mean of pixels of the same image, with weights that add up to 1 whether it lies inside or takes the
nearest value at the border, and ``x -> (x / scale - mean) / std`` commutes with such means. (It
would not with a border filled with a constant.)
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gossamer.core.errors import InputError
from gossamer.core.streams import stream

Array = NDArray[np.float64]

_DRAWS = 7  # Rotation, two shifts, shear, two zooms, flip: drawn whether they are used or not.


def epoch_maps(
    shape: Sequence[int],
    seed: int,
    epoch: int,
    *,
    rotation: float = 0.0,
    shift: float = 0.0,
    shear: float = 0.0,
    zoom: float = 0.0,
    flip: bool = False,
) -> Tensor:
    """Draw the affine map of every image for one epoch.

    The map of an image depends on seed, epoch and the position of the image alone: neither on
    the order of the epoch nor on the size of batches. Each component has draws of its own, so
    that switching one on leaves the others as they were.

    Parameters
    ----------
    shape
        That of all images, ``[examples, channels, height, width]``.
    seed
        The seed of the trial.
    epoch
        The global epoch.
    rotation
        Degrees; each image turns by an angle drawn uniformly from ``-rotation`` to ``rotation``.
    shift
        Fraction of the height and of the width; each image moves along both, uniformly from
        ``-shift`` to ``shift``.
    shear
        Degrees, uniformly from ``-shear`` to ``shear``; rows lean and columns stay upright.
    zoom
        Both axes are sampled in steps of their own, uniformly from ``1 - zoom`` to ``1 + zoom``
        pixels.
    flip
        Whether an image is mirrored left to right with probability one half.

    Returns
    -------
    Tensor
        ``[examples, 2, 3]``, float32, for `warp`: from the ``(x, y, 1)`` of a new pixel to the
        ``(x, y)`` that its value is taken from, both from -1 to 1 between the image's outer edges.

    Raises
    ------
    InputError
        If the shape is not that of images.

    Examples
    --------
    >>> epoch_maps((3, 1, 4, 4), seed=0, epoch=1, flip=True)[:, 0, 0].tolist()
    [1.0, -1.0, -1.0]
    """
    if len(shape) != 4:
        raise InputError(
            "augmentation needs images, [examples, channels, height, width], "
            f"but the inputs have shape {list(shape)}: leave augmentation out."
        )
    examples, _, height, width = shape
    draws = stream(seed, "augmentation", epoch).uniform(-1, 1, (examples, _DRAWS)).T
    pixels = _compose(
        angle=np.deg2rad(rotation * draws[0]),
        row_shift=shift * height * draws[1],
        column_shift=shift * width * draws[2],
        lean=np.deg2rad(shear * draws[3]),
        row_step=1 + zoom * draws[4],
        column_step=(1 + zoom * draws[5]) * np.where(flip & (draws[6] < 0), -1.0, 1.0),
    )
    return torch.from_numpy(_normalise(pixels, height, width))


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Apply an affine map to each image of a batch: bilinear, nearest pixel beyond the border.

    Parameters
    ----------
    images
        ``[examples, channels, height, width]``, float32.
    maps
        ``[examples, 2, 3]``, see `epoch_maps`.

    Returns
    -------
    Tensor
        Shape and memory layout of the images. The identity is exact where height and width are
        powers of two, and up to the rounding of the positions elsewhere.

    Examples
    --------
    >>> mirror = torch.tensor([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> warp(torch.arange(4.0).view(1, 1, 1, 4), mirror).tolist()
    [[[[3.0, 2.0, 1.0, 0.0]]]]
    """
    height, width = images.shape[2:]
    x_term, y_term, offset = maps[..., None, None].unbind(2)
    # What affine_grid computes, as one sum over contiguous planes of x and of y: faster, and
    # exact where the map is the identity.
    positions = x_term * _centres(width, maps) + (y_term * _centres(height, maps)[:, None] + offset)
    # Positions end at the outer edges of the outer pixels (align_corners=False), so the centre of
    # the image is the origin and a turn by 90 degrees moves pixel centres onto pixel centres.
    # Channels come first here because the kernel gathers from whole planes fastest.
    warped = functional.grid_sample(
        images.contiguous(),
        positions.permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return torch.empty_like(images).copy_(warped)  # Back to the images' layout in memory.


def _compose(
    angle: Array,
    row_shift: Array,
    column_shift: Array,
    lean: Array,
    row_step: Array,
    column_step: Array,
) -> Array:
    """Multiply rotation, shift, shear and zoom, in Keras' order, for each example.

    Returns ``[examples, 2, 3]``, from ``(row, column, 1)`` of a new pixel to the ``(row, column)``
    that it is taken from, in pixels from the image's centre.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack(
        [
            cos * row_step,
            -np.sin(angle + lean) * column_step,
            cos * row_shift - sin * column_shift,
            sin * row_step,
            np.cos(angle + lean) * column_step,
            sin * row_shift + cos * column_shift,
        ],
        axis=-1,
    ).reshape(-1, 2, 3)


def _normalise(pixels: Array, height: int, width: int) -> NDArray[np.float32]:
    """Turn maps of ``(row, column, 1)`` in pixels into maps of ``(x, y, 1)`` from -1 to 1."""
    halves = np.array([width / 2, height / 2])
    maps: Array = pixels[:, ::-1, [1, 0, 2]] * np.append(halves, 1.0) / halves[:, np.newaxis]
    return maps.astype(np.float32)


def _centres(count: int, like: Tensor) -> Tensor:
    """Return where the centres of so many pixels lie between -1 and 1."""
    return torch.arange(1 - count, count, 2, dtype=like.dtype, device=like.device) / count
