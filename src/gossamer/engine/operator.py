"""What an operator is, and the registry of them."""

from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, Literal, get_origin

import numpy as np

from gossamer.engine.fields import (
    Array,
    Doubles,
    Shape,
    Value,
    is_array,
    is_values,
    least,
    typed_fields,
)
from gossamer.engine.weights import Weights


class Operator:
    """One step of a network; a file of `ops` holds a frozen dataclass derived from it.

    Its typed fields say what it reads and holds (see `fields`).

    Attributes
    ----------
    name
        What files and the compiled kernels call it.
    """

    name: ClassVar[str]

    def infer_shape(self, shapes: Mapping[Value, Shape]) -> Shape:
        """Return the shape of the value that it gives, from the shapes of those it reads.

        Raises
        ------
        InputError
            If its fields do not fit each other or what it reads. What each field holds by itself
            has been checked.
        """
        raise NotImplementedError

    def run(self, values: Mapping[Value, Array]) -> Array:
        """Compute the value [N, *shape] for N examples, in the precision of those that it reads."""
        raise NotImplementedError

    @classmethod
    def sampled(cls, random: np.random.Generator) -> tuple[Shape, "Operator"]:
        """Return a small one with random fields that reads value 0 alone, and the shape of that.

        Tests run it in every way there is, write it to a file and read it.
        """
        raise NotImplementedError

    def drawn(self, random: np.random.Generator, shape: Shape) -> Array:
        """Return numbers of a shape that it may read, for tests."""
        return random.standard_normal(shape)

    def held(self, shapes: Mapping[Value, Shape]) -> int:  # noqa: ARG002
        """Return how many numbers it may hold for one example beside what it reads and gives."""
        return 0


