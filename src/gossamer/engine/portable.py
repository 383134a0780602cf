"""Networks run by NumPy alone: where no compiled kernel is there, and as the reference of tests.

Every operator computes what the function of PyTorch of the same name computes. Examples go through
in batches, and wide convolutions in strips, so that memory stays bounded.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gossamer.engine import weights
from gossamer.engine.check import check_inputs, check_network
from gossamer.engine.fields import Array, Value, read_by
from gossamer.engine.network import Network


def run_portable(
    network: Network, inputs: NDArray[np.floating], dtype: DTypeLike = np.float32
) -> Array:
    """Compute what a network of one input and one output gives for some examples.

    Parameters
    ----------
    network
        What to compute; it is checked first.
    inputs
        Examples [N, *input_shape]; N may be 0.
    dtype
        Computed in, and returned: `numpy.float32`, or `numpy.float64` for a reference.

    Returns
    -------
    NDArray
        [N, *output_shape].

    Raises
    ------
    InputError
        If the network is not sound, or the inputs have another shape.

    Examples
    --------
    >>> from gossamer.engine import Linear, pack_weights
    >>> packed = pack_weights(np.array([[1.0, 0.0], [0.0, 2.0]]), "csr")
    >>> network = Network((2,), (Linear(0, packed),), 1)
    >>> run_portable(network, np.array([[3.0, 4.0]])).tolist()
    [[3.0, 8.0]]
    """
    (output,) = run_portable_all(network, (inputs,), dtype)
    return output


def run_portable_all(
    network: Network, inputs: Sequence[NDArray[np.generic]], dtype: DTypeLike = np.float32
) -> tuple[Array, ...]:
    """Compute what a network of any number of inputs and outputs gives for some examples.

    Parameters and errors are those of `run_portable`, with an array for each input.

    Examples
    --------
    >>> from gossamer.engine import Concatenate
    >>> network = Network(((1,), (2,)), (Concatenate((1, 0)),), (2, 0))
    >>> found = run_portable_all(network, (np.array([[1.0]]), np.array([[2.0, 3.0]])))
    >>> [output.tolist() for output in found]
    [[[2.0, 3.0, 1.0]], [[1.0]]]
    """
    shapes = check_network(network)
    count = check_inputs(network, inputs)
    widest = max(math.prod(shape) for shape in shapes)
    size = max(1, weights.NUMBERS_AT_ONCE // widest)
    results = tuple(np.empty((count, *shapes[value]), dtype) for value in network.outputs)
    # Overflow gives infinity and NaN here as it does in PyTorch, without a word.
    with np.errstate(all="ignore"):
        for start in range(0, count, size):
            batch = [np.asarray(given[start : start + size], dtype) for given in inputs]
            for result, found in zip(results, _run_batch(network, batch), strict=True):
                result[start : start + size] = found
    return results


def _run_batch(network: Network, inputs: Sequence[Array]) -> list[Array]:
    """Compute one batch; a value is let go once nothing reads it any more."""
    last_reader = {value: i for i, layer in enumerate(network.layers) for value in read_by(layer)}
    values: dict[Value, Array] = dict(enumerate(inputs))
    for i, layer in enumerate(network.layers):
        given = len(inputs) + i
        values[given] = layer.run(values)
        for value in {given, *read_by(layer)}:
            if last_reader.get(value, 0) <= i and value not in network.outputs:
                del values[value]
    return [values[value] for value in network.outputs]
