"""A network from a file at work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gossamer.core.errors import InputError
from gossamer.core.system import available_cores
from gossamer.engine import Network, Signature, own_signature
from gossamer.engine.gsm.file import Metadata, read_network
from gossamer.engine.lengths import Plans
from gossamer.engine.native import MOST_THREADS
from gossamer.runtime.decoder import Decoder
from gossamer.runtime.inputs import arranged, as_inputs, plan_for


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
    >>> network = Network((2,), (Linear(0, weights),), 1)
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
    signature
        What it takes and gives, as `read_network` returns it; by default the shapes of the network
        itself.

    Attributes
    ----------
    network : Network
    metadata : dict
    signature : Signature
        Names, shapes and types of its inputs and outputs.
    plans : Plans
        What runs it, by the length of the inputs where several are taken.
    input_shape : tuple[int, ...]
        The shape of one example of the first input.
    output_shape : tuple[int, ...]
        The shape of the first output for one example; (classes,) in a classifier.

    Raises
    ------
    InputError
        If the network is not sound.
    """

    def __init__(
        self, network: Network, metadata: Metadata, signature: Signature | None = None
    ) -> None:
        self.network = network
        self.metadata = metadata
        self.signature = own_signature(network) if signature is None else signature
        self.input_shape = self.signature.inputs[0].shape
        self.output_shape = self.signature.outputs[0].shape
        self.plans = Plans(network, self.signature)
        # Asked once: reading the quotas of control groups takes longer than a small network does.
        self._threads = min(available_cores(), MOST_THREADS)

    def __call__(
        self,
        *inputs: ArrayLike | Mapping[str, ArrayLike],
        threads: int | None = None,
        **named: ArrayLike,
    ) -> Any:
        """Compute the outputs for some examples.

        Parameters
        ----------
        inputs, named
            For each input an array [N, *shape], a tensor of PyTorch, or nested lists: in order, or
            by the names in `signature.inputs`, as keywords or in one dictionary. Floating-point
            numbers are to be scaled as in training, and are computed with as float32; where the
            network takes whole numbers, such as tokens, or truth values, these.
        threads
            How many to use; by default as many as this process had cores when it loaded the file.

        Returns
        -------
        NDArray, tuple or dict of these
            Each output [N, *shape], as the model returned them: a single one by itself, several
            in a tuple, or by name; logits, if the network was trained on these.

        Raises
        ------
        InputError
            If the inputs have another shape or type, are missing, or beyond float32; `threads` is
            no positive number; or memory runs out.

        Examples
        --------
        >>> from gossamer.engine import Concatenate
        >>> predictor = Predictor(Network(((1,), (2,)), (Concatenate((1, 0)),), 2), {})
        >>> predictor([[1.0]], [[2.0, 3.0]]).tolist()
        [[2.0, 3.0, 1.0]]
        >>> predictor(input_1=[[2.0, 3.0]], input_0=[[1.0]]).tolist()
        [[2.0, 3.0, 1.0]]
        """
        count = self._threads if threads is None else threads
        if type(count) is not int or not 1 <= count <= MOST_THREADS:
            raise InputError(
                f"threads is {threads!r}, expected a whole number from 1 to {MOST_THREADS}."
            )
        try:
            values = arranged(self.signature.inputs, inputs, named)
            plan = plan_for(self.plans, values)
            arrays = as_inputs(values, plan.signature.inputs)
            examples = [
                np.ascontiguousarray(array).reshape(len(array), *shape)
                for array, shape in zip(arrays, plan.network.inputs, strict=True)
            ]
            return plan.signature.returned(plan.engine.run(examples, count))
        except MemoryError as error:
            raise InputError(
                f"inputs: so many examples of shape {list(self.input_shape)} take more memory than "
                "is left; predict fewer at a time."
            ) from error

    def decoder(
        self, max_length: int | None = None, *, batch: int = 1, threads: int = 1
    ) -> Decoder:
        """Return what computes a causal network token by token, with keys and values kept.

        Parameters
        ----------
        max_length
            How many tokens it can be given; by default as many as the network takes.
        batch
            How many sequences are computed side by side; a mask tells their lengths apart.
        threads
            How many to use.

        Raises
        ------
        InputError
            If tokens cannot be computed one at a time, with what mixes them.
        """
        return Decoder(self.network, self.signature, max_length, threads, batch)

    def __repr__(self) -> str:
        """Say what goes in and out."""
        inputs, outputs = (
            ", ".join(str(list(spec.shape)) for spec in specs)
            for specs in (self.signature.inputs, self.signature.outputs)
        )
        return f"Predictor({inputs} -> {outputs}, {len(self.network.layers)} layers)"
