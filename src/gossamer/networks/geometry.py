"""The sizes of the published networks: arithmetic that needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.core.errors import InputError

HIDDEN = {
    "cifar-dropout-cnn": (512, 128),
    "cifar-wide-cnn": (2048, 512, 128, 32),
    "mlp": (1000, 1000, 500, 200),
}
"""Units of the hidden dense layers as published, for the networks where they may differ."""


@dataclass(frozen=True)
class _Blocks:
    """The blocks of an image network, each of convolutions and a 2x2 max-pooling at its end."""

    losses: tuple[int, ...]
    """Pixels of a side that each block's convolutions take: 2 for a 3x3 one without padding."""
    filters: int
    """Channels that the last block gives."""

    @property
    def smallest_side(self) -> int:
        side = 1
        for loss in reversed(self.losses):
            side = 2 * side + loss
        return side

    def reduced(self, side: int) -> int:
        """Return the side that an image has after the last block."""
        for loss in self.losses:
            side = (side - loss) // 2
        return side


_IMAGE_NETWORKS = {
    "cifar-cnn": _Blocks(losses=(0, 0, 0), filters=128),
    "cifar-dropout-cnn": _Blocks(losses=(0, 0, 0), filters=128),
    "cifar-wide-cnn": _Blocks(losses=(0, 0, 0), filters=512),
    "fashion-cnn": _Blocks(losses=(2, 2), filters=64),
    "mnist-cnn": _Blocks(losses=(4,), filters=64),
}


def check_sizes(input_shape: Sequence[int], classes: int) -> None:
    """Refuse what cannot be the shape of an input or a number of classes.

    Parameters
    ----------
    input_shape
        Shape of one example, without the batch dimension.
    classes
        Number of classes.

    Raises
    ------
    InputError
        If the shape is empty or holds a size below 1, or if there is no class.
    """
    if not input_shape or min(input_shape) < 1:
        raise InputError(
            f"The input shape is {tuple(input_shape)}, but one or more sizes of at least 1 were "
            "expected: give the shape of one example without the batch dimension."
        )
    if classes < 1:
        raise InputError(
            f"The number of classes is {classes}, but at least 1 was expected: "
            "give the number of outputs of the network."
        )


def check_examples(name: str, input_shape: Sequence[int]) -> None:
    """Refuse examples that the network of that name cannot take, if it is one of images.

    Parameters
    ----------
    name
        A published network or another.
    input_shape
        Shape of one example, without the batch dimension.

    Raises
    ------
    InputError
        If the network takes images, and the shape has other than three sizes or a side too small
        for its convolutions and poolings.
    """
    if name not in _IMAGE_NETWORKS:
        return
    if len(input_shape) != 3:
        raise InputError(
            f"The network {name!r} got examples of shape {tuple(input_shape)}, but expected "
            "(channels, height, width): use 'mlp' for inputs that are not images."
        )
    _, height, width = input_shape
    side = _IMAGE_NETWORKS[name].smallest_side
    if min(height, width) < side:
        raise InputError(
            f"The network {name!r} got images of {height}x{width} pixels, but expected at least "
            f"{side}x{side}, as its convolutions and poolings leave nothing of smaller ones: use "
            "larger images or 'mlp'."
        )


def image_features(name: str, input_shape: Sequence[int]) -> int:
    """Return how many features the convolutions of a published image network leave.

    Parameters
    ----------
    name
        The network.
    input_shape
        Channels, height and width of one example.

    Raises
    ------
    InputError
        As `check_examples` does.

    Examples
    --------
    >>> image_features("fashion-cnn", (1, 28, 28)), image_features("cifar-wide-cnn", (3, 32, 32))
    (1600, 8192)
    """
    check_examples(name, input_shape)
    blocks = _IMAGE_NETWORKS[name]
    _, height, width = input_shape
    return blocks.filters * blocks.reduced(height) * blocks.reduced(width)
