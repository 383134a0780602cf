"""Networks for inputs of several lengths: one description, and a plan for each length on demand.

Shapes in the engine are static: kernels are laid out for one length, and are fast for it. A network
that takes sentences of 1 to 512 tokens is therefore kept as the network of the longest, and beside
it what is another at another length: whole numbers in its fields and shapes, each `slope * length +
offset`, and arrays, of which the first `slope * length + offset` numbers along an axis are taken,
as of position embeddings and causal masks. Images have two lengths, and what lies behind strides
goes by the axes of the values before it instead, as a pooling of all places does. Which these are
is found, by `fitting.fitted`.

`at` makes the network of one length. It is compiled when that length is first met, and a few of
these plans are kept (`MOST_KEPT`), each with weights of its own.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields, replace
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.epilogue import unpooled
from gossamer.engine.fields import Shape
from gossamer.engine.native import Engine
from gossamer.engine.network import Network
from gossamer.engine.operator import Operator
from gossamer.engine.signature import Lengths, Path, Signature, Varying
from gossamer.engine.spans import spanned
from gossamer.engine.weights import Weights

MOST_KEPT = 8
"""How many lengths a loaded network stays ready for at a time."""


class Plan(NamedTuple):
    """A network of one length, what it takes and gives, and what runs it."""

    network: Network
    signature: Signature
    engine: Engine


class Plans:
    """The plans of a network by the lengths of its inputs; threads may share them.

    Parameters
    ----------
    network, signature
        Of the longest inputs, or of all where no length varies.
    """

    def __init__(self, network: Network, signature: Signature) -> None:
        self.network = network
        self.signature = signature
        self._lock = Lock()
        self._kept: OrderedDict[Shape, Plan] = OrderedDict()
        self._longest = Plan(network, signature, Engine(network))

    def for_shapes(self, shapes: Sequence[tuple[int, ...]]) -> Plan:
        """Return the plan for inputs of these shapes, the batch among them.

        Raises
        ------
        InputError
            If they have a length that the network does not take.
        """
        lengths = self.signature.lengths
        if lengths is None:
            return self._longest
        found = lengths_of(lengths, shapes)
        if found == lengths.most:
            return self._longest
        with self._lock:
            if found not in self._kept:
                network, signature = at_lengths(self.network, self.signature, found)
                self._kept[found] = Plan(network, signature, Engine(network))
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(found)
            return self._kept[found]


def lengths_of(lengths: Lengths, shapes: Sequence[tuple[int, ...]]) -> Shape:
    """Return the lengths of inputs, of which are given the shapes with the batch.

    Raises
    ------
    InputError
        If they are not such as the network takes.
    """
    found: dict[int, int] = {}
    for one in lengths.varying:
        if one.path[:2] != (1, "inputs") or one.slope == 0 or one.of or one.length in found:
            continue
        number, axis = int(one.path[2]), int(one.path[4]) + 1
        shape = shapes[number]
        known = axis < len(shape)
        length, rest = divmod(shape[axis] - one.offset, one.slope) if known else (0, 1)
        least, most = lengths.least[one.length], lengths.most[one.length]
        if rest or not least <= length <= most:
            steps = f" in steps of {one.slope}" if one.slope != 1 else ""
            raise InputError(
                f"inputs: shape {list(shape)}, expected {one.at(least)} to {one.at(most)}{steps} "
                f"along axis {axis}."
            )
        found[one.length] = length
    if len(found) != len(lengths.least):
        raise InputError("lengths: no input varies, expected one at least.")
    return tuple(found[number] for number in range(len(found)))


def at_lengths(network: Network, signature: Signature, lengths: Shape) -> tuple[Network, Signature]:
    """Return the network and the signature of some lengths, from those of the longest.

    Raises
    ------
    InputError
        If what is said to vary is no number or array of them.
    """
    varying = () if signature.lengths is None else signature.lengths.varying
    whole: Any = (network, replace(signature, lengths=None))
    for one in varying:
        if not one.of:
            whole = _at(whole, one, lengths[one.length])
    if not any(one.of for one in varying):
        return whole  # type: ignore[no-any-return]
    behind: dict[int, list[Varying]] = {}
    for one in varying:
        if one.of:
            place = int(one.path[2]) if one.path[:2] == (0, "layers") else len(network.layers)
            behind.setdefault(place, []).append(one)
    shapes = list(whole[0].inputs)
    longest = list(network.inputs)
    for number in range(len(network.layers) + 1):
        for one in behind.get(number, ()):
            known = shapes
            if number < len(network.layers) and any(value == len(shapes) for value, _ in one.of):
                known = [*shapes, _shape_of(unpooled(whole[0].layers[number]), number, shapes)]
            whole = _at(whole, one, _product(one, known), (shapes, longest))
        if number < len(network.layers):
            shapes.append(_shape_of(whole[0].layers[number], number, shapes))
            longest.append(_shape_of(network.layers[number], number, longest))
    return whole  # type: ignore[no-any-return]


def _shape_of(layer: Operator, number: int, shapes: Sequence[Shape]) -> Shape:
    try:
        return layer.infer_shape(dict(enumerate(shapes)))
    except (LookupError, InputError) as error:
        raise InputError(
            f"layer {number} ({type(layer).__name__}): {error} at these lengths"
        ) from error


def _product(one: Varying, shapes: Sequence[Shape]) -> int:
    try:
        return math.prod(shapes[value][axis] for value, axis in one.of)
    except IndexError as error:
        raise _nothing(one) from error


def _nothing(one: Varying) -> InputError:
    where = ".".join(map(str, one.path))
    return InputError(f"lengths: {where:.120} is nothing that varies.")


def _at(whole: Any, one: Varying, length: int, shapes: tuple[Sequence[Shape], ...] = ()) -> Any:
    try:
        return _changed(whole, one.path, one, length, shapes)
    except (TypeError, LookupError, AttributeError, ValueError) as error:
        raise _nothing(one) from error


def _changed(
    whole: Any, path: Path, one: Varying, length: int, shapes: tuple[Sequence[Shape], ...]
) -> Any:
    """Return a thing with one number of it as it is at a length."""
    if not path:
        if one.axis is None:
            if type(whole) is not int or one.rule:
                raise TypeError
            return one.at(length)
        if not isinstance(whole, np.ndarray) or one.axis >= whole.ndim:
            raise TypeError
        return np.ascontiguousarray(whole[(slice(None),) * one.axis + (slice(one.at(length)),)])
    step, *rest = path
    if isinstance(step, str):
        if isinstance(whole, Weights) or step not in {field.name for field in fields(whole)}:
            raise LookupError
        held = getattr(whole, step)
        if one.rule and not rest and step in ("indices", "matrix"):
            known, longest = (given[whole.input][whole.axis] for given in shapes)
            return replace(
                whole, **{step: spanned(whole, one.rule, one.at(length), known, longest)}
            )
        return replace(whole, **{step: _changed(held, tuple(rest), one, length, shapes)})
    parts = list(whole)
    parts[step] = _changed(parts[step], tuple(rest), one, length, shapes)
    return tuple(parts)
