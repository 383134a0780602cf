"""What a network takes and gives as its model in PyTorch does: names, shapes and types.

Kernels slide over images alone; a model of sequences, for one, takes [channels, length] where its
network takes [channels, 1, length], the same numbers in the same order. A network computes with
float32 throughout; tokens and masks are whole numbers and truth values to its model.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.engine.check import check_network
from gossamer.engine.fields import Shape
from gossamer.engine.network import Network

NumberType = Literal["float32", "int32", "int64", "bool"]
Container = Literal["tensor", "tuple", "dict"]
MOST_LENGTHS = 8
_LONGEST_NAME = 200


@dataclass(frozen=True)
class TensorSpec:
    """An input or an output: its name, the shape of one example, and the type of its numbers."""

    name: str
    shape: Shape
    type: NumberType = "float32"


Path = tuple[int | str, ...]


@dataclass(frozen=True)
class Varying:
    """A number of a network, or how far an array reaches along an axis: slope * length + offset.

    `path` leads to it from the pair of network and signature, by names of fields and places in
    tuples. `axis` is None for a number. The length is the one of this number of those that the
    network takes; with `of`, the product of these axes, (value, axis), of values of the network, of
    which what an operator itself gives is taken before it is pooled. `rule` says how places or a
    matrix of so many rows come about (see `gossamer.engine.spans`).
    """

    path: Path
    axis: int | None
    slope: int
    offset: int
    length: int = 0
    of: tuple[tuple[int, int], ...] = ()
    rule: str = ""

    def at(self, length: int) -> int:
        """Return what it is at a length."""
        return self.slope * length + self.offset


@dataclass(frozen=True)
class Lengths:
    """The bounds of each length that a network takes, and what of it varies with them."""

    least: Shape
    most: Shape
    varying: tuple[Varying, ...]


@dataclass(frozen=True)
class Signature:
    """What goes in, in the order of the network, and what comes out in which container.

    A "tensor" is the only output by itself; outputs in a "dict" have their names. Where `lengths`
    are given, the shapes are those of the longest inputs.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    returns: Container = "tensor"
    lengths: Lengths | None = None

    @classmethod
    def of_shapes(cls, inputs: Shape, outputs: Shape) -> "Signature":
        """Return that of one nameless input of float32 and one such output."""
        return cls((TensorSpec("input", inputs),), (TensorSpec("output", outputs),))

    @property
    def is_plain(self) -> bool:
        """Whether there is one input and one output, of float32 and without names of their own."""
        return self == self.of_shapes(self.inputs[0].shape, self.outputs[0].shape)

    def typed(self, outputs: tuple[NDArray[Any], ...]) -> list[NDArray[Any]]:
        """Return arrays [N, ...] of a network in the shapes and types of its model."""
        return [
            np.asarray(array.reshape(len(array), *spec.shape), spec.type)
            for array, spec in zip(outputs, self.outputs, strict=True)
        ]

    def returned(self, outputs: tuple[NDArray[Any], ...]) -> Any:
        """Return arrays [N, ...] of a network as its model gives them."""
        found = self.typed(outputs)
        if self.returns == "tensor":
            return found[0]
        if self.returns == "tuple":
            return tuple(found)
        return {spec.name: array for spec, array in zip(self.outputs, found, strict=True)}


def own_signature(network: Network) -> Signature:
    """Return the shapes in which a network itself takes and gives examples, and names by number.

    Raises
    ------
    InputError
        If the network is not sound.

    Examples
    --------
    >>> own_signature(Network((2, 1, 9), (), 0)).inputs
    (TensorSpec(name='input', shape=(2, 1, 9), type='float32'),)
    >>> [spec.name for spec in own_signature(Network(((1,), (2,)), (), (0, 1))).outputs]
    ['output_0', 'output_1']
    """
    shapes = check_network(network)
    outputs = tuple(shapes[value] for value in network.outputs)
    return Signature(
        _numbered("input", network.inputs),
        _numbered("output", outputs),
        "tensor" if len(outputs) == 1 else "tuple",
    )


def _numbered(name: str, shapes: tuple[Shape, ...]) -> tuple[TensorSpec, ...]:
    if len(shapes) == 1:
        return (TensorSpec(name, shapes[0]),)
    return tuple(TensorSpec(f"{name}_{i}", shape) for i, shape in enumerate(shapes))


def check_signature(signature: Signature, network: Network, shapes: tuple[Shape, ...]) -> None:
    """Check what a model is said to take and give against what its network does.

    Parameters
    ----------
    signature
        Of the model.
    network
        A sound one.
    shapes
        Of all of its values.

    Raises
    ------
    InputError
        If a shape is none or holds another number of numbers, or a name or type is none.

    Examples
    --------
    >>> network = Network((2, 1, 9), (), 0)
    >>> check_signature(Signature.of_shapes((2, 9), (18,)), network, network.inputs)
    >>> check_signature(Signature.of_shapes((2, 8), (18,)), network, network.inputs)
    Traceback (most recent call last):
        ...
    gossamer.core.errors.InputError: input_shape is (2, 8), expected a shape of 18 numbers, ...
    """
    ends = (
        ("input", signature.inputs, network.inputs),
        ("output", signature.outputs, tuple(shapes[value] for value in network.outputs)),
    )
    for kind, specs, own in ends:
        if len(specs) != len(own):
            raise InputError(f"{len(specs)} {kind}s are described, expected {len(own)}.")
        for i, (spec, shape) in enumerate(zip(specs, own, strict=True)):
            _check_shape(f"{kind}_shape" if len(own) == 1 else f"{kind} {i}: shape", spec, shape)
            _check_name_and_type(f"{kind} {i}", spec)
        if len({spec.name for spec in specs}) < len(specs):
            raise InputError(f"{kind}s: a name stands twice, expected different names.")
    if signature.returns not in get_args(Container):
        raise InputError(
            f"returns is {signature.returns!r:.80}, expected one of "
            f"{', '.join(get_args(Container))}."
        )
    if signature.returns == "tensor" and len(signature.outputs) != 1:
        raise InputError(f"returns is 'tensor', expected one output, not {len(signature.outputs)}.")


def _check_shape(name: str, spec: TensorSpec, own: Shape) -> None:
    shape: Any = spec.shape
    if (
        not isinstance(shape, tuple)
        or len(shape) > MOST_LENGTHS
        or not all(type(length) is int and length >= 1 for length in shape)
        or math.prod(shape) != math.prod(own)
    ):
        raise InputError(
            f"{name} is {shape!r:.80}, expected a shape of {math.prod(own)} numbers, as the "
            f"network has {list(own)}, of at most {MOST_LENGTHS} lengths."
        )


def _check_name_and_type(where: str, spec: TensorSpec) -> None:
    name: Any = spec.name
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise InputError(
            f"{where}: name is {name!r:.80}, expected printable text of at most {_LONGEST_NAME} "
            "characters."
        )
    if spec.type not in get_args(NumberType):
        raise InputError(
            f"{where}: type is {spec.type!r:.80}, expected one of "
            f"{', '.join(get_args(NumberType))}."
        )
