"""Whether a copy of a network, plain or smaller, gives what the network does."""

import contextlib
import copy
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.compression.compacting.copying import buffers_kept, given_module, standing_alone
from gossamer.compression.compacting.solving import Plan
from gossamer.compression.known_answers import KnownAnswers, answered
from gossamer.compression.outputs import check_output, comparable
from gossamer.compression.probing import few_inputs_like, inputs_like
from gossamer.core.errors import InputError
from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.running import told


def check_output_of_copy(twin: nn.Module, example: Arguments) -> None:
    """Refuse a network whose output cannot be compared; see `outputs.check_output`.

    Raises
    ------
    InputError
        If it cannot, or the network fails on the example.
    """
    with torch.random.fork_rng(devices=[]):
        check_output(twin, example, lambda inputs: answered(twin, inputs))


def answers_of_copy(model: nn.Module, twin: nn.Module, example: Arguments) -> list[Any]:
    """Return what a network gives, hooks and all, which its plain copy has to give as well.

    Raises
    ------
    InputError
        If it does not, or if the copy computes with tensors of the network.
    """
    root = given_module(model)
    with buffers_kept(root):
        given = _outputs(root, example)
    with standing_alone(root):
        found = _outputs(copy.deepcopy(twin), example)
    if problem := _difference(given, found):
        raise InputError(
            f"A copy of {type(root).__name__} is not the same as the network itself: {problem}. "
            "Let all that it computes depend on its class, parameters and buffers."
        )
    return given


def difference_from(given: list[Any], network: nn.Module, example: Arguments) -> str:
    """Tell how a network does not give what was given on the example; empty if it does."""
    try:
        found = _outputs(copy.deepcopy(network), example)
    except InputError as error:
        return f"it fails: {told(error)}"
    return _difference(given, found)


def _difference(given: list[Any], found: list[Any]) -> str:
    if len(found) == len(given) and all(map(_agree, given, found)):
        return ""
    return "it gives other outputs than the network as it was given, with its hooks"


def _outputs(network: nn.Module, example: Arguments) -> list[Any]:
    """Return what a network gives in evaluation mode: its form, and then its tensors."""
    return comparable(answered(network, example))


def first_difference(
    answers: KnownAnswers, smaller: nn.Module, plan: Plan, example: Arguments
) -> str:
    """Tell how outputs differ on the example, the first of it, or random numbers like it.

    Empty if nowhere. A forward may go another way for a single example.
    """
    double = copy.deepcopy(answers.double)
    plan.apply(double)
    problem = _difference_of_smaller(answers, smaller, double, example)
    alone = (example[:1],) if len(example) > 1 else ()
    for inputs in (*alone, *(_random_inputs(answers, example) if example.real else ())):
        # The network need not take random numbers.
        with contextlib.suppress(InputError):
            problem = problem or _difference_of_smaller(answers, smaller, double, inputs)
    return problem


def _random_inputs(answers: KnownAnswers, example: Arguments) -> list[Arguments]:
    """Return random inputs like an example, of its size for a network that takes no other."""
    few = few_inputs_like(example)
    try:
        answers.plain.of(few[0])
    except InputError:
        return inputs_like(example)
    return few


def _difference_of_smaller(
    answers: KnownAnswers, smaller: nn.Module, double: nn.Module, inputs: Arguments
) -> str:
    """Tell how the outputs of the smaller network differ; empty if only by rounding.

    `double` is the smaller network in float64.
    """
    try:
        expected = comparable(answers.exact(inputs))
        given = _outputs(double, inputs.mapped(Tensor.cpu).double())
    except InputError:  # it makes tensors of its own dtype, and can only run in that
        expected = comparable(answers.plain.of(inputs))
        try:
            given = _outputs(copy.deepcopy(smaller), inputs)
        except InputError as error:
            return f"it fails: {told(error)}"
    same_length = len(expected) == len(given)
    if same_length and all(_agree(a, b) for a, b in zip(expected, given, strict=True)):
        return ""
    return "it gives other outputs"


def _agree(expected: Any, given: Any) -> bool:
    """Tell whether two outputs are the same, up to rounding on the way to them."""
    if not isinstance(expected, Tensor):
        return bool(expected == given)
    if not expected.is_floating_point() or expected.shape != given.shape:
        return torch.equal(expected, given)
    # The square root leaves room for intermediate values far larger than the output.
    tolerance = torch.finfo(given.dtype).eps ** 0.5 * _largest(expected)
    return torch.allclose(given, expected, rtol=0, atol=tolerance, equal_nan=True)


def _largest(values: Tensor) -> float:
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0
