"""What is refused: models and examples that cannot be compressed, and answers that are wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from gossamer.compression.compacting.hooks import COMPUTING_HOOKS, name_of
from gossamer.compression.known_answers import KnownAnswers
from gossamer.compression.outputs import comparable
from gossamer.compression.probing import few_inputs_like, inputs_like, takes_many
from gossamer.compression.rounding import rounding_errors
from gossamer.core.errors import InputError
from gossamer.graph.arguments import ONLY, Arguments, joined
from gossamer.measures.functional.running import run

_TOLERANCE = 1e-5
"""Largest difference from the float64 model, relative to the largest number at that index."""
_ROUGH_TOLERANCE = 1e-4
"""The same from the model in float32, where it has no other and both are rounded."""
_BEYOND_PYTORCH = 10
"""How many times the rounding error of the model itself may be exceeded, where that is larger."""
_NOTHING = 1e-12
"""Share of the largest number of an output that counts as 0."""
_ANOTHER_FUNCTION = torch.finfo(torch.float32).eps ** 0.5
"""Share of the largest number by which float32 and float64 may differ to be the same function."""
_FEW = 0.01
"""Share of an output's whole numbers that may fall to the other side of a threshold in float64."""
_UNKNOWN = 0.1
"""Share of the largest number of an output from which on rounding leaves a number unknown."""
_MOST = 0.5
"""Share of numbers that are unknown from which on nothing can be said of an output."""
_JUST_ABOVE_A_BLOCK = 65
"""Examples in a batch that kernels split into blocks of 64 or fewer, and one that is left over."""
_SAME_ROW = 5e-6
"""Share of the largest number by which rounding may change an answer in a batch of another size."""


def check_model(model: nn.Module) -> None:
    """Refuse a model that is not plain float32 on the CPU, or whose hooks could do anything.

    Raises
    ------
    InputError
        If it is one.
    """
    name = type(model).__name__
    for where, tensor in _tensors(model):
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise InputError(
                f"{where} of {name} has no values yet: run one batch through the network before "
                "compressing it."
            )
        if tensor.device.type != "cpu":
            raise InputError(
                f"{where} of {name} is on {tensor.device}, but gossamer compresses networks for "
                "the CPU: move it there with model.cpu()."
            )
        if tensor.is_complex():
            raise InputError(
                f"{where} of {name} is {tensor.dtype}, but float32 was expected: keep its real and "
                "its imaginary part apart, as rotary positions by cosines and sines do."
            )
        numeric = tensor.is_floating_point()
        if numeric and tensor.dtype != torch.float32:
            raise InputError(
                f"{where} of {name} is {tensor.dtype}, but float32 was expected: convert the "
                "network with model.float()."
            )
        if numeric and tensor.layout == torch.strided and not tensor.detach().isfinite().all():
            raise InputError(
                f"{where} of {name} holds values that are not finite: train or repair the network "
                "first."
            )
    for where, hook in _hooks(model):
        if not isinstance(hook, COMPUTING_HOOKS):
            raise InputError(
                f"{where} of {name} has the hook {name_of(hook)}, "
                "which a compressed network would not run: remove it first, with the handle that "
                "registering it returned."
            )


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from ((f"parameter {name!r}", value) for name, value in model.named_parameters())
    yield from ((f"buffer {name!r}", value) for name, value in model.named_buffers())


