"""Which inputs of a network are looked up in tables, and whether they count rows of these.

The compiled kernels never read outside of a table, but cannot stop either: a number that counts no
row, or no place, gives NaN there and is noted. So inputs are looked at beforehand, and what is
computed inside of a network where one was noted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gossamer.engine.fields import Value
from gossamer.engine.network import Network
from gossamer.engine.ops.embedding import Embedding, check_indices
from gossamer.engine.ops.gather import Gather
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.ops.scatter import Scatter


class Indices:
    """What a network looks up.

    Attributes
    ----------
    rows
        By the number of an input, the rows of the smallest table in which it is looked up.
    any
        Whether anything is looked up, in a table or by its place.
    """

    def __init__(self, network: Network) -> None:
        sources: dict[Value, Value] = {}
        self.rows: dict[int, int] = {}
        self.any = any(isinstance(layer, Embedding | Gather | Scatter) for layer in network.layers)
        for number, layer in enumerate(network.layers, start=len(network.inputs)):
            if isinstance(layer, Reshape):
                sources[number] = sources.get(layer.input, layer.input)
            if not isinstance(layer, Embedding):
                continue
            source = sources.get(layer.input, layer.input)
            if isinstance(source, int) and source < len(network.inputs):
                self.rows[source] = min(layer.weights.rows, self.rows.get(source, 2**63))

    def check(self, inputs: Sequence[NDArray[np.generic]]) -> None:
        """Refuse inputs that count no row of their table.

        Raises
        ------
        InputError
            If one does, with its number.
        """
        for number, rows in self.rows.items():
            of = "the input" if len(inputs) == 1 else f"input {number}"
            check_indices(np.asarray(inputs[number]), rows, of)
