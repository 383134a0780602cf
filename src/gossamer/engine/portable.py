"""Networks run by NumPy alone: where no compiled kernel is there, and as the reference of tests.

Every operator computes what the function of PyTorch of the same name computes. Examples go through
in batches, and wide convolutions in strips, so that memory stays bounded.
"""

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gossamer.engine import weights
from gossamer.engine.check import check_inputs, check_network
from gossamer.engine.fields import Array, Value, read_by
from gossamer.engine.network import Network


def run_portable(
    network: Network, inputs: NDArray[np.floating], dtype: DTypeLike = np.float32
) -> Array:
    """Compute what a network gives for some examples.

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
    >>> network = Network((2,), (Linear(0, packed),), output=1)
    >>> run_portable(network, np.array([[3.0, 4.0]])).tolist()
    [[3.0, 8.0]]
    """
    shapes = check_network(network)
    check_inputs(network, inputs)
    widest = max(math.prod(shape) for shape in shapes)
    size = max(1, weights.NUMBERS_AT_ONCE // widest)
    results = np.empty((len(inputs), *shapes[network.output]), dtype)
    # Overflow gives infinity and NaN here as it does in PyTorch, without a word.
    with np.errstate(all="ignore"):
        for start in range(0, len(inputs), size):
            batch = np.asarray(inputs[start : start + size], dtype)
            results[start : start + size] = _run_batch(network, batch)
    return results


def _run_batch(network: Network, inputs: Array) -> Array:
    """Compute one batch; a value is let go once nothing reads it any more."""
    last_reader = {value: i for i, layer in enumerate(network.layers) for value in read_by(layer)}
    values: dict[Value, Array] = {0: inputs}
    for i, layer in enumerate(network.layers):
        values[i + 1] = layer.run(values)
        for value in {i + 1, *read_by(layer)}:
            if last_reader.get(value, 0) <= i and value != network.output:
                del values[value]
    return values[network.output]
