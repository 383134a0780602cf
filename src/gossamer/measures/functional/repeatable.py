"""Whether a network gives the same answers to the same inputs in evaluation mode.

One that draws random numbers even then, or changes what it holds from call to call, has no answers
that could be kept, and no number that is computed from them means anything.
"""

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.graph.calls import found_in
from gossamer.measures.functional.modes import evaluation
from gossamer.measures.functional.running import run, told
from gossamer.networks.generators import generators_kept

RUNS = 20
"""How often a network runs. What changes one answer in five is missed once in 86 networks."""
RUNS_WHERE_DRAWN = 200
"""The same where random numbers were drawn: of what changes one answer in 50, once in 57."""
_TOLERANCE = 1e-5
"""Largest difference, relative to the largest number, that is put down to rounding."""

DRAWS = "it draws random numbers"
CHANGES = "what it holds changes from call to call, or it draws numbers from a source of its own"


def why_answers_change(
    network: nn.Module, inputs: Tensor | Arguments, advice: str = "give an example that it takes"
) -> str:
    """Tell why a network gives different answers to the same inputs; empty if it does not.

    It runs in evaluation mode, twice on all inputs and then on the first alone, without a seed set
    in between: `RUNS` times, or `RUNS_WHERE_DRAWN` times if it moves a random generator of PyTorch,
    NumPy or Python, or uses one of PyTorch's that is its own. The global generators are put back.

    Parameters
    ----------
    network
        A network that may change: give a copy.
    inputs
        What it takes, [batch, ...].
    advice
        What a user is told to do if it fails on them.

    Raises
    ------
    InputError
        If it does.

    Examples
    --------
    >>> why_answers_change(nn.Dropout(), torch.ones(2, 5))
    ''
    >>> class Drops(nn.Module):
    ...     def forward(self, x):
    ...         return nn.functional.dropout(x)
    >>> why_answers_change(Drops(), torch.ones(2, 5))
    'it draws random numbers'
    """
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with evaluation(network), torch.no_grad(), generators_kept(), torch.random.fork_rng(devices):
        before = _generators(inputs.device)
        with _OwnGenerators() as own:  # type: ignore[no-untyped-call]
            expected = run(network, inputs.clone(), advice)
        drawn = own.used or before != _generators(inputs.device)
        if not _same(expected, run(network, inputs.clone()), drawn):
            return DRAWS if drawn else CHANGES
        inputs, expected = _one_alone(network, inputs, expected)
        for _ in range((RUNS_WHERE_DRAWN if drawn else RUNS) - 2):
            if not _same(expected, run(network, inputs.clone()), drawn):
                return DRAWS if drawn else CHANGES
    return ""


def check_answers_repeat(
    network: nn.Module,
    inputs: Tensor | Arguments,
    consequence: str,
    advice: str = "give an example that it takes",
) -> None:
    """Refuse a network that gives different answers to the same inputs.

    Parameters
    ----------
    network
        It stays as it is: a copy runs.
    inputs
        What it takes, [batch, ...].
    consequence
        What cannot be done with it, such as "so it cannot be compressed".
    advice
        What a user is told to do if it fails.

    Raises
    ------
    InputError
        If it does, cannot be copied, or fails.
    """
    try:
        twin = copy.deepcopy(network)
    except Exception as error:
        raise InputError(
            f"The network {type(network).__name__} cannot be copied ({told(error)}): make "
            "copy.deepcopy(network) work."
        ) from error
    if why := why_answers_change(twin, inputs, advice):
        raise InputError(
            f"The network {type(network).__name__} gives different answers for the same inputs in "
            f"evaluation mode ({why}), {consequence}: let it draw random numbers, or change what "
            "it holds, in training mode only."
        )


def _one_alone(
    network: nn.Module, inputs: Tensor | Arguments, expected: Any
) -> tuple[Tensor | Arguments, Any]:
    """Return the first input and what is given for it, or all if it is not taken alone."""
    if len(inputs) < 2:
        return inputs, expected
    try:
        return inputs[:1], run(network, inputs[:1].clone())
    except InputError:
        return inputs, expected


class _OwnGenerators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether an operation is given a generator."""

    used = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = (*args, *(kwargs or {}).values())
        self.used = self.used or any(isinstance(one, torch.Generator) for one in given)
        return func(*args, **(kwargs or {}))


def _generators(device: torch.device) -> list[Any]:
    """Return where the global generators stand."""
    on_device = torch.cuda.get_rng_state(device).tolist() if device.type == "cuda" else []
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - what a user's forward may draw from
    numpys = [kind, keys.tolist() if isinstance(keys, np.ndarray) else keys, *rest]
    return [torch.get_rng_state().tolist(), on_device, random.getstate(), numpys]


def _same(first: Any, second: Any, drawn: bool) -> bool:
    """Tell whether answers are the same: bit for bit where chance is at work, or but rounding."""
    pairs = list(zip(_tensors(first), _tensors(second), strict=False))
    return all(_close(one, other, 0.0 if drawn else _TOLERANCE) for one, other in pairs)


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    if torch.equal(one, other) or not one.numel():
        return True
    if not one.is_floating_point():
        return False
    if tolerance:
        tolerance = max(tolerance, 2 * torch.finfo(one.dtype).eps)
    one, other = one.double(), other.double()
    largest = float(one.abs().nan_to_num(0.0, 0.0).max())
    return torch.allclose(one, other, rtol=0, atol=tolerance * largest, equal_nan=True)


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the numbers of an output, also from inside of objects."""
    kinds = Tensor | np.ndarray | np.number | bool | int | float
    for found in found_in(output, lambda part: isinstance(part, kinds)):
        if isinstance(found, Tensor):
            yield found.to_dense() if found.layout != torch.strided else found
        else:
            yield torch.as_tensor(found)
