"""A program with fewer operators that computes the same: constants are folded in float64.

Each rule looks at one operator and returns what stands for it instead, or nothing. What a rule
changes must be read by this one operator alone. Rules are tried until none applies any more; what
nobody reads is dropped in the end.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np

from gossamer.engine.fields import Array, Shape, Value, read_by, renamed
from gossamer.engine.network import Program
from gossamer.engine.operator import Operator
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.linear import Linear
from gossamer.engine.ops.pad import Pad
from gossamer.engine.ops.permute import Permute
from gossamer.engine.ops.pixel_shuffle import PixelShuffle
from gossamer.engine.ops.pointwise import Pointwise, activate, affine
from gossamer.engine.ops.pool import Pool
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.ops.slice import Slice
from gossamer.engine.passes.margins import padded_by, without_far_taps
from gossamer.engine.weights import dense

Changes = Mapping[Value, Operator]
"""Operators that stand for those of the same name, or are new."""

_RISING = frozenset({"relu", "relu6", "elu", "leaky-relu", "sigmoid", "tanh"})
"""Activations that never fall as their number grows (for a slope or scale of at least 0)."""


_FAR = 30.0
"""Shift from which on numbers count as far from zero beside their spread, which is scaled to 1."""
_LARGEST_CENTRE = 1e30
"""A shift of numbers before they are scaled has to be one in float32."""


@dataclass(frozen=True, eq=False)
class _View:
    """A program with what the rules ask about it."""

    program: Program
    reads: Counter[Value]
    shapes: Mapping[Value, Shape]

    def before(self, name: Value) -> Operator | None:
        """Return the operator that gives a value."""
        return self.program.operators.get(name)

    def alone(self, name: Value) -> Operator | None:
        """Return the operator that gives a value, if the value is read once."""
        return self.before(name) if self.reads[name] == 1 else None


_Rule = Callable[[Value, Operator, _View], Changes | None]


def _is_product(operator: Operator | None) -> TypeGuard[Linear | Convolution]:
    """Tell whether an operator multiplies, and does nothing else to what comes of it yet."""
    return isinstance(operator, Linear | Convolution) and not operator.epilogue.stages


def _is_sum(operator: Operator | None) -> TypeGuard[Pointwise]:
    return isinstance(operator, Pointwise) and operator.epilogue.stages == (1,)


def _is_activation(operator: Operator | None) -> TypeGuard[Pointwise]:
    return isinstance(operator, Pointwise) and operator.epilogue.stages == (2,)


def _is_affine(operator: Operator | None) -> TypeGuard[Pointwise]:
    return isinstance(operator, Pointwise) and operator.epilogue.stages == (3,)


def _constants(affine: Pointwise) -> tuple[Array, Array]:
    """Return the scale and the shift of an affine function."""
    scale, shift = affine.epilogue.scale, affine.epilogue.shift
    assert scale is not None
    assert shift is not None
    return scale, shift


def _bias(product: Linear | Convolution) -> Array:
    return np.zeros(product.weights.rows) if product.bias is None else product.bias


def fold(program: Program) -> Program:
    """Return a program with the same result and as few operators as the rules reach.

    Examples
    --------
    >>> product = Linear("x", dense(np.array([[1.0, 2.0]])))
    >>> scaled = affine("product", np.array([3.0]), np.array([4.0]))
    >>> operators = {"product": product, "scaled": scaled}
    >>> folded = fold(Program({"x": (2,)}, operators, ("scaled",)))
    >>> list(folded.operators), folded.operators["scaled"].weights.values.tolist()
    (['scaled'], [[3.0, 6.0]])
    """
    # Constants go backwards as far as they can before what is left of them goes forwards.
    while True:
        program = _settled(_without_repeated_shapes(program), _BACKWARDS)
        moved = _settled_once(program, _FORWARDS)
        if moved is None:
            return without_dead(program)
        program = moved


def without_dead(program: Program) -> Program:
    """Return the program without what does not reach its outputs."""
    needed = set(program.outputs)
    for name, operator in reversed(list(program.operators.items())):
        if name in needed:
            needed.update(read_by(operator))
    kept = {name: one for name, one in program.operators.items() if name in needed}
    return replace(program, operators=kept)


def _settled(program: Program, rules: tuple[_Rule, ...]) -> Program:
    while (found := _settled_once(program, rules)) is not None:
        program = found
    return program


def _settled_once(program: Program, rules: tuple[_Rule, ...]) -> Program | None:
    """Apply the first rule that applies; None if none does."""
    program = without_dead(program)
    view = _View(program, program.read_counts(), program.shapes())
    for name, operator in program.operators.items():
        for rule in rules:
            changes = rule(name, operator, view)
            if changes is not None:
                return _changed(program, name, changes)
    return None


def _changed(program: Program, name: Value, changes: Changes) -> Program:
    """Return the program with changed operators; new ones stand before the one called `name`."""
    operators: dict[Value, Operator] = {}
    for other, operator in program.operators.items():
        if other == name:
            operators |= {n: one for n, one in changes.items() if n not in program.operators}
        operators[other] = changes.get(other, operator)
    return replace(program, operators=operators)


def _without_repeated_shapes(program: Program) -> Program:
    """Return the program without reshapes that change nothing, or that another one undoes."""
    shapes = program.shapes()
    same: dict[Value, Value] = {}
    operators: dict[Value, Operator] = {}
    for name, read in program.operators.items():
        operator = renamed(read, same)
        if isinstance(operator, Reshape):
            before = operators.get(operator.input)
            if isinstance(before, Reshape):
                operator = replace(operator, input=before.input)
            if operator.shape == shapes[operator.input]:
                same[name] = operator.input
                continue
        operators[name] = operator
    outputs = tuple(same.get(value, value) for value in program.outputs)
    return without_dead(replace(program, operators=operators, outputs=outputs))


# --- backwards: into what gives the value


def _merge_affines(name: Value, operator: Operator, view: _View) -> Changes | None:
    if not _is_affine(operator):
        return None
    before = view.alone(operator.input)
    if not _is_affine(before):
        return None
    (scale, shift), (first_scale, first_shift) = _constants(operator), _constants(before)
    return {name: affine(before.input, scale * first_scale, scale * first_shift + shift)}


def _fold_into_product_before(name: Value, operator: Operator, view: _View) -> Changes | None:
    if not _is_affine(operator):
        return None
    before = view.alone(operator.input)
    if not _is_product(before):
        return None
    scale, shift = _constants(operator)
    weights = dense(before.weights.values * scale[:, None])
    return {name: replace(before, weights=weights, bias=_bias(before) * scale + shift)}


def _pad_within_convolution(name: Value, operator: Operator, view: _View) -> Changes | None:
    if not isinstance(operator, Convolution):
        return None
    before = view.before(operator.input)
    if not isinstance(before, Pad):
        return None
    padded = padded_by(operator, before)
    return None if padded is None else {name: padded}


def _without_far_taps(name: Value, operator: Operator, view: _View) -> Changes | None:
    if not isinstance(operator, Convolution):
        return None
    found = without_far_taps(operator, view.shapes[operator.input])
    return None if found is None else {name: found}


def _slice_of_product(name: Value, operator: Operator, view: _View) -> Changes | None:
    """Write each part of the channels of a product as a product of its own."""
    if not isinstance(operator, Slice) or operator.axis != 0:
        return None
    product = view.before(operator.input)
    if not _is_product(product) or getattr(product, "groups", 1) != 1:
        return None
    operators = view.program.operators
    readers = [one for one in operators.values() if operator.input in read_by(one)]
    parts = [one for one in readers if isinstance(one, Slice) and one.axis == 0]
    rows = sum(one.length for one in parts)
    if len(parts) < view.reads[operator.input] or rows > product.weights.rows:
        return None
    end = operator.start + (operator.length - 1) * operator.step + 1
    taken = slice(operator.start, end, operator.step)
    bias = None if product.bias is None else product.bias[taken]
    return {name: replace(product, weights=dense(product.weights.values[taken]), bias=bias)}


def _double(name: Value, operator: Operator, view: _View) -> Changes | None:
    """Write a value that is added to itself as twice the value, for what gives it to take in."""
    if not _is_sum(operator) or operator.input != operator.epilogue.residual:
        return None
    before = view.before(operator.input)
    if not (_is_product(before) or _is_affine(before)) or view.reads[operator.input] != 2:
        return None  # a sum can take in an activation, which twice a value cannot
    channels = view.shapes[name][0]
    return {name: affine(operator.input, np.full(channels, 2.0), np.zeros(channels))}


def _activate_before_pool(name: Value, operator: Operator, view: _View) -> Changes | None:
    """Take the largest of a rising function instead of the function of the largest."""
    if not _is_activation(operator) or operator.epilogue.activation.name not in _RISING:
        return None
    pool, activation = view.alone(operator.input), operator.epilogue.activation
    if activation.alpha < 0 or not isinstance(pool, Pool):
        return None
    before = view.alone(pool.input)
    fusable = _is_product(before) or _is_sum(before)
    if not fusable or pool.pooling.kind != "max" or pool.pooling.dilation != (1, 1):
        return None
    inner = f"{name}<"
    return {inner: activate(pool.input, activation), name: replace(pool, input=inner)}


def _activate_before_moving(name: Value, operator: Operator, view: _View) -> Changes | None:
    """Take a function of numbers before they are moved, which what gives them may take in."""
    if not _is_activation(operator):
        return None
    moving = view.alone(operator.input)
    if not _moves(moving) or moving.input in view.program.inputs:
        return None
    if not isinstance(moving, Reshape) and not _is_product_moved(moving.input, view):
        return None
    inner = f"{name}<"
    return {
        inner: activate(moving.input, operator.epilogue.activation),
        name: replace(moving, input=inner),
    }


def _affine_before_moving(name: Value, operator: Operator, view: _View) -> Changes | None:
    """Scale and shift before pixels are moved where a product takes the numbers in."""
    if not _is_affine(operator):
        return None
    moving = view.alone(operator.input)
    if not _moves(moving) or not _is_product_moved(moving.input, view):
        return None
    scale, shift = _constants(operator)
    if isinstance(moving, PixelShuffle):
        block = math.prod(moving.block)
        scale, shift = np.repeat(scale, block), np.repeat(shift, block)
    elif not isinstance(moving, Slice) or moving.axis == 0:
        return None
    inner = f"{name}<"
    return {inner: affine(moving.input, scale, shift), name: replace(moving, input=inner)}


def _moves(operator: Operator | None) -> TypeGuard[Reshape | Permute | Slice | PixelShuffle]:
    return isinstance(operator, Reshape | Permute | Slice | PixelShuffle)


def _is_product_moved(name: Value, view: _View) -> bool:
    """Tell whether a value is a product that nothing else reads, moved or not."""
    operator = view.alone(name)
    while _moves(operator):
        operator = view.alone(operator.input)
    return _is_product(operator)


def _affine_before_pool(name: Value, operator: Operator, view: _View) -> Changes | None:
    """Scale before pooling where a product behind it takes the numbers in."""
    if not _is_affine(operator):
        return None
    pool = view.alone(operator.input)
    if not isinstance(pool, Pool) or not _commute(_constants(operator)[0], pool):
        return None
    if not _is_product(view.alone(pool.input)):
        return None
    inner = f"{name}<"
    return {inner: replace(operator, input=pool.input), name: replace(pool, input=inner)}


def _commute(scale: Array, pool: Pool) -> bool:
    """Tell whether an affine function may change places with a pooling."""
    if pool.pooling.kind == "max":
        return bool((scale >= 0).all()) and pool.pooling.dilation == (1, 1)
    return pool.pooling.padding == (0, 0) or not pool.pooling.counts_padding


_BACKWARDS: tuple[_Rule, ...] = (
    _merge_affines,
    _fold_into_product_before,
    _pad_within_convolution,
    _without_far_taps,
    _slice_of_product,
    _double,
    _activate_before_pool,
    _activate_before_moving,
    _affine_before_moving,
    _affine_before_pool,
)


# --- forwards: into the product that reads the value, through what lies between


def _fold_into_product_behind(name: Value, operator: Operator, view: _View) -> Changes | None:
    if not _is_affine(operator):
        return None
    chain = list(_read_alone(name, view))
    scale, shift = _constants(operator)
    centre = _centre(scale, shift)
    changes: dict[Value, Operator] = {}
    source = operator.input
    if centre is not None:
        ones = np.ones_like(scale)
        if (scale == ones).all() and (shift == centre).all():
            return None
        changes[source := f"{name}<"] = affine(operator.input, ones, centre)
        shift = np.where(centre == 0, shift, 0.0)
    for reader_name in chain:
        reader = renamed(view.program.operators[reader_name], {name: source})
        changes[reader_name] = reader
        if isinstance(reader, Linear | Convolution):
            folded = _taken_in(reader, scale, shift)
            return None if folded is None else changes | {reader_name: folded}
        if isinstance(reader, Pool) and not _commute(scale, reader):
            return None
        if isinstance(reader, Reshape):
            shape = view.shapes[name]
            if len(reader.shape) != 1 and reader.shape[0] != shape[0]:
                return None
            if len(reader.shape) == 1:
                places = math.prod(shape) // shape[0]
                scale, shift = np.repeat(scale, places), np.repeat(shift, places)
        name, source = reader_name, reader_name
    return None


def _centre(scale: Array, shift: Array) -> Array | None:
    """Return what must be added to numbers far from zero before they are scaled; None if nothing.

    Folded into the product behind, the shift would be taken from sums as large as the numbers were,
    of which little is left but rounding errors.
    """
    far = (np.abs(shift) > _FAR) & (np.abs(shift) < _LARGEST_CENTRE * np.abs(scale))
    if not far.any():
        return None
    return np.where(far, shift / np.where(far, scale, 1.0), 0.0)


def _read_alone(name: Value, view: _View) -> Iterator[Value]:
    """Yield the names of what reads a value, one after the other, as far as each has one reader."""
    while view.reads[name] == 1 and name not in view.program.outputs:
        operators = view.program.operators
        name = next(n for n, operator in operators.items() if name in read_by(operator))
        operator = operators[name]
        if not isinstance(operator, Pool | Reshape | Linear | Convolution):
            return
        yield name
        if isinstance(operator, Linear | Convolution):
            return


def _taken_in(
    product: Linear | Convolution, scale: Array, shift: Array
) -> Linear | Convolution | None:
    """Return the product that scales and shifts its input by itself.

    None where zeros around the input would have to be shifted too.
    """
    if isinstance(product, Convolution):
        if product.padding != (0, 0) and shift.any():
            return None
        scale, shift = _by_column(product, scale), _by_column(product, shift)
    matrix = product.weights.values
    bias = _bias(product) + (matrix * shift).sum(axis=1)
    return replace(product, weights=dense(matrix * scale), bias=bias)


def _by_column(convolution: Convolution, channels: Array) -> Array:
    """Return a number for each weight of a convolution from one for each channel of its input."""
    kernel, groups = convolution.kernel, convolution.groups
    rows = convolution.weights.rows // groups
    columns = np.repeat(channels.reshape(groups, -1), kernel[0] * kernel[1], axis=1)
    return np.repeat(columns, rows, axis=0)


_FORWARDS: tuple[_Rule, ...] = (_fold_into_product_behind,)
