"""Random inputs on which a network is compared with what stands for it.

An example alone may leave a unit silent, or an output near zero, that other inputs would show.
"""

from collections.abc import Mapping
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gossamer.compression.example_batches import mixed_tensor
from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.running import run

_FEWEST = 4
"""Random examples at least: of so many numbers hardly all are near zero by chance."""
CHEAP = 4096
"""Numbers in one example, up to which a network is taken to be fast enough for some of them."""
CHEAP_OPERATIONS = 2 * 10**9
"""Multiplications and additions for one example, up to which it is so for many of them."""


def inputs_like(example: Arguments) -> list[Arguments]:
    """Return batches of the size of an example, as large and as far from zero as it is.

    Whole numbers and truth values, which may be indices, are drawn from those that stand at the
    same place in the example.

    Parameters
    ----------
    example
        Inputs [batch, ...].

    Returns
    -------
    list of Arguments
        The same numbers in each call, real ones normally distributed; one batch, or more where it
        is small.

    Examples
    --------
    >>> from torch import nn
    >>> [len(batch) for batch in inputs_like(Arguments.of(nn.Flatten(), torch.ones(3, 7)))]
    [3, 3]
    """
    generators = [torch.Generator().manual_seed(number) for number in range(len(example.tensors))]
    return [
        example.with_tensors(
            [
                _like(tensor, generator)
                for tensor, generator in zip(example.tensors, generators, strict=True)
            ]
        )
        for _ in range(ceil(_FEWEST / len(example)))
    ]


def few_inputs_like(example: Arguments) -> list[Arguments]:
    """Return random inputs like an example for a network that takes batches of any size.

    They are no more than are needed where examples are large.
    """
    found = inputs_like(example)
    return [found[0][:_FEWEST]] if numbers_of_one(example) > CHEAP else found


def takes_many(model: nn.Module, example: Arguments) -> bool:
    """Tell whether a model is fast enough for dozens of examples, in float64 too."""
    if numbers_of_one(example) > CHEAP:
        return False
    with torch.no_grad(), _Operations() as counted:
        run(model, example[:1].clone())
    return bool(counted.total <= CHEAP_OPERATIONS)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiplications and additions by PyTorch's own formulas.

    Its `FlopCounterMode` follows modules beside that, and fails where a parameter is an input of
    one.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        result = func(*args, **options)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += int(formula(*args, **options, out_val=result))
        return result


def numbers_of_one(example: Arguments) -> int:
    """Return how many numbers one example of a batch has."""
    return sum(tensor[0].numel() for tensor in example)


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return mixed_tensor(tensor, len(tensor), generator)
    values = tensor.detach().cpu().double()
    spread = float(values.std(correction=0)) or 1.0
    found = values.mean() + spread * torch.randn(values.shape, generator=generator).double()
    return found.to(tensor.device, tensor.dtype)
