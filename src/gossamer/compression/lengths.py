"""Compressing for inputs of several lengths: which axes were declared, and what is checked."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
from gossamer.engine.fields import LONGEST, Shape
from gossamer.engine.fitting import fitted
from gossamer.engine.lengths import Plans
from gossamer.engine.operator import ANY_SIZE
from gossamer.engine.passes.patches import CUT_PATCHES
from gossamer.graph.arguments import Arguments
from gossamer.measures.functional.running import run

DynamicShapes = Mapping[str, Mapping[int, Any]]
"""By the names of inputs the axes that vary, with a `torch.export.Dim`, or a multiple of one."""


class Axis(NamedTuple):
    """An axis of an input that is slope * length + offset, of the length of that number."""

    dim: int
    length: int
    slope: int
    offset: int
    name: str

    def size(self, length: int) -> int:
        """Return how long it is at a length."""
        return self.slope * length + self.offset


@dataclass(frozen=True, eq=False)
class Declared:
    """The axes of each input that vary, and the bounds of each length."""

    axes: tuple[tuple[Axis, ...], ...]
    least: Shape
    most: Shape

    def example(self, example: Arguments, lengths: Shape) -> Arguments:
        """Return an example whose inputs have these lengths, made of what stands there in turn."""
        changed = []
        for tensor, axes in zip(example.tensors, self.axes, strict=True):
            found = tensor
            for axis in axes:
                places = torch.arange(axis.size(lengths[axis.length])) % found.shape[axis.dim]
                found = found.index_select(axis.dim, places)
            changed.append(found)
        return example.with_tensors(changed)

    def own(self, example: Arguments) -> Shape:
        """Return the lengths nearest to those of an example."""
        found = list(self.least)
        for tensor, axes in zip(example.tensors, self.axes, strict=True):
            for axis in axes:
                found[axis.length] = (tensor.shape[axis.dim] - axis.offset) // axis.slope
        ends = zip(found, self.least, self.most, strict=True)
        return tuple(min(max(one, low), high) for one, low, high in ends)

    def fitted_at(self, own: Shape) -> list[Shape]:
        """Return lengths to look at: several of each beside the longest others, and one of all.

        Neighbours are among them, as strides show only there; 1 says little, as all repeats it.
        """
        found = {self.most}
        some: list[list[int]] = []
        for place, (least, most) in enumerate(zip(self.least, self.most, strict=True)):
            first = min(max(2, least), most)
            middle = (first + most) // 2
            tried = {first, middle, max(own[place], first)}
            if len(own) > 1 or middle - first > 1:
                tried.add(max(first, most - 1))
            some.append(sorted(tried))
            found |= {(*self.most[:place], one, *self.most[place + 1 :]) for one in tried}
        if len(own) > 1:
            found.add(tuple(one[place % len(one)] for place, one in enumerate(some)))
        return sorted(found)

    def checked_at(self, own: Shape) -> list[Shape]:
        """Return lengths to compare answers at, others than those looked at among them."""
        if len(own) == 1:
            known = {self.least, *self.fitted_at(own)}
        else:
            known = {self.least, self.most, own}
        gaps = [(low, high - low) for low, high in zip(self.least, self.most, strict=True)]
        others = (
            tuple(low + gap * (1 + place % 2) // 3 for place, (low, gap) in enumerate(gaps)),
            tuple(low + 1 + gap // (3 + place) for place, (low, gap) in enumerate(gaps)),
        )
        known |= {tuple(map(min, one, self.most)) for one in others}
        return sorted(known)


def declared(example: Arguments, shapes: DynamicShapes) -> Declared:
    """Return what a user declares to vary.

    Raises
    ------
    InputError
        If it is no mapping, names no input or axis, or a length without a largest one.
    """
    own = dict(zip(example.parameters, example.names, strict=True))
    if not isinstance(shapes, Mapping):
        raise InputError(
            f"'dynamic_shapes' is of type {type(shapes).__name__}, but a dict from the names of "
            f"inputs ({', '.join(own)}) to their axes was expected."
        )
    shapes = {own.get(name, name): axes for name, axes in shapes.items()}
    unknown = [name for name in shapes if name not in example.names]
    if unknown or not shapes:
        raise InputError(
            f"'dynamic_shapes' names {', '.join(map(repr, unknown)) or 'no input'}, but some of "
            f"{', '.join(own)} were expected."
        )
    given = {name: _checked_axes(axes) for name, axes in shapes.items()}
    roots = {
        root.__name__: root
        for axes in given.values()
        for root in (getattr(dim, "root", dim) for dim in axes.values())
    }
    if not roots:
        raise InputError("'dynamic_shapes' names no axis, but some that vary were expected.")
    bounds = [_bounds(name, root) for name, root in roots.items()]
    least, most = (tuple(ends) for ends in zip(*bounds, strict=True))
    numbers = {name: number for number, name in enumerate(roots)}
    axes = []
    for name, tensor in zip(example.names, example.tensors, strict=True):
        varying = given.get(name, {})
        if not all(type(axis) is int and 0 < axis < tensor.dim() for axis in varying):
            raise InputError(
                f"'dynamic_shapes' names the axes {list(varying)} of {name}, but axes behind the "
                f"batch, from 1 to {tensor.dim() - 1}, were expected."
            )
        axes.append(tuple(_axis(axis, dim, numbers, least) for axis, dim in varying.items()))
    return Declared(tuple(axes), least, most)


def _axis(axis: int, dim: Any, numbers: Mapping[str, int], leasts: Shape) -> Axis:
    root = getattr(dim, "root", dim)
    least = leasts[numbers[root.__name__]]
    offset = int(dim.fn(0)) if root is not dim else 0
    slope = int(dim.fn(1)) - offset if root is not dim else 1
    if slope * least + offset < 1:
        raise InputError(
            f"'dynamic_shapes' has {dim.__name__}, which is {slope * least + offset} for the least "
            f"{root.__name__}, {least}, but 1 or more was expected."
        )
    return Axis(axis, numbers[root.__name__], slope, offset, dim.__name__)


def _bounds(name: str, dim: Any) -> tuple[int, int]:
    try:
        least, most = max(1, int(dim.min)), int(dim.max)  # 0 where nothing is said
    except (TypeError, ValueError, OverflowError, AttributeError):
        least, most = 1, LONGEST + 1
    if not 1 <= least <= most <= LONGEST:
        raise InputError(
            f"'dynamic_shapes' says no largest {name} up to {LONGEST}, which is needed for what is "
            f"kept for each place: give torch.export.Dim({name!r}, min=1, max=...)."
        )
    return least, most


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
    own = asked.own(example)
    network, signature = fitted(_at_lengths(model, example, asked, own), asked.least)
    network = _stored_as(network, chosen)
    with torch.no_grad():
        output = run(model, example.clone())
    module: nn.Module = LengthsModule(Plans(network, signature), threads)
    if signature.returns != "tensor":
        recorded = [isinstance(leaf.value, Tensor) for leaf in leaves(output)]
        module = Rebuilding(module, output, recorded)
    for lengths in asked.checked_at(own):
        given = asked.example(example, lengths)
        wrong = wrong_answers({"dense": model, "engine": module}, given, any_batch=True)
        if wrong:
            at = " x ".join(map(str, lengths))
            raise InputError(f"at the length {at}, {wrong['engine']}")
    return network, signature, module


def _at_lengths(
    model: nn.Module, example: Arguments, asked: Declared, own: Shape
) -> dict[Shape, tuple[Network, Signature]]:
    """Return the networks of several lengths, of operators of the same kinds."""

    def lowered() -> dict[Shape, tuple[Network, Signature]]:
        lengths = asked.fitted_at(own)
        return {one: _lowered(model, asked.example(example[:2], one)) for one in lengths}

    found = lowered()
    kinds = {tuple(type(layer) for layer in network.layers) for network, _ in found.values()}
    if len(kinds) == 1:
        return found
    token = CUT_PATCHES.set(False)  # patches fill the images of some sizes only
    try:
        return lowered()
    finally:
        CUT_PATCHES.reset(token)


def _stored_as(network: Network, chosen: Network) -> Network:
    """Return a network with its weights stored as those of the example's, in their order."""
    layouts = [found.layout for layer in chosen.layers if (found := weights_of(layer))]
    weighted = [number for number, layer in enumerate(network.layers) if weights_of(layer)]
    by_layer = dict(zip(weighted, layouts, strict=True))
    return stored_as(network, [by_layer.get(number) for number in range(len(network.layers))])


def _lowered(model: nn.Module, example: Arguments) -> tuple[Network, Signature]:
    with torch.no_grad():
        output = run(model, example.clone())
    held = [leaf for leaf in leaves(output) if isinstance(leaf.value, Tensor)]
    with contextlib.nullcontext() if isinstance(output, Tensor) else giving(model, held):
        token = ANY_SIZE.set(True)
        try:
            traced, division = divided(model, example)
        finally:
            ANY_SIZE.reset(token)
    part = division.whole(traced.graph)
    if part is None:
        raise InputError(f"for {example} it is not lowered whole ({', '.join(division.rest)})")
    return part.network, signature_of(example, output)
