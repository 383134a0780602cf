"""The sizes of the published networks: arithmetic that needs no torch."""

from collections.abc import Sequence

from gossamer.errors import InputError

MLP_HIDDEN = (1000, 1000, 500, 200)
"""Units of the hidden layers of the published multilayer perceptron."""

_CONVOLUTION_LOSS = 2  # a 3x3 convolution without padding
_SMALLEST_SIDE = 10


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


def fashion_cnn_features(input_shape: Sequence[int]) -> int:
    """Return how many features the convolutions of `fashion_cnn` leave.

    Parameters
    ----------
    input_shape
        Channels, height and width of one example.

    Raises
    ------
    InputError
        If the shape has other than three sizes, or a side too small for the convolutions.

    Examples
    --------
    >>> fashion_cnn_features((1, 28, 28))
    1600
    """
    if len(input_shape) != 3:
        raise InputError(
            f"The network 'fashion-cnn' got examples of shape {tuple(input_shape)}, but expected "
            "(channels, height, width): use 'mlp' for inputs that are not images."
        )
    _, height, width = input_shape
    if min(height, width) < _SMALLEST_SIDE:
        raise InputError(
            f"The network 'fashion-cnn' got images of {height}x{width} pixels, but expected at "
            f"least {_SMALLEST_SIDE}x{_SMALLEST_SIDE}, as its two convolutions without padding "
            "and its two poolings leave nothing of smaller ones: use larger images or 'mlp'."
        )
    return 64 * _reduced(_reduced(height)) * _reduced(_reduced(width))


def _reduced(side: int) -> int:
    """Return the side of an image after one convolution and one pooling."""
    return (side - _CONVOLUTION_LOSS) // 2
