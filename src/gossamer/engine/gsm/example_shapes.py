"""Shapes of examples as their model in PyTorch takes and gives them.

Kernels slide over images alone; a model of sequences, for one, takes [channels, length] where its
network takes [channels, 1, length], the same numbers in the same order.
"""

import math
from dataclasses import dataclass

from gossamer.core.errors import InputError
from gossamer.engine import Network, Shape, check_network

MOST_LENGTHS = 8


@dataclass(frozen=True)
class ExampleShapes:
    """Shapes of one example and of what is computed for it, each without the batch."""

    input: Shape
    output: Shape


def own_shapes(network: Network) -> ExampleShapes:
    """Return the shapes in which a network itself takes and gives examples.

    Raises
    ------
    InputError
        If the network is not sound.

    Examples
    --------
    >>> own_shapes(Network((2, 1, 9), (), output=0))
    ExampleShapes(input=(2, 1, 9), output=(2, 1, 9))
    """
    return ExampleShapes(network.input_shape, check_network(network)[network.output])


def check_example_shapes(shapes: ExampleShapes, own: ExampleShapes) -> None:
    """Check the shapes of a model against those of its network.

    Parameters
    ----------
    shapes
        Those of the model.
    own
        Those of the network.

    Raises
    ------
    InputError
        If one is no shape, or holds another number of numbers.

    Examples
    --------
    >>> check_example_shapes(ExampleShapes((2, 9), (18,)), ExampleShapes((2, 1, 9), (2, 1, 9)))
    >>> check_example_shapes(ExampleShapes((2, 8), (18,)), ExampleShapes((2, 1, 9), (2, 1, 9)))
    Traceback (most recent call last):
        ...
    gossamer.core.errors.InputError: input_shape is (2, 8), expected a shape of 18 numbers, ...
    """
    _check("input_shape", shapes.input, own.input)
    _check("output_shape", shapes.output, own.output)


def _check(name: str, shape: object, own: Shape) -> None:
    if (
        not isinstance(shape, tuple)
        or len(shape) > MOST_LENGTHS
        or not all(type(length) is int and length >= 1 for length in shape)
        or math.prod(shape) != math.prod(own)
    ):
        raise InputError(
            f"{name} is {shape!r:.80}, expected a shape of {math.prod(own)} numbers, as the "
            f"network has {list(own)}, of at most {MOST_LENGTHS} lengths."
        )
