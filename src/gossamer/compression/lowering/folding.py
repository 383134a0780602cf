"""A program with fewer operations that computes the same: constants are folded in float64.

Each rule looks at one operation and returns what stands for it instead, or nothing. What a rule
changes must be read by this one operation alone. Rules are tried until none applies any more; what
nobody reads is dropped in the end.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gossamer.compression.lowering.operations import (
    Activate,
    Affine,
    Concatenate,
    Doubles,
    Operation,
    Pad,
    Pool,
    Product,
    Program,
    Reshape,
    Sum,
    Window,
    inputs_of,
    numbers,
    read_counts,
    value_shapes,
)
from gossamer.kernels.network import Shape

Changes = Mapping[str, Operation]
"""Operations that stand for those of the same name, or are new."""

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
    reads: Counter[str]
    shapes: Mapping[str, Shape]

    def before(self, name: str) -> Operation | None:
        """Return the operation that gives a value."""
        return self.program.operations.get(name)

    def alone(self, name: str) -> Operation | None:
        """Return the operation that gives a value, if the value is read once."""
        return self.before(name) if self.reads[name] == 1 else None


_Rule = Callable[[str, Operation, _View], Changes | None]


def fold(program: Program) -> Program:
    """Return a program with the same result and as few operations as the rules reach.

    Examples
    --------
    >>> product = Product("x", np.array([[1.0, 2.0]]), np.zeros(1))
    >>> scaled = Affine("product", np.array([3.0]), np.array([4.0]))
    >>> folded = fold(Program("x", (2,), {"product": product, "scaled": scaled}, "scaled"))
    >>> list(folded.operations), folded.operations["scaled"].matrix.tolist()
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
    """Return the program without what does not reach its output."""
    needed = {program.output}
    for name, operation in reversed(list(program.operations.items())):
        if name in needed:
            needed.update(inputs_of(operation))
    kept = {name: op for name, op in program.operations.items() if name in needed}
    return replace(program, operations=kept)


def _settled(program: Program, rules: tuple[_Rule, ...]) -> Program:
    while (found := _settled_once(program, rules)) is not None:
        program = found
    return program


def _settled_once(program: Program, rules: tuple[_Rule, ...]) -> Program | None:
    """Apply the first rule that applies; None if none does."""
    program = without_dead(program)
    view = _View(program, read_counts(program), value_shapes(program))
    for name, operation in program.operations.items():
        for rule in rules:
            changes = rule(name, operation, view)
            if changes is not None:
                return _changed(program, name, changes)
    return None


def _changed(program: Program, name: str, changes: Changes) -> Program:
    """Return the program with changed operations; new ones stand before the one called `name`."""
    operations: dict[str, Operation] = {}
    for other, operation in program.operations.items():
        if other == name:
            operations |= {n: op for n, op in changes.items() if n not in program.operations}
        operations[other] = changes.get(other, operation)
    return replace(program, operations=operations)


def _without_repeated_shapes(program: Program) -> Program:
    """Return the program without reshapes that change nothing, or that another one undoes."""
    shapes = value_shapes(program)
    same: dict[str, str] = {}
    operations: dict[str, Operation] = {}
    for name, operation in program.operations.items():
        operation = renamed(operation, same)
        if isinstance(operation, Reshape):
            before = operations.get(operation.input)
            if isinstance(before, Reshape):
                operation = replace(operation, input=before.input)
            if operation.shape == shapes[operation.input]:
                same[name] = operation.input
                continue
        operations[name] = operation
    output = same.get(program.output, program.output)
    return without_dead(replace(program, operations=operations, output=output))


def renamed(operation: Operation, names: Mapping[str, str]) -> Operation:
    """Return an operation that reads other values instead."""
    read = tuple(names.get(name, name) for name in inputs_of(operation))
    if read == inputs_of(operation):
        return operation
    match operation:
        case Concatenate():
            return replace(operation, inputs=read)
        case Sum():
            return replace(operation, inputs=(read[0], read[1]))
        case _:
            return replace(operation, input=read[0])


# --- backwards: into what gives the value


