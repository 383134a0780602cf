"""Compressing for inputs of several lengths: which axes were declared, and what is checked."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gossamer.compression.checking import wrong_answers
from gossamer.compression.compressed import Rebuilding, signature_of
from gossamer.compression.lowering.rewriting import divided
from gossamer.compression.outputs import giving, leaves
from gossamer.compression.storing import stored_as
from gossamer.core.errors import InputError
from gossamer.engine import Network, Signature, weights_of
from gossamer.engine.fields import LONGEST
from gossamer.engine.lengths import Plans, fitted
from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.running import run

DynamicShapes = Mapping[str, Mapping[int, Any]]
"""By the names of inputs the axes that vary, with a `torch.export.Dim` of one name for all."""


@dataclass(frozen=True, eq=False)
class Declared:
    """The axes of each input that have the length, and its bounds."""

    axes: tuple[tuple[int, ...], ...]
    least: int
    most: int

    def example(self, example: Arguments, length: int) -> Arguments:
        """Return an example whose inputs have a length, made of what stands there in turn."""
        changed = []
        for tensor, axes in zip(example.tensors, self.axes, strict=True):
            found = tensor
            for axis in axes:
                found = found.index_select(axis, torch.arange(length) % found.shape[axis])
            changed.append(found)
        return example.with_tensors(changed)

    def tried(self, own: int) -> list[int]:
        """Return lengths to look at, the longest among them; 1 says little, as all repeats it."""
        first = min(max(2, self.least), self.most)
        return sorted({first, (first + self.most) // 2, min(max(own, first), self.most), self.most})


def declared(example: Arguments, shapes: DynamicShapes) -> Declared:
    """Return what a user declares to vary.

    Raises
    ------
    InputError
        If it names no input or axis, several lengths, or no largest one.
    """
    own = dict(zip(example.parameters, example.names, strict=True))
    shapes = {own.get(name, name): axes for name, axes in shapes.items()}
    unknown = [name for name in shapes if name not in example.names]
    if unknown or not shapes:
        raise InputError(
            f"'dynamic_shapes' names {', '.join(map(repr, unknown)) or 'no input'}, but some of "
            f"{', '.join(own)} were expected."
        )
    given = [dim for axes in shapes.values() for dim in _checked_axes(axes).values()]
    dims = {dim.__name__: dim for dim in given}
    if len(dims) != 1:
        raise InputError(
            f"'dynamic_shapes' has {len(dims)} lengths ({', '.join(dims)}), but one was expected: "
            "give the same torch.export.Dim for all axes."
        )
    ((name, dim),) = dims.items()
    try:
        least, most = max(1, int(dim.min)), int(dim.max)  # 0 where nothing is said
    except (TypeError, ValueError, OverflowError, AttributeError):
        least, most = 1, LONGEST + 1
    if not 1 <= least <= most <= LONGEST:
        raise InputError(
            f"'dynamic_shapes' says no largest {name} up to {LONGEST}, which is needed for what is "
            f"kept for each place: give torch.export.Dim({name!r}, min=1, max=...)."
        )
    axes = tuple(tuple(shapes.get(name, ())) for name in example.names)
    for name, tensor, varying in zip(example.names, example.tensors, axes, strict=True):
        if not all(type(axis) is int and 0 < axis < tensor.dim() for axis in varying):
            raise InputError(
                f"'dynamic_shapes' names the axes {list(varying)} of {name}, but axes behind the "
                f"batch, from 1 to {tensor.dim() - 1}, were expected."
            )
    return Declared(axes, least, most)


def _checked_axes(axes: Any) -> Mapping[int, Any]:
    if isinstance(axes, Mapping) and all(hasattr(dim, "__name__") for dim in axes.values()):
        return axes
    raise InputError(
        f"'dynamic_shapes' holds {axes!r}, but axes with their torch.export.Dim were expected: "
        'give such as {1: torch.export.Dim("tokens", max=512)}.'
    )


class LengthsModule(nn.Module):
    """A network of the engine as a module of PyTorch, for inputs of several lengths."""

    def __init__(self, plans: Plans, threads: int) -> None:
        super().__init__()
        self.plans = plans
        self.threads = threads

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the network gives for tensors wherever they stand in its arguments."""
        given = [one for one in pytree.tree_leaves((inputs, named)) if isinstance(one, Tensor)]
        plan = self.plans.for_shapes([tuple(one.shape) for one in given])
        arrays = [
            one.detach().numpy().reshape(len(one), *shape)
            for one, shape in zip(given, plan.network.inputs, strict=True)
        ]
        found = plan.signature.typed(plan.engine.run(arrays, threads=self.threads))
        outputs = tuple(map(torch.from_numpy, found))
        return outputs[0] if plan.signature.returns == "tensor" else outputs


