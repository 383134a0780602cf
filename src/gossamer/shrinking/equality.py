"""Whether the deployed network answers as the masked one does, example by example."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.compression import Compressed
from gossamer.compression.compacting.copying import in_double
from gossamer.compression.rounding import rounding_errors
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.graph.examples import tensors_in
from gossamer.shrinking.split import Split

_BATCH = 256
_BEYOND = 4.0
"""How many times the estimated rounding errors answers may be off."""
_LEAST = 1e-6
"""Share of the largest output that is allowed in any case."""


@dataclass(frozen=True)
class Equality:
    """What came out of a comparison on all examples.

    Examples
    --------
    >>> print(Equality(examples=100, same=99, unclear=1, largest=0.2))
    the same class on 99 of 100 examples; on 1 the two largest outputs are nearer to each other \
than rounding allows to tell; differences reach 20% of what rounding may do
    """

    examples: int
    same: int
    """On which the class is the same."""
    unclear: int
    """On which the two largest outputs are within the bound of the error."""
    largest: float
    """The largest difference over its bound; above 1 is a fault."""

    def __str__(self) -> str:
        text = f"the same class on {self.same:,} of {self.examples:,} examples"
        if self.unclear:
            text += (
                f"; on {self.unclear:,} the two largest outputs are nearer to each other than "
                "rounding allows to tell"
            )
        return f"{text}; differences reach {self.largest:.0%} of what rounding may do"


def compared(masked: nn.Module, deployed: Callable[[Any], Any], split: Split) -> Equality:
    """Hold a deployed network against the masked one in float64, on every example.

    Wherever the two largest outputs of an example lie further apart than rounding to float32 can
    move them (`rounding_errors`), the class must be the same.

    Parameters
    ----------
    masked
        In evaluation mode.
    deployed
        Takes an array of inputs and gives an array of outputs.
    split
        The examples.

    Raises
    ------
    InputError
        If another class is given where rounding does not explain it.
    """
    exact = in_double(masked)
    same = unclear = 0
    largest = 0.0
    for inputs, right, bound in _exact(exact, split):
        found = _answers(deployed, inputs).double()
        margin_bound = bound.flatten(1).amax(1)
        largest = max(largest, float(((found - right).abs() / bound).max()))
        if right.dim() != 2 or right.shape[1] < 2:
            same += len(right)
            continue
        equal = found.argmax(1) == right.argmax(1)
        top = right.topk(2, 1).values
        close = top[:, 0] - top[:, 1] <= 2 * margin_bound
        if bool((~equal & ~close).any()):
            count = int((~equal & ~close).sum())
            raise InputError(
                f"the deployed network gives another class than the masked one on {count} examples "
                "though rounding cannot explain it; this is a fault of gossamer: please report the "
                "network"
            )
        same += int(equal.sum())
        unclear += int(close.sum())
    return Equality(len(split), same, unclear, largest)


def _answers(deployed: Callable[[Any], Any], inputs: Tensor) -> Tensor:
    """Return what a deployed network gives, in batches of the one size that it may be bound to."""
    if not isinstance(deployed, Compressed) or not deployed.fixed_batch:
        return torch.as_tensor(deployed(inputs.numpy()))
    whole = -(-len(inputs) // deployed.batch) * deployed.batch
    parts = torch.split(inputs[torch.arange(whole) % len(inputs)], deployed.batch)
    return torch.cat([torch.as_tensor(deployed(part.numpy())) for part in parts])[: len(inputs)]


def _exact(exact: nn.Module, split: Split) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield inputs, what the network gives in float64, and by how much float32 may be off."""
    for given, _ in split.batches(_BATCH):
        (inputs,) = tensors_in(given)
        with torch.no_grad():
            right = exact(inputs.double())
        (error,) = rounding_errors(exact, Arguments.of(exact, inputs.double()), [right])
        assert error is not None
        yield inputs, right, _BEYOND * error + _LEAST * right.abs().max()
