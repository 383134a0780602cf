"""A network from a file at work."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from gossamer.errors import InputError
from gossamer.kernels.checks import check_inputs, check_network
from gossamer.kernels.engine import MOST_THREADS, Engine
from gossamer.kernels.network import Floats, Network, Shape
from gossamer.runtime.file import Metadata, read_network


def load(path: Path | str) -> "Predictor":
    """Load a network that `gossamer.compress(...).save` wrote; NumPy is all it takes.

    Parameters
    ----------
    path
        A ``.gsm`` file.

    Returns
    -------
    Predictor
        Callable on examples.

    Raises
    ------
    InputError
        If the file cannot be read, or is damaged or no such file.

    Examples
    --------
    >>> import tempfile
    >>> from gossamer.kernels.network import Linear
    >>> from gossamer.kernels.weights import pack_weights
    >>> from gossamer.runtime.file import write_network
    >>> weights = pack_weights(np.array([[0, 2.0], [1.5, 0], [0, 0]]), "sparse")
    >>> network = Network((2,), (Linear(0, weights),), output=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_network(f"{folder}/mine.gsm", network, {"name": "mine"})
    ...     predictor = load(f"{folder}/mine.gsm")
    >>> predictor(np.array([[1.0, 2.0], [4.0, 0.0]], np.float32)).tolist()
    [[4.0, 1.5, 0.0], [0.0, 6.0, 0.0]]
    >>> predictor.input_shape, predictor.output_shape, predictor.metadata["name"]
    ((2,), (3,), 'mine')
    """
    network, metadata = read_network(path)
    return Predictor(network, metadata)


class Predictor:
    """A network ready to predict.

    Parameters
    ----------
    network
        What to compute.
    metadata
        What is known about it.

    Attributes
    ----------
    network : Network
    metadata : dict

    Raises
    ------
    InputError
        If the network is not sound.
    """

    def __init__(self, network: Network, metadata: Metadata) -> None:
        self.network = network
        self.metadata = metadata
        self._shapes = check_network(network)
        self._engine = Engine(network)

    @property
    def input_shape(self) -> Shape:
        """The shape of one example."""
        return self.network.input_shape

    @property
    def output_shape(self) -> Shape:
        """The shape of what is computed for one example; (classes,) in a classifier."""
        return self._shapes[self.network.output]

    def __call__(self, inputs: ArrayLike, threads: int | None = None) -> Floats:
        """Compute the outputs for some examples.

        Parameters
        ----------
        inputs
            Real numbers [N, *input_shape], scaled as in training; computed with as float32.
        threads
            How many to use; by default as many as this process has cores.

        Returns
        -------
        NDArray[numpy.float32]
            [N, *output_shape]; logits, if the network was trained on these.

        Raises
        ------
        InputError
            If the inputs have another shape, `threads` is no positive number, or memory runs out.
        """
        given = np.asarray(inputs)
        check_inputs(self.network, given)
        count = min(available_cores(), MOST_THREADS) if threads is None else threads
        if type(count) is not int or not 1 <= count <= MOST_THREADS:
            raise InputError(
                f"threads is {threads!r}, expected a whole number from 1 to {MOST_THREADS}."
            )
        try:
            return self._engine(np.ascontiguousarray(given, np.float32), count)
        except MemoryError as error:
            raise InputError(
                f"inputs: {len(given)} examples of shape {list(self.input_shape)} take more memory "
                "than is left; predict fewer at a time."
            ) from error

    def __repr__(self) -> str:
        """Say what goes in and out."""
        return (
            f"Predictor({list(self.input_shape)} -> {list(self.output_shape)}, "
            f"{len(self.network.layers)} layers)"
        )


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