@dataclass(frozen=True)
class Given:
    """A value among the arguments of a call: the shape of one example in PyTorch, and the type."""

    value: str
    shape: Shape
    type: str = "float32"

    def axis(self, dim: int) -> int | None:
        """Return which axis in a network a dimension in PyTorch is; None if it is the batch."""
        return network_axis(self.shape, dim)


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a function of PyTorch, as the rules that lower it see it.

    Attributes
    ----------
    result
        Name of the value that it gives.
    shape
        Of one example of the result in PyTorch.
    arguments
        By the names of PyTorch's schema: a `Given`, a function that returns what depends on
        parameters alone, or a plain value of Python.
    type
        Of the result's numbers in PyTorch; all are float32 in a network.
    """

    result: str
    shape: Shape
    arguments: Mapping[str, Any]
    type: str = "float32"

    def given(self, argument: str) -> Given | None:
        """Return a value among the arguments; None if it is none."""
        found = self.arguments.get(argument)
        return found if isinstance(found, Given) else None

    def constant(self, argument: str) -> Doubles | None:
        """Return an argument that is a number, or depends on parameters alone."""
        found = self.arguments.get(argument)
        if callable(found):
            return np.asarray(found(), np.float64)
        return np.asarray(found, np.float64) if isinstance(found, (int, float)) else None

    def is_boolean(self, argument: str) -> bool:
        """Tell whether an argument that depends on parameters alone is true or false."""
        found = self.arguments.get(argument)
        return callable(found) and np.asarray(found()).dtype == np.bool_

    def step(self, number: int) -> str:
        """Return the name of what an operator before the last gives."""
        return step_name(self.result, number)


def step_name(result: str, number: int) -> str:
    """Return the name of a value inside a call that becomes several operators."""
    return f"{result}.{number}"


Lowered = tuple[Operator, ...]
"""What a call becomes, in order; the last gives its value. Empty if it cannot be lowered."""
Rule = Callable[[Call], Lowered]

ANY_SIZE: ContextVar[bool] = ContextVar("ANY_SIZE", default=False)
"""Whether calls become operators of the same kinds at all sizes, though others do at some."""

OPERATORS: dict[str, type[Operator]] = {}
"""Every operator by its name."""
RULES: dict[str, Rule] = {}
"""What functions of PyTorch become, by their names."""
ROW_BY_ROW: set[str] = set()
"""Functions of PyTorch that act on each row along the last axis by itself, in the same way."""
ANY_TYPE: set[str] = set()
"""Functions of PyTorch whose rules look at the types of what they read and give, or need not: only
these are lowered where whole numbers or truth values are read or given."""


def register(
    operator: type[Operator],
    pytorch: Mapping[str, Rule] | None = None,
    row_by_row: Collection[str] = (),
    any_type: Collection[str] = (),
) -> None:
    """Make an operator known.

    Parameters
    ----------
    operator
        A frozen dataclass with a name and typed fields.
    pytorch
        Names of functions of PyTorch, without their overloads, and what lowers them.
    row_by_row
        Those of them that act on each row along the last axis by itself.
    any_type
        Those that hold for whole numbers and truth values, too, or look at the types by themselves.

    Raises
    ------
    TypeError
        If a field has a type of which `fields` says nothing, or a name is taken.
    """
    for name, field in typed_fields(operator).items():
        if not _is_known(field.hint):
            raise TypeError(f"{operator.__name__}.{name}: a field may not be of type {field.hint}")
    if operator.name in OPERATORS:
        raise TypeError(f"{operator.__name__}: {operator.name} is registered already")
    register_rules(pytorch or {}, row_by_row, operator.__name__, any_type)
    OPERATORS[operator.name] = operator


def register_rules(
    pytorch: Mapping[str, Rule],
    row_by_row: Collection[str] = (),
    of: str = "rules",
    any_type: Collection[str] = (),
) -> None:
    """Make functions of PyTorch known that become operators of other files.

    Raises
    ------
    TypeError
        If a name is taken.
    """
    if taken := pytorch.keys() & RULES.keys():
        raise TypeError(f"{of}: {', '.join(sorted(taken))} is registered already")
    RULES.update(pytorch)
    ROW_BY_ROW.update(row_by_row)
    ANY_TYPE.update(any_type)


def _is_known(hint: Any) -> bool:
    """Tell whether `fields` says what follows from a type."""
    if isinstance(hint, type) and is_dataclass(hint):
        parts = typed_fields(hint).values()
        return hint is Weights or all(_is_known(part.hint) for part in parts)
    plain = hint in (Value, Shape, bool, float) or get_origin(hint) is Literal
    return plain or is_values(hint) or is_array(hint) or least(hint) is not None


def network_shape(shape: Shape) -> Shape:
    """Return the shape that a value of PyTorch (without the batch) has in a network.

    Sequences are images of height 1, as kernels slide over images alone.

    Examples
    --------
    >>> network_shape((16,)), network_shape((3, 100)), network_shape((3, 32, 32))
    ((16,), (3, 1, 100), (3, 32, 32))
    >>> network_shape(())  # one number for each example
    (1,)
    """
    if not shape:
        return (1,)
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def network_axis(shape: Shape, dim: int) -> int | None:
    """Return which axis of `network_shape(shape)` a dimension in PyTorch is; None for the batch.

    Examples
    --------
    >>> network_axis((3, 100), 0), network_axis((3, 100), 1), network_axis((3, 100), -1)
    (None, 0, 2)
    """
    found = dim % (len(shape) + 1) - 1
    if found < 0:
        return None
    return 2 * found if len(shape) == 2 else found


def random_shape(random: np.random.Generator) -> Shape:
    """Return a small shape, of one length or three more often than of others."""
    return tuple(map(int, random.integers(1, 5, random.choice([1, 1, 2, 3, 3, 4, 5]))))


def pair(numbers: Any, fill: int = 1) -> tuple[int, int]:
    """Return sizes along the height and the width; a sequence has the height 1."""
    return (fill, int(numbers[0])) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))