def _hooks(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        where = f"layer {name!r}" if name else "the outermost module"
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            yield where, hook


def check_example(example: Arguments) -> None:
    """Refuse an example that is no batch on the CPU, of finite numbers where these are real.

    Raises
    ------
    InputError
        If it is not.
    """
    for name, tensor in zip(example.names, example.tensors, strict=True):
        where = "'example'" if name == ONLY else f"{name!r} of 'example'"
        shape = tuple(tensor.shape)
        if tensor.dim() < (2 if len(example.tensors) == 1 else 1) or not tensor.numel():
            raise InputError(
                f"{where} has shape {shape}, but a batch of at least one input, [batch, ...], was "
                "expected: add the dimension of the batch, or give some inputs."
            )
        if len(tensor) != len(example):
            advice = "keep what is the same for all examples in the network, with register_buffer"
            if len(example) in shape:
                advice = (
                    "where they lie along another axis, as in states of recurrent layers, give "
                    "them first and let the forward transpose them; " + advice
                )
            raise InputError(
                f"{where} has shape {shape}, but {len(example)} examples along the first axis, as "
                f"in {example.names[0]!r}, were expected: {advice}."
            )
        if tensor.dtype not in _TYPES or tensor.device.type != "cpu":
            raise InputError(
                f"{where} is {tensor.dtype} on {tensor.device}, but float32, int32, int64 or bool "
                "on the CPU was expected: convert it, real numbers with .float().cpu()."
            )
        if tensor.layout != torch.strided or not tensor.isfinite().all():
            raise InputError(
                f"{where} of shape {shape} holds values that are not finite, or is not stored "
                "dense: give inputs as the network will get them."
            )


_TYPES = (torch.float32, torch.int64, torch.int32, torch.bool)


@dataclass(eq=False)
class _Expected:
    """What a model gives for one batch: in float32 and, where it can, in float64.

    Each is the form of the output and then its tensors.
    """

    inputs: Arguments
    plain: list[Any]
    exact: list[Any]
    model: nn.Module
    """What gave the exact answers."""
    dtype: torch.dtype
    """What it computes in."""

    @cached_property
    def rounding(self) -> list[Any]:
        """How far right answers may lie from the exact ones; found only where that is in doubt."""
        _, *exact = self.exact
        return [None, *rounding_errors(self.model, self.inputs.to(self.dtype), exact)]


def wrong_answers(
    modules: Mapping[str, nn.Module],
    example: Arguments,
    any_batch: bool,
    answers: KnownAnswers | None = None,
) -> dict[str, str]:
    """Compare what several modules give with what the first of them, the model, gives.

    They are given the example, random numbers like it, and batches of other sizes. Each index of
    each axis behind the batch, such as a class or a channel, is held to its own largest number over
    all of these: a small output beside a large one has to be right, too. Where an index differs by
    more than a small share of that, and by more than PyTorch's own rounding there, it is right all
    the same if rounding can do as much to it (`rounding_errors`): it may be what little is left of
    large numbers, and PyTorch's own error small by luck. What is right comes from a copy of the
    model in float64, or from the model itself where the copy computes something else.

    Parameters
    ----------
    modules
        By name, the model in evaluation mode first.
    example
        [batch, ...].
    any_batch
        Whether other sizes of the batch can be given.
    answers
        What is known already of the model.

    Returns
    -------
    dict of str to str
        By the names of those whose answers are wrong, in a sentence how.
    """
    (_, model), *others = modules.items()
    batches = _batches(model, example, any_batch)
    known = answers or KnownAnswers(model)
    expected, tolerance = _expected(known, batches, exactly=True), _TOLERANCE
    if not expected or not all(map(_same_function, expected)):
        expected, tolerance = _expected(known, batches, exactly=False), _ROUGH_TOLERANCE
    found = {name: _problem(module, expected, tolerance) for name, module in others}
    return {name: problem for name, problem in found.items() if problem}


@dataclass(frozen=True, eq=False)
class _Batch:
    """Inputs, and of which examples of batches before it they are made, if they are."""

    inputs: Arguments
    rows: tuple[tuple[int, slice], ...] = ()


def _batches(model: nn.Module, example: Arguments, any_batch: bool) -> list[_Batch]:
    """Return the example, random numbers like it, and batches of other sizes.

    The largest is just above what kernels take at once; it is left out where it would take long.
    """
    others = few_inputs_like(example) if any_batch else inputs_like(example)
    found = [_Batch(inputs) for inputs in (example, *others)]
    if not any_batch:
        return found
    all_others = tuple((number, slice(None)) for number in range(1, len(found)))
    first = _Batch(example[:1], ((0, slice(1)),))
    found.append(first if len(example) > 1 else _Batch(joined(others), all_others))
    # Kernels compute several examples at once, and what is left over in another way.
    one_more = joined([example, others[0][:1]])
    found.append(_Batch(one_more, ((0, slice(None)), (1, slice(1)))))
    if len(one_more) >= _JUST_ABOVE_A_BLOCK or not takes_many(model, example):
        return found
    # Not the example again and again: a row that takes the place of another is to be seen.
    missing = joined([example] * _JUST_ABOVE_A_BLOCK)[: _JUST_ABOVE_A_BLOCK - len(one_more)]
    return [*found, _Batch(joined([one_more, *inputs_like(missing)]))]


def _expected(
    answers: KnownAnswers, batches: Sequence[_Batch], *, exactly: bool
) -> list[_Expected]:
    """Return what the model gives for each batch, but for those that it does not take.

    It is empty if the model does not take the first in float64: it asks for float32 whatever it is
    given.
    """
    model, dtype = answers.plain.network, torch.float32
    if exactly:
        model, dtype = answers.double, torch.float64
    found: list[_Expected | None] = []
    for batch in batches:
        try:
            plain = comparable(answers.plain.of(batch.inputs))
            exact = plain
            if exactly:
                parts = [(found[number], some) for number, some in batch.rows]
                exact = _of_rows(plain, parts) or comparable(answers.exact(batch.inputs))
        except InputError:
            if exactly and not found:
                return []
            found.append(None)
            continue
        found.append(_Expected(batch.inputs, plain, exact, model, dtype))
    return [one for one in found if one is not None]


def _of_rows(plain: list[Any], parts: Sequence[tuple[_Expected | None, slice]]) -> list[Any] | None:
    """Return the exact answers for a batch from those for the same examples in other batches.

    None where they are not known, or what the model gives for an example in float32 shows that it
    depends on the others of its batch.
    """
    known = [(one, some) for one, some in parts if one is not None]
    if not parts or len(known) < len(parts):
        return None
    if any(one.plain[0] != plain[0] or one.exact[0] != plain[0] for one, _ in known):
        return None
    exact: list[Any] = [plain[0]]
    for number, near in enumerate(plain[1:], 1):
        pieces = [(one.inputs, one.plain[number], one.exact[number], some) for one, some in known]
        if any(not one.dim() or len(one) != len(inputs) for inputs, one, _, _ in pieces):
            return None
        alone = torch.cat([one[some] for _, one, _, some in pieces])
        if alone.shape != near.shape or not relative_difference(alone, near) <= _SAME_ROW:
            return None
        exact.append(torch.cat([one[some] for _, _, one, some in pieces]))
    return exact


def _same_function(one: _Expected) -> bool:
    """Tell whether what a model gives in float64 is what it gives in float32, but for rounding."""
    if one.plain[0] != one.exact[0]:
        return False
    for near, exact in zip(one.plain, one.exact, strict=True):
        if not isinstance(near, Tensor) or not near.numel():
            continue
        if near.shape != exact.shape:
            return False
        _, own, size, _ = _deviations(near, near, exact)
        far = (own > _ANOTHER_FUNCTION * size.max()).double().mean()
        if far > (0 if near.is_floating_point() or near.is_complex() else _FEW):
            return False
    return True


def _problem(module: nn.Module, expected: Sequence[_Expected], tolerance: float) -> str:
    """Tell how what a module gives is wrong; empty if it is not."""
    try:
        with torch.no_grad():
            found = [comparable(run(module, one.inputs.clone())) for one in expected]
    except InputError as error:
        return str(error)
    if any(given[0] != one.plain[0] for given, one in zip(found, expected, strict=True)):
        return "It gives its output in another form than the network does."
    for number, near in enumerate(expected[0].plain):
        if isinstance(near, Tensor):
            # There may be an output for each example of the batch.
            pairs = [
                (given[number], one)
                for given, one in zip(found, expected, strict=True)
                if number < len(one.plain)
            ]
            if problem := _problem_of_output(number, pairs, tolerance):
                return problem
    return ""


def _problem_of_output(
    number: int, pairs: Sequence[tuple[Tensor, _Expected]], tolerance: float
) -> str:
    """Tell how an output is wrong, of which is given what was found for each batch."""
    if any(answer.shape != one.plain[number].shape for answer, one in pairs):
        return "It gives an output of another shape than the network does."
    deviations = [
        _deviations(answer, one.plain[number], one.exact[number]) for answer, one in pairs
    ]
    if _largest_excess(deviations, tolerance) <= 1:
        return ""
    for deviation, (_, one) in zip(deviations, pairs, strict=True):
        deviation[_ROUNDING] = one.rounding[number]
    if pairs[0][0].is_floating_point() and _is_unknown(number, [one for _, one in pairs]):
        return (
            "Rounding to float32 alone changes an output of the network by more than "
            f"{_UNKNOWN:.0%} of its largest number, so that another way to compute it cannot be "
            "checked: let the network amplify less what it computes."
        )
    excess = _largest_excess(deviations, tolerance)
    if excess <= 1:
        return ""
    return (
        f"An output differs from the network's by {excess:.1e} times what rounding allows. Where "
        "the network sorts or chooses by 'topk' among equal numbers, of which PyTorch says no "
        "order, no other way to compute it can be checked; elsewhere this is a fault of gossamer: "
        "please report the network."
    )


_ROUNDING = 3
"""Row of the deviations that is found only where it is in doubt whether an answer is right."""


def _deviations(found: Tensor, near: Tensor, exact: Tensor) -> Tensor:
    """Return what is known of each number, [4, ...] in float64.

    These are its error, PyTorch's own error, its size, and 0 for what rounding may do to it. What
    PyTorch gives in float32 is right as well, where that overflows for instance.
    """
    found, near, exact = found.double(), near.double(), exact.double()
    as_pytorch = (found == near) | (found.isnan() & near.isnan())
    error = torch.where(as_pytorch | (found == exact), 0.0, (found - exact).abs())
    # Where PyTorch overflows, an error or a size without bound would allow everything elsewhere.
    own, size = (
        torch.where(near.isfinite() & exact.isfinite(), values.abs(), 0.0)
        for values in (near - exact, exact)
    )
    known = error.nan_to_num(torch.inf, torch.inf)
    return torch.stack([known, own, size, torch.zeros_like(known)])


def _largest_excess(deviations: Sequence[Tensor], tolerance: float) -> float:
    """Return by what factor errors exceed what is allowed for their index, at the most."""
    largest = max((float(one[2].max()) for one in deviations if one.numel()), default=0.0)
    axes = range(2, deviations[0].dim()) or [0]
    excess = 0.0
    for axis in axes:
        by_index = [_largest_by_index(one, axis) for one in deviations if one.numel()]
        if len({one.shape for one in by_index}) == 1:
            by_index = [torch.stack(by_index).amax(0)]
        for error, own, size, rounding in by_index:
            allowed = torch.stack([tolerance * size, _BEYOND_PYTORCH * own, rounding]).amax(0)
            allowed = allowed.clamp(min=_NOTHING * largest + torch.finfo(torch.float32).tiny)
            excess = max(excess, float((error / allowed).max()))
    return excess


def _is_unknown(number: int, expected: Sequence[_Expected]) -> bool:
    """Tell whether rounding leaves most numbers of the output, or of an index of it, unknown.

    A few may be, where a number may fall to either side of a threshold.
    """
    unknown = []
    for one in expected:
        finite = one.plain[number].isfinite() & one.exact[number].isfinite()
        size = float(torch.where(finite, one.exact[number].abs(), 0.0).max()) if finite.any() else 0
        unknown.append((finite & (one.rounding[number] > _UNKNOWN * size)).double())
    shares = [torch.cat([one.flatten() for one in unknown]).mean()]
    for axis in range(1, unknown[0].dim()):
        if len({one.shape[axis] for one in unknown}) == 1:
            by_index = torch.cat([one.movedim(axis, -1).flatten(0, -2) for one in unknown])
            shares.extend(by_index.mean(0))
    return any(share > _MOST for share in shares)


def _largest_by_index(deviations: Tensor, axis: int) -> Tensor:
    """Return the largest numbers for each index of an axis, [4, indices]; 0 is for no axis."""
    if axis == 0:
        return deviations.reshape(len(deviations), -1).amax(1, keepdim=True)
    return deviations.movedim(axis, 1).flatten(2).amax(2)


def relative_difference(found: Tensor, reference: Tensor) -> float:
    """Return the largest difference over the largest number of the reference.

    Where both are not finite in the same way they do not differ.

    Examples
    --------
    >>> relative_difference(torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]))
    0.25
    """
    if found.shape != reference.shape:
        return float("nan")
    found, reference = found.double(), reference.double()
    same = (found == reference) | (found.isnan() & reference.isnan())
    difference = torch.where(same, 0.0, (found - reference).abs())
    largest = reference.abs().nan_to_num(0.0, 0.0).max() if reference.numel() else torch.ones(())
    worst = difference.max() if difference.numel() else torch.zeros(())
    return float(worst / largest) if largest > 0 else float(worst)
