"""Whether the deployed network answers as the masked one does, example by example."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gossamer.compression import Compressed
from gossamer.compression.compacting.copying import in_double
from gossamer.compression.outputs import comparable
from gossamer.compression.rounding import rounding_errors
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.graph.examples import told
from gossamer.runtime.predictor import Predictor
from gossamer.shrinking.split import Split, first
from gossamer.shrinking.task import Task, logits

_BATCH = 256
_BEYOND = 4.0
"""How many times the estimated rounding errors answers may be off."""
_LEAST = 1e-6
"""Share of the largest output that is allowed in any case."""
_FAULT = 100.0
"""How many times its bound a difference may reach that changes no class."""


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
    """On which the class is the same; without classes, on which no output is beyond its bound."""
    unclear: int
    """On which the two largest outputs are within the bound of the error."""
    largest: float
    """The largest difference over its bound; above 1 is a fault."""
    classes: bool = True

    def __str__(self) -> str:
        what = "the same class" if self.classes else "the same up to rounding"
        text = f"{what} on {self.same:,} of {self.examples:,} examples"
        if self.unclear:
            text += (
                f"; on {self.unclear:,} the two largest outputs are nearer to each other than "
                "rounding allows to tell"
            )
        return f"{text}; differences reach {self.largest:.0%} of what rounding may do"


class NotComparedError(Exception):
    """The network has no float64 copy that could be held against it."""


@dataclass(frozen=True)
class _Exact:
    """A batch, what the network gives for it in float64, and how far off float32 may be."""

    given: Arguments
    tensors: list[Tensor]
    bounds: list[Tensor]
    logits: int | None
    """Which of the tensors holds the logits of classes."""


def compared(
    masked: nn.Module, deployed: Mapping[str, Callable[..., Any]], split: Split, task: Task
) -> Equality:
    """Hold forms of a deployed network against the masked one in float64, on every example.

    Wherever the two largest logits of an example lie further apart than rounding to float32 can
    move them (`rounding_errors`), the class must be the same.

    Parameters
    ----------
    masked
        In evaluation mode.
    deployed
        What takes the inputs as the network does and gives its outputs, in any containers, by
        names for messages; the answer is about the one that is furthest off.
    split
        The examples.
    task
        Says which output holds the logits of classes, if any.

    Raises
    ------
    InputError
        If another class is given where rounding does not explain it, or something else altogether.
    NotComparedError
        If the network does not run in float64.
    """
    exact = in_double(masked)
    same = unclear = 0
    largest = 0.0
    for one in _exact(exact, split, task):
        rows = torch.ones(len(one.given), dtype=torch.bool)
        close = torch.zeros_like(rows)
        for name, function in deployed.items():
            if isinstance(function, Predictor) and _lacks_some(function, one):
                continue
            found = _answers(function, one)
            offs = [
                (f - r).abs() / b for f, r, b in zip(found, one.tensors, one.bounds, strict=True)
            ]
            here = max((float(off.max()) for off in offs if off.numel()), default=0.0)
            largest = max(largest, here)
            if one.logits is not None:
                equal, near = _classes(found, one)
                wrong = ~equal & ~near
                close |= near
            else:
                equal = torch.stack([(off <= 1).flatten(1).all(1) for off in offs]).all(0)
                wrong = ~equal & (here > _FAULT)
            if bool(wrong.any()):
                raise InputError(_fault(name, int(wrong.sum()), task))
            rows &= equal
        same += int(rows.sum())
        unclear += int(close.sum())
    return Equality(len(split), same, unclear, largest, task.is_classification)


def _lacks_some(file: Predictor, one: _Exact) -> bool:
    """Return whether a network gives what is the same for all inputs, which no file holds."""
    return len(file.signature.outputs) != len(one.tensors)


def _fault(name: str, count: int, task: Task) -> str:
    what = "another class" if task.is_classification else "other answers"
    return (
        f"{name} gives {what} than the masked network on {count} examples though rounding cannot "
        "explain it; this is a fault of gossamer: please report the network"
    )


def _classes(found: list[Tensor], one: _Exact) -> tuple[Tensor, Tensor]:
    """Return of each example whether the class is the same, and whether it cannot be told."""
    assert one.logits is not None
    right = one.tensors[one.logits]
    bound = one.bounds[one.logits].flatten(1).amax(1)
    equal = found[one.logits].argmax(1) == right.argmax(1)
    if right.shape[1] < 2:
        return equal, torch.zeros_like(equal)
    top = right.topk(2, 1).values
    return equal, top[:, 0] - top[:, 1] <= 2 * bound


def _answers(deployed: Callable[..., Any], one: _Exact) -> list[Tensor]:
    """Return what a deployed network gives, in batches of the one size that it may be bound to."""
    if isinstance(deployed, Compressed) and deployed.fixed_batch:
        whole = -(-len(one.given) // deployed.batch) * deployed.batch
        padded = one.given.mapped(lambda tensor: first(tensor, whole))
        starts = range(0, whole, deployed.batch)
        parts = [padded[start : start + deployed.batch] for start in starts]
    else:
        parts = [one.given]
    found = [_given_by(deployed, part) for part in parts]
    return [torch.cat(column)[: len(one.given)].double() for column in zip(*found, strict=True)]


def _given_by(deployed: Callable[..., Any], part: Arguments) -> list[Tensor]:
    if not isinstance(deployed, Predictor):
        _, *tensors = comparable(part.clone().call(deployed))
        return tensors
    arrays = dict(zip(part.names, (one.numpy() for one in part.tensors), strict=True))
    return [torch.as_tensor(one) for one in pytree.tree_leaves(deployed(arrays))]


def _exact(exact: nn.Module, split: Split, task: Task) -> Iterator[_Exact]:
    for inputs, _ in split.batches(_BATCH):
        given = Arguments.of(exact, inputs)
        try:
            with torch.no_grad():
                outputs = given.double().call(exact)
        except Exception as error:
            raise NotComparedError(f"it does not run in float64 ({told(error)})") from error
        _, *right = comparable(outputs)
        errors = rounding_errors(exact, given.double(), right)
        tensors = [one.double() for one in right]
        bounds = [
            _BEYOND * error + _LEAST * one.abs().max().clamp(min=1e-30)
            for error, one in zip(errors, tensors, strict=True)
            if error is not None
        ]
        place = None
        if task.is_classification:
            found = logits(outputs)
            place = next(i for i, tensor in enumerate(right) if tensor is found)
        yield _Exact(given, tensors, bounds, place)