def for_lengths(
    model: nn.Module | None,
    example: Arguments,
    asked: Declared,
    chosen: Network | None,
    remaining: Sequence[str],
    threads: int,
) -> tuple[Network, Signature, nn.Module]:
    """Return a network for several lengths, what it takes, and the module that runs it.

    Parameters
    ----------
    model
        What was lowered whole; None if nothing was.
    example
        Inputs of any length.
    asked
        The lengths.
    chosen
        The network for the example, with the layouts in which its weights are to be stored; None if
        it is not lowered whole.
    remaining
        What stays in PyTorch.
    threads
        How many the module takes.

    Raises
    ------
    InputError
        If the model cannot be lowered whole, at all of the lengths, or what comes out does not vary
        along a line, or gives other answers.
    """
    if model is None or chosen is None:
        raise InputError(
            f"The length cannot vary, as these parts stay in PyTorch: {', '.join(remaining)}; "
            "leave 'dynamic_shapes' out."
        )
    try:
        return _for_lengths(model, example, asked, chosen, threads)
    except InputError as error:
        raise InputError(f"The length cannot vary: {str(error).rstrip('.')}.") from error


def _for_lengths(
    model: nn.Module, example: Arguments, asked: Declared, chosen: Network, threads: int
) -> tuple[Network, Signature, nn.Module]:
    own = example.tensors[_first(asked.axes)].shape[asked.axes[_first(asked.axes)][0]]
    found: dict[int, tuple[Network, Signature]] = {}
    for length in asked.tried(own):
        found[length] = _lowered(model, asked.example(example, length))
    network, signature = fitted(found, asked.least)
    network = stored_as(network, [_layout(layer) for layer in chosen.layers])
    with torch.no_grad():
        output = run(model, example.clone())
    module: nn.Module = LengthsModule(Plans(network, signature), threads)
    if signature.returns != "tensor":
        recorded = [isinstance(leaf.value, Tensor) for leaf in leaves(output)]
        module = Rebuilding(module, output, recorded)
    for length in sorted({asked.least, *asked.tried(own), (asked.least + asked.most) // 3 + 1}):
        if asked.least <= length <= asked.most:
            given = asked.example(example, length)
            wrong = wrong_answers({"dense": model, "engine": module}, given, any_batch=True)
            if wrong:
                raise InputError(f"at the length {length}, {wrong['engine']}")
    return network, signature, module


def _first(axes: Sequence[Sequence[int]]) -> int:
    return next(number for number, varying in enumerate(axes) if varying)


def _layout(layer: Any) -> Any:
    weights = weights_of(layer)
    return None if weights is None else weights.layout


def _lowered(model: nn.Module, example: Arguments) -> tuple[Network, Signature]:
    with torch.no_grad():
        output = run(model, example.clone())
    held = [leaf for leaf in leaves(output) if isinstance(leaf.value, Tensor)]
    with contextlib.nullcontext() if isinstance(output, Tensor) else giving(model, held):
        traced, division = divided(model, example)
    part = division.whole(traced.graph)
    if part is None:
        raise InputError(f"for {example} it is not lowered whole ({', '.join(division.rest)})")
    return part.network, signature_of(example, output)