def _merge_affines(name: str, operation: Operation, view: _View) -> Changes | None:
    if not isinstance(operation, Affine):
        return None
    before = view.alone(operation.input)
    if not isinstance(before, Affine):
        return None
    shift = operation.scale * before.shift + operation.shift
    return {name: Affine(before.input, operation.scale * before.scale, shift)}


def _fold_into_product_before(name: str, operation: Operation, view: _View) -> Changes | None:
    if not isinstance(operation, Affine):
        return None
    before = view.alone(operation.input)
    if not isinstance(before, Product):
        return None
    matrix = before.matrix * operation.scale[:, None]
    bias = before.bias * operation.scale + operation.shift
    return {name: replace(before, matrix=matrix, bias=bias)}


def _pad_within_convolution(name: str, operation: Operation, view: _View) -> Changes | None:
    if not isinstance(operation, Product) or operation.window is None:
        return None
    before = view.before(operation.input)
    if not isinstance(before, Pad):
        return None
    padded = _padded(operation, before)
    return None if padded is None else {name: padded}


def _padded(product: Product, pad: Pad) -> Product | None:
    """Return the convolution that pads by itself; uneven margins are zeros in its kernel."""
    window = product.window
    assert window is not None
    before = [pad.before[axis] + window.padding[axis] for axis in (0, 1)]
    after = [pad.after[axis] + window.padding[axis] for axis in (0, 1)]
    padding = [max(pair) for pair in zip(before, after, strict=True)]
    dilation = [1 if window.kernel[axis] == 1 else window.dilation[axis] for axis in (0, 1)]
    missing = [(padding[axis] - before[axis], padding[axis] - after[axis]) for axis in (0, 1)]
    if any(gap % dilation[axis] for axis in (0, 1) for gap in missing[axis]):
        return None
    zeros = [(0, 0), (0, 0)] + [
        (missing[axis][0] // dilation[axis], missing[axis][1] // dilation[axis]) for axis in (0, 1)
    ]
    rows = len(product.matrix)
    weight = np.pad(product.matrix.reshape(rows, -1, *window.kernel), zeros)
    return Product(
        pad.input,
        weight.reshape(rows, -1),
        product.bias,
        Window(
            (weight.shape[2], weight.shape[3]),
            window.stride,
            (padding[0], padding[1]),
            (dilation[0], dilation[1]),
            window.groups,
        ),
    )


def _double(name: str, operation: Operation, view: _View) -> Changes | None:
    """Write a value that is added to itself as twice the value, for what gives it to take in."""
    if not isinstance(operation, Sum) or operation.inputs[0] != operation.inputs[1]:
        return None
    value = operation.inputs[0]
    if not isinstance(view.before(value), Product | Affine) or view.reads[value] != 2:
        return None  # a sum can take in an activation, which twice a value cannot
    channels = view.shapes[name][0]
    return {name: Affine(value, np.full(channels, 2.0), np.zeros(channels))}


def _activate_before_pool(name: str, operation: Operation, view: _View) -> Changes | None:
    """Take the largest of a rising function instead of the function of the largest."""
    if not isinstance(operation, Activate) or operation.activation.name not in _RISING:
        return None
    pool = view.alone(operation.input)
    if operation.activation.alpha < 0 or not isinstance(pool, Pool):
        return None
    fusable = isinstance(view.alone(pool.input), Product | Sum)
    if not fusable or pool.pooling.kind != "max" or pool.pooling.dilation != (1, 1):
        return None
    inner = f"{name}<"
    return {inner: Activate(pool.input, operation.activation), name: replace(pool, input=inner)}


def _activate_before_reshape(name: str, operation: Operation, view: _View) -> Changes | None:
    if not isinstance(operation, Activate):
        return None
    reshape = view.alone(operation.input)
    if not isinstance(reshape, Reshape) or reshape.input == view.program.input:
        return None
    inner = f"{name}<"
    return {
        inner: Activate(reshape.input, operation.activation),
        name: replace(reshape, input=inner),
    }


def _affine_before_pool(name: str, operation: Operation, view: _View) -> Changes | None:
    """Scale before pooling where a product behind it takes the numbers in."""
    if not isinstance(operation, Affine):
        return None
    pool = view.alone(operation.input)
    if not isinstance(pool, Pool) or not _commute(operation.scale, pool):
        return None
    if not isinstance(view.alone(pool.input), Product):
        return None
    inner = f"{name}<"
    return {inner: replace(operation, input=pool.input), name: replace(pool, input=inner)}


def _commute(scale: Doubles, pool: Pool) -> bool:
    """Tell whether an affine function may change places with a pooling."""
    if pool.pooling.kind == "max":
        return bool((scale >= 0).all()) and pool.pooling.dilation == (1, 1)
    return pool.pooling.padding == (0, 0) or not pool.pooling.counts_padding


_BACKWARDS: tuple[_Rule, ...] = (
    _merge_affines,
    _fold_into_product_before,
    _pad_within_convolution,
    _double,
    _activate_before_pool,
    _activate_before_reshape,
    _affine_before_pool,
)


# --- forwards: into the product that reads the value, through what lies between


def _fold_into_product_behind(name: str, operation: Operation, view: _View) -> Changes | None:
    if not isinstance(operation, Affine):
        return None
    chain = list(_read_alone(name, view))
    centre = _centre(operation)
    scale, shift = operation.scale, operation.shift
    changes: dict[str, Operation] = {}
    source = operation.input
    if centre is not None:
        ones = np.ones_like(scale)
        if (scale == ones).all() and (shift == centre).all():
            return None
        changes[source := f"{name}<"] = Affine(operation.input, ones, centre)
        shift = np.where(centre == 0, shift, 0.0)
    for reader_name in chain:
        reader = renamed(view.program.operations[reader_name], {name: source})
        changes[reader_name] = reader
        if isinstance(reader, Product):
            folded = _taken_in(reader, scale, shift)
            return None if folded is None else changes | {reader_name: folded}
        if isinstance(reader, Pool) and not _commute(scale, reader):
            return None
        if isinstance(reader, Reshape):
            shape = view.shapes[name]
            if len(reader.shape) != 1 and reader.shape[0] != shape[0]:
                return None
            if len(reader.shape) == 1:
                places = numbers(shape) // shape[0]
                scale, shift = np.repeat(scale, places), np.repeat(shift, places)
        name, source = reader_name, reader_name
    return None


def _centre(affine: Affine) -> Doubles | None:
    """Return what must be added to numbers far from zero before they are scaled; None if nothing.

    Folded into the product behind, the shift would be taken from sums as large as the numbers were,
    of which little is left but rounding errors.
    """
    scale, shift = affine.scale, affine.shift
    far = (np.abs(shift) > _FAR) & (np.abs(shift) < _LARGEST_CENTRE * np.abs(scale))
    if not far.any():
        return None
    return np.where(far, shift / np.where(far, scale, 1.0), 0.0)


def _read_alone(name: str, view: _View) -> Iterator[str]:
    """Yield the names of what reads a value, one after the other, as far as each has one reader."""
    while view.reads[name] == 1 and name != view.program.output:
        name = next(n for n, op in view.program.operations.items() if name in inputs_of(op))
        operation = view.program.operations[name]
        if not isinstance(operation, Pool | Reshape | Product):
            return
        yield name
        if isinstance(operation, Product):
            return


def _taken_in(product: Product, scale: Doubles, shift: Doubles) -> Product | None:
    """Return the product that scales and shifts its input by itself.

    None where zeros around the input would have to be shifted too.
    """
    window = product.window
    if window is None:
        columns = scale, shift
    elif window.padding == (0, 0) or not shift.any():
        columns = _by_column(product, scale), _by_column(product, shift)
    else:
        return None
    bias = product.bias + (product.matrix * columns[1]).sum(axis=1)
    return replace(product, matrix=product.matrix * columns[0], bias=bias)


def _by_column(product: Product, channels: Doubles) -> Doubles:
    """Return a number for each weight of a convolution from one for each channel of its input."""
    assert product.window is not None
    kernel, groups = product.window.kernel, product.window.groups
    rows = len(product.matrix) // groups
    columns = np.repeat(channels.reshape(groups, -1), kernel[0] * kernel[1], axis=1)
    return np.repeat(columns, rows, axis=0)


_FORWARDS: tuple[_Rule, ...] = (_fold_into_product_behind,)
