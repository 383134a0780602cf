"""Networks: operators in the order in which they run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from gossamer.engine.fields import Shape, Value, read_by
from gossamer.engine.operator import Operator
from gossamer.engine.weights import Weights


@dataclass(frozen=True, eq=False, init=False)
class Network:
    """Operators in the order in which they run.

    The first values are the inputs, those behind them what each operator gives, in order. All are
    numbers of float32, which hold whole numbers exactly up to 2**24: tokens are such, and truth
    values are 0 and 1. See `Signature` for their names and types.

    Attributes
    ----------
    inputs
        The shape of one example of each input.
    layers
        The operators.
    outputs
        The numbers of the results.

    Examples
    --------
    >>> Network((2,), (), 0).inputs, Network(((2,), (3,)), (), (1, 0)).outputs
    (((2,),), (1, 0))
    """

    inputs: tuple[Shape, ...]
    layers: tuple[Operator, ...]
    outputs: tuple[int, ...]

    def __init__(
        self,
        inputs: Shape | tuple[Shape, ...],
        layers: tuple[Operator, ...],
        outputs: int | tuple[int, ...],
    ) -> None:
        """Take one shape, or one number, for the only input or output."""
        several = isinstance(inputs, tuple) and bool(inputs) and isinstance(inputs[0], tuple)
        object.__setattr__(self, "inputs", inputs if several else (inputs,))
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "outputs", outputs if isinstance(outputs, tuple) else (outputs,))

    @property
    def input_shape(self) -> Shape:
        """The shape of the only input, or of the first."""
        return self.inputs[0]


@dataclass(frozen=True, eq=False)
class Program:
    """A network that is being made: its operators by the name of the value that each gives.

    They stand in an order in which they can run. `inputs` are the shapes of its inputs by name.
    """

    inputs: Mapping[Value, Shape]
    operators: Mapping[Value, Operator]
    outputs: tuple[Value, ...]

    def read_counts(self) -> Counter[Value]:
        """Return how often each value is read; giving it out counts as well."""
        read = (value for operator in self.operators.values() for value in read_by(operator))
        return Counter([*read, *self.outputs])

    def shapes(self) -> dict[Value, Shape]:
        """Return the shape of every value, the inputs among them.

        Raises
        ------
        InputError
            If operators do not fit each other.
        """
        shapes = dict(self.inputs)
        for name, operator in self.operators.items():
            shapes[name] = operator.infer_shape(shapes)
        return shapes


def weights_of(operator: Operator) -> Weights | None:
    """Return the weights that an operator multiplies with; None if it has none."""
    found = getattr(operator, "weights", None)
    return found if isinstance(found, Weights) else None
