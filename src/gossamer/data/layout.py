"""Which axis of an image holds its channels: what can be told from a shape, and what cannot."""

from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError

Layout = Literal["channels_first", "channels_last"]

MOST_CHANNELS = 4
"""Grey, grey with transparency, RGB, RGB with transparency."""


def channels_first(what: str, images: NDArray[Any], layout: Layout | None) -> NDArray[Any]:
    """Return images as ``[examples, channels, height, width]``.

    Parameters
    ----------
    what
        The subject of a complaint, such as ``"mine.npz: x_train"``.
    images
        ``[examples, a, b, c]``.
    layout
        What the axes are; None: channels come first, if nothing in the shape speaks for the other
        reading (see `speaks_for`).

    Raises
    ------
    InputError
        If there is no layout and the shape leaves it open.

    Examples
    --------
    >>> channels_first("x", np.zeros((5, 3, 32, 32)), None).shape
    (5, 3, 32, 32)
    >>> channels_first("x", np.zeros((5, 32, 32, 3)), "channels_last").shape
    (5, 3, 32, 32)
    """
    if layout == "channels_last":
        return np.moveaxis(images, -1, 1)
    first, middle, last = images.shape[1:]
    if layout is None and not is_clear(first, middle, last):
        raise InputError(
            f"{what} has shape {list(images.shape)}, which may be images of {first} channels and "
            f"{middle} x {last} pixels, or of {first} x {middle} pixels and {last} channels; say "
            'which: write layout="channels_first" or layout="channels_last" into the .npz beside '
            "the arrays."
        )
    return images


def is_clear(first: int, middle: int, last: int) -> bool:
    """Whether ``[examples, first, middle, last]`` can be taken for channels, height and width.

    Something must speak for that reading and nothing for channels last; or both come to the same.

    Examples
    --------
    >>> is_clear(1, 28, 28), is_clear(64, 8, 8), is_clear(3, 32, 48)
    (True, True, True)
    >>> is_clear(28, 28, 1), is_clear(8, 6, 3), is_clear(3, 32, 3), is_clear(4, 4, 4)
    (False, False, False, False)
    """
    if first == middle == last == 1:
        return True
    return speaks_for(first, middle, last) and not speaks_for(last, first, middle)


def speaks_for(channels: int, height: int, width: int) -> bool:
    """Whether something makes a reading likely: few channels, square images, or both sides longer.

    Few are at most `MOST_CHANNELS`, as pictures have; both sides of an image of more channels are
    usually longer than there are channels, or equal, as in the maps inside a network.
    """
    return channels <= MOST_CHANNELS or height == width or channels < min(height, width)


def checked_layout(what: str, layout: str | None) -> Layout | None:
    """Return a layout; complain of what is none.

    Raises
    ------
    InputError
        If it is none of the two.
    """
    if layout is None or layout in get_args(Layout):
        return cast("Layout | None", layout)
    raise InputError(f"{what} is {layout!r}, expected {' or '.join(get_args(Layout))}.")
