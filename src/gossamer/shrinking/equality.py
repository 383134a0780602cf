"""Whether the deployed network answers as the masked one does, example by example."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
_LOOKED_AT = 8
"""Examples of a batch whose outputs are furthest off, and as many whose class is least clear."""
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


@dataclass(frozen=True, eq=False)
class _Exact:
    """A batch, and what the network gives for it in float64."""

    network: nn.Module
    """In float64."""
    given: Arguments
    tensors: list[Tensor]
    logits: int | None
    """Which of the tensors holds the logits of classes."""

    def bounds(self, rows: Tensor) -> list[Tensor]:
        """Return how far off float32 may be on some of the examples."""
        some = self.given.mapped(lambda one: self.of(one, rows)).double()
        right = [self.of(one, rows) for one in self.tensors]
        if not self._alone(some, right):
            return [self.of(one, rows) for one in self._bounds(self.given.double(), self.tensors)]
        return self._bounds(some, right)

    def of(self, tensor: Tensor, rows: Tensor) -> Tensor:
        """Return what belongs to some examples; all of what is no number of each."""
        return tensor[rows] if tensor.ndim and len(tensor) == len(self.given) else tensor

    def _alone(self, some: Arguments, right: list[Tensor]) -> bool:
        """Return whether examples are answered the same without the others of their batch."""
        with torch.no_grad():
            _, *found = comparable(some.clone().call(self.network))
        return all(
            one.shape == other.shape and torch.allclose(one.double(), other, rtol=1e-9, atol=1e-12)
            for one, other in zip(found, right, strict=True)
        )

    def _bounds(self, given: Arguments, right: list[Tensor]) -> list[Tensor]:
        errors = rounding_errors(self.network, given, right)
        return [
            _BEYOND * error + _LEAST * one.abs().max().clamp(min=1e-30)
            for error, one in zip(errors, self.tensors, strict=True)
            if error is not None
        ]


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
        answers = {
            name: _answers(function, one)
            for name, function in deployed.items()
            if not (isinstance(function, Predictor) and _lacks_some(function, one))
        }
        rows = _looked_at(one, list(answers.values()))
        bounds = one.bounds(rows)
        good, close = (
            torch.ones(len(rows), dtype=torch.bool),
            torch.zeros(len(rows), dtype=torch.bool),
        )
        for name, found in answers.items():
            offs = [
                (one.of(f, rows) - one.of(r, rows)).abs() / b
                for f, r, b in zip(found, one.tensors, bounds, strict=True)
            ]
            here = max((float(off.max()) for off in offs if off.numel()), default=0.0)
            largest = max(largest, here)
            if one.logits is not None:
                equal, margin = _classes(found[one.logits][rows], one.tensors[one.logits][rows])
                near = margin <= 2 * bounds[one.logits].flatten(1).amax(1)
                wrong = ~equal & ~near
                close |= near
            else:
                equal = torch.stack([_within(off, len(rows)) for off in offs]).all(0)
                wrong = ~equal & (here > _FAULT)
            if bool(wrong.any()):
                raise InputError(_fault(name, int(wrong.sum()), task))
            good &= equal
        same += len(one.given) - int((~good).sum())
        unclear += int(close.sum())
    return Equality(len(split), same, unclear, largest, task.is_classification)


def _within(off: Tensor, count: int) -> Tensor:
    """Return which examples are within their bounds; all or none by what is no number of each."""
    each = off.ndim > 0 and len(off) == count
    return (off <= 1).reshape(count if each else 1, -1).all(1).expand(count)


def _looked_at(one: _Exact, answers: Sequence[list[Tensor]]) -> Tensor:
    """Return the examples whose bounds matter: bounds cost eight times what the answers do.

    Without classes those are all. With classes they are those that get another class, those whose
    outputs are furthest off, and those whose two largest logits are nearest to each other.
    """
    count = len(one.given)
    if one.logits is None:
        return torch.arange(count)
    wanted = torch.zeros(count, dtype=torch.bool)
    for found in answers:
        equal, margin = _classes(found[one.logits], one.tensors[one.logits])
        off = torch.zeros(count, dtype=torch.float64)
        for f, r in zip(found, one.tensors, strict=True):
            if r.numel() and len(r) == count:
                off = torch.maximum(off, (f - r).abs().reshape(count, -1).amax(1))
        wanted |= ~equal
        wanted[off.topk(min(_LOOKED_AT, count)).indices] = True
        wanted[margin.topk(min(_LOOKED_AT, count), largest=False).indices] = True
    return wanted.nonzero()[:, 0]


def _lacks_some(file: Predictor, one: _Exact) -> bool:
    """Return whether a network gives what is the same for all inputs, which no file holds."""
    return len(file.signature.outputs) != len(one.tensors)


def _fault(name: str, count: int, task: Task) -> str:
    what = "another class" if task.is_classification else "other answers"
    return (
        f"{name} gives {what} than the masked network on {count} examples though rounding cannot "
        "explain it; this is a fault of gossamer: please report the network"
    )


def _classes(found: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return of each example whether the class is the same, and by how much it is the largest."""
    equal = found.argmax(1) == right.argmax(1)
    if right.shape[1] < 2:
        return equal, torch.full_like(right[:, 0], torch.inf)
    top = right.topk(2, 1).values
    return equal, top[:, 0] - top[:, 1]


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
        tensors = [one.double() for one in right]
        place = None
        if task.is_classification:
            found = logits(outputs)
            place = next(i for i, tensor in enumerate(right) if tensor is found)
        yield _Exact(exact, given, tensors, place)
