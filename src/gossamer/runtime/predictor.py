"""A network from a file at work."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from gossamer.core.errors import InputError
from gossamer.core.system import available_cores
from gossamer.engine import Floats, Network
from gossamer.engine.gsm.example_shapes import ExampleShapes, own_shapes
from gossamer.engine.gsm.file import Metadata, read_network
from gossamer.engine.native import MOST_THREADS, Engine
from gossamer.runtime.inputs import as_inputs


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
    >>> from gossamer.engine import Linear
    >>> from gossamer.engine import pack_weights
    >>> from gossamer.engine.gsm.file import write_network
    >>> weights = pack_weights(np.array([[0, 2.0], [1.5, 0], [0, 0]]), "csr")
    >>> network = Network((2,), (Linear(0, weights),), output=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_network(f"{folder}/mine.gsm", network, {"name": "mine"})
    ...     predictor = load(f"{folder}/mine.gsm")
    >>> predictor(np.array([[1.0, 2.0], [4.0, 0.0]], np.float32)).tolist()
    [[4.0, 1.5, 0.0], [0.0, 6.0, 0.0]]
    >>> predictor.input_shape, predictor.output_shape, predictor.metadata["name"]
    ((2,), (3,), 'mine')
    """
    return Predictor(*read_network(path))


class Predictor:
    """A network ready to predict.

    Parameters
    ----------
    network
        What to compute.
    metadata
        What is known about it.
    shapes
        In which it takes and gives examples, as `read_network` returns them; by default those of
        the network itself.

    Attributes
    ----------
    network : Network
    metadata : dict
    input_shape : tuple[int, ...]
        The shape of one example.
    output_shape : tuple[int, ...]
        The shape of what is computed for one example; (classes,) in a classifier.

    Raises
    ------
    InputError
        If the network is not sound.
    """

    def __init__(
        self, network: Network, metadata: Metadata, shapes: ExampleShapes | None = None
    ) -> None:
        self.network = network
        self.metadata = metadata
        shapes = own_shapes(network) if shapes is None else shapes
        self.input_shape = shapes.input
        self.output_shape = shapes.output
        self._engine = Engine(network)

    def __call__(self, inputs: ArrayLike, threads: int | None = None) -> Floats:
        """Compute the outputs for some examples.

        Parameters
        ----------
        inputs
            Floating-point numbers [N, *input_shape], scaled as in training: an array, a tensor of
            PyTorch, or nested lists. Computed with as float32.
        threads
            How many to use; by default as many as this process has cores.

        Returns
        -------
        NDArray[numpy.float32]
            [N, *output_shape]; logits, if the network was trained on these.

        Raises
        ------
        InputError
            If the inputs have another shape, are whole numbers, which were not scaled yet, or
            beyond float32; `threads` is no positive number; or memory runs out.
        """
        count = min(available_cores(), MOST_THREADS) if threads is None else threads
        if type(count) is not int or not 1 <= count <= MOST_THREADS:
            raise InputError(
                f"threads is {threads!r}, expected a whole number from 1 to {MOST_THREADS}."
            )
        try:
            given = as_inputs(inputs, self.input_shape)
            examples = np.ascontiguousarray(given).reshape(len(given), *self.network.input_shape)
            return self._engine(examples, count).reshape(len(given), *self.output_shape)
        except MemoryError as error:
            raise InputError(
                f"inputs: so many examples of shape {list(self.input_shape)} take more memory than "
                "is left; predict fewer at a time."
            ) from error

    def __repr__(self) -> str:
        """Say what goes in and out."""
        return (
            f"Predictor({list(self.input_shape)} -> {list(self.output_shape)}, "
            f"{len(self.network.layers)} layers)"
        )
