"""Networks: operators in the order in which they run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from gossamer.engine.fields import Shape, Value, read_by
from gossamer.engine.operator import Operator
from gossamer.engine.weights import Weights


@dataclass(frozen=True, eq=False)
class Network:
    """Operators in the order in which they run; `output` is the number of the result.

    Value 0 is the input, value n what operator n - 1 gives.
    """

    input_shape: Shape
    layers: tuple[Operator, ...]
    output: int


@dataclass(frozen=True, eq=False)
class Program:
    """A network that is being made: its operators by the name of the value that each gives.

    They stand in an order in which they can run.
    """

    input: Value
    input_shape: Shape
    operators: Mapping[Value, Operator]
    output: Value

    def read_counts(self) -> Counter[Value]:
        """Return how often each value is read; giving it out counts as well."""
        read = (value for operator in self.operators.values() for value in read_by(operator))
        return Counter([*read, self.output])

    def shapes(self) -> dict[Value, Shape]:
        """Return the shape of every value, the input among them.

        Raises
        ------
        InputError
            If operators do not fit each other.
        """
        shapes = {self.input: self.input_shape}
        for name, operator in self.operators.items():
            shapes[name] = operator.infer_shape(shapes)
        return shapes


def weights_of(operator: Operator) -> Weights | None:
    """Return the weights that an operator multiplies with; None if it has none."""
    found = getattr(operator, "weights", None)
    return found if isinstance(found, Weights) else None
