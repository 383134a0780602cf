"""What a network gives for batches of several sizes, and which sizes it takes at all."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from gossamer.compression.compacting.copying import in_double
from gossamer.compression.example_batches import grown, repeated
from gossamer.compression.exporting.judging import Answer
from gossamer.compression.outputs import comparable
from gossamer.compression.probing import inputs_like
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.running import run

_NEARBY = 24
"""How often the network is run nearby."""
_NEAR = 8
"""How many times the machine epsilon numbers are moved there, in the mean."""


class Answers:
    """What a network in evaluation mode gives for batches made of an example.

    Attributes
    ----------
    refused
        By the sizes that were asked for and on which the network itself fails, why.
    """

    def __init__(self, model: nn.Module, example: Arguments) -> None:
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
                    self._known[size] = self._of_size(size)
                except InputError as error:
                    self.refused[size] = str(error.__cause__ or error)
        return [self._known[size] for size in sizes if size in self._known]

    def _of_size(self, size: int) -> Answer:
        try:
            return self.to(grown(self._example, size))
        except InputError:  # it need not take inputs that are mixed of several
            return self.to(repeated(self._example, size))

    def at_random(self, size: int) -> list[Answer]:
        """Return what it gives for random numbers like the example; empty if it takes none."""
        if not self._example.real:
            return []
        inputs = inputs_like(repeated(self._example, size))[0]
        try:
            answer = self.to(inputs)
        except InputError:
            return []
        finite = all(one.isfinite().all() for one in answer.plain if one.is_floating_point())
        return [answer] if finite else []

    def with_nearby(self, answers: Sequence[Answer]) -> list[Answer]:
        """Return answers with what the network gives where all numbers are moved by rounding."""
        twins = list(_moved_networks(self._model))
        return [replace(one, nearby=tuple(_nearby(twins, one.inputs))) for one in answers]

    def to(self, inputs: Arguments) -> Answer:
        """Return what the network gives for a batch.

        Raises
        ------
        InputError
            If it refuses it.
        """
        with torch.no_grad():
            plain = _tensors(run(self._model, inputs.clone()))
            exact = None
            if self._double is not None:
                exact = _tensors(run(self._double, inputs.double()))
        return Answer(inputs, plain, exact)


def _nearby(networks: Sequence[nn.Module], inputs: Arguments) -> Iterator[list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for network in networks:
        try:
            with torch.no_grad():
                yield _tensors(
                    run(network, inputs.mapped(lambda tensor: _moved(tensor, generator)))
                )
        except InputError:  # it need not take what is nearby
            continue


def _moved_networks(model: nn.Module) -> Iterator[nn.Module]:
    """Yield copies of a network with numbers moved by rounding; as it is where it has no copy."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(_NEARBY):
        try:
            twin = copy.deepcopy(model)
        except Exception:  # noqa: BLE001 - a user's class may raise anything
            yield model
            continue
        with torch.no_grad():
            for tensor in (*twin.parameters(), *twin.buffers()):
                tensor.copy_(_moved(tensor, generator))
        yield twin


def _moved(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.clone()
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    factor = 1 + _NEAR * torch.finfo(tensor.dtype).eps * noise
    return (tensor.double() * factor).to(tensor.dtype)


def _tensors(output: object) -> list[Tensor]:
    return [part.detach() for part in comparable(output) if isinstance(part, Tensor)]


def _double(model: nn.Module, example: Arguments) -> nn.Module | None:
    """Return a copy in float64; None if it runs in its own precision only, or that is float64."""
    numbers = [*model.parameters(), *model.buffers(), *example]
    if any(tensor.dtype == torch.float64 for tensor in numbers):
        return None
    try:
        double = in_double(model)
        with torch.no_grad():
            plain = _tensors(example.clone().call(model))
            exact = _tensors(example.double().call(double))
    except Exception:  # noqa: BLE001 - a user's forward may raise anything
        return None
    alike = [one.shape for one in plain] == [one.shape for one in exact]
    return double if alike else None
