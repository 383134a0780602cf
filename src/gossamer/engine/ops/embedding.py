"""Rows of a table, by their numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.fields import Array, Shape, Value
from gossamer.engine.operator import Call, Lowered, Operator, network_shape, register
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.weights import Weights, dense, random_weights, unpack_rows

MOST_ROWS = 2**24
"""Up to so many, float32 tells all whole numbers apart."""


@dataclass(frozen=True, eq=False)
class Embedding(Operator):
    """For each number of a value, the row of the weights that it counts, from 0.

    A value of n numbers gives [n, 1, columns], whatever its shape. As PyTorch's `embedding`; a
    number that counts no row is refused.
    """

    name = "embedding"

    input: Value
    weights: Weights

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        if (rows := self.weights.rows) > MOST_ROWS:
            raise InputError(f"weights have {rows} rows, expected at most {MOST_ROWS}.")
        return (math.prod(shapes[self.input]), 1, self.weights.columns)

    def run(self, values: Mapping[Value, Array]) -> Array:
        given = values[self.input]
        indices = given.reshape(len(given), -1)
        check_indices(indices, self.weights.rows)
        wanted, places = np.unique(indices.astype(np.int64), return_inverse=True)
        # Not the whole table at once, which is often the largest of all weights.
        rows = [unpack_rows(self.weights, row, row + 1, given.dtype) for row in wanted.tolist()]
        table = np.concatenate(rows) if rows else np.empty((0, self.weights.columns), given.dtype)
        return table[places.reshape(indices.shape)][:, :, None]

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Embedding"]:
        weights, _ = random_weights(random, int(random.integers(1, 9)))
        return (int(random.integers(1, 5)),), cls(0, weights)

    def drawn(self, random: np.random.Generator, shape: Shape) -> Array:
        return random.integers(0, self.weights.rows, shape).astype(np.float64)


def check_indices(numbers: Array, rows: int, of: str = "a value") -> None:
    """Refuse numbers that count no row of a table.

    Raises
    ------
    InputError
        If one is below 0, not whole, or as large as the number of rows.

    Examples
    --------
    >>> check_indices(np.array([0, 4]), 5)
    >>> check_indices(np.array([0, 5]), 5, "the input")
    Traceback (most recent call last):
        ...
    gossamer.core.errors.InputError: the input holds 5, expected numbers of rows from 0 to 4, as ...
    """
    sound = (numbers >= 0) & (numbers < rows)
    if numbers.dtype.kind == "f":
        sound &= numbers == np.floor(numbers)
    if not sound.all():
        raise InputError(
            f"{of} holds {numbers[~sound].ravel()[0]:g}, expected numbers of rows from 0 to "
            f"{rows - 1}, as an embedding has {rows}."
        )


def _embedding(call: Call) -> Lowered:
    given, table = call.given("indices"), call.constant("weight")
    if given is None or table is None or given.type not in ("int32", "int64"):
        return ()
    return (
        Embedding(given.value, dense(table)),
        Reshape(call.step(0), network_shape(call.shape)),
    )


_MOST_CLASSES = 2**10


def _one_hot(call: Call) -> Lowered:
    """Return rows of the identity; a number that counts no class is refused."""
    given, classes = call.given("self"), call.arguments["num_classes"]
    if given is None or not isinstance(classes, int) or not 0 < classes <= _MOST_CLASSES:
        return ()
    return (
        Embedding(given.value, dense(np.eye(classes))),
        Reshape(call.step(0), network_shape(call.shape)),
    )


_RULES = {"embedding": _embedding, "one_hot": _one_hot}
register(Embedding, _RULES, any_type=_RULES)
