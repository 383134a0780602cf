"""What a network gives for batches of several sizes, and which sizes it takes at all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gossamer.compression.compacting.copying import in_double
from gossamer.compression.exporting.judging import Answer
from gossamer.compression.outputs import comparable
from gossamer.compression.probing import inputs_like
from gossamer.errors import InputError
from gossamer.measure.running import run


class Answers:
    """What a network in evaluation mode gives for batches made of an example.

    Attributes
    ----------
    refused
        By the sizes that were asked for and on which the network itself fails, why.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self.refused: dict[int, str] = {}
        self._model = model
        self._example = example
        self._known: dict[int, Answer] = {}
        self._double = _double(model, example)

    def at(self, sizes: Sequence[int]) -> list[Answer]:
        """Return what the network gives for batches of some sizes, but for those it refuses."""
        for size in sizes:
            if size not in self._known and size not in self.refused:
                try:
                    self._known[size] = self._answer(batch_of(self._example, size))
                except InputError as error:
                    self.refused[size] = str(error.__cause__ or error)
        return [self._known[size] for size in sizes if size in self._known]

    def at_random(self, size: int) -> list[Answer]:
        """Return what it gives for random numbers like the example; empty if it takes none."""
        if not self._example.is_floating_point():
            return []
        inputs = inputs_like(batch_of(self._example, size))[0]
        try:
            answer = self._answer(inputs)
        except InputError:
            return []
        finite = all(one.isfinite().all() for one in answer.plain if one.is_floating_point())
        return [answer] if finite else []

    def _answer(self, inputs: Tensor) -> Answer:
        with torch.no_grad():
            plain = _tensors(run(self._model, inputs.clone()))
            exact = None
            if self._double is not None:
                exact = _tensors(run(self._double, _doubled(inputs)))
        return Answer(inputs, plain, exact)


def _tensors(output: object) -> list[Tensor]:
    return [part.detach() for part in comparable(output) if isinstance(part, Tensor)]


def _double(model: nn.Module, example: Tensor) -> nn.Module | None:
    """Return a copy in float64; None if it runs in its own precision only, or that is float64."""
    numbers = [*model.parameters(), *model.buffers(), example]
    if any(tensor.dtype == torch.float64 for tensor in numbers):
        return None
    try:
        double = in_double(model)
        with torch.no_grad():
            plain, exact = _tensors(model(example.clone())), _tensors(double(_doubled(example)))
    except Exception:  # noqa: BLE001 - a user's forward may raise anything
        return None
    alike = [one.shape for one in plain] == [one.shape for one in exact]
    return double if alike else None


def _doubled(inputs: Tensor) -> Tensor:
    return inputs.double() if inputs.is_floating_point() else inputs.clone()


def batch_of(example: Tensor, size: int) -> Tensor:
    """Return a batch of some size: the first inputs of the example, and its numbers shuffled.

    Shuffled ones are as large as real ones, and as valid where they are tokens.

    Examples
    --------
    >>> batch_of(torch.tensor([[1, 2], [3, 4]]), 1)
    tensor([[1, 2]])
    >>> batch_of(torch.tensor([[1, 2], [3, 4]]), 3).shape
    torch.Size([3, 2])
    """
    missing = size - len(example)
    if missing <= 0:
        return example[:size].clone()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(example.numel(), (missing * example[0].numel(),), generator=generator)
    more = example.flatten()[chosen].reshape(missing, *example.shape[1:])
    return torch.cat([example, more])
