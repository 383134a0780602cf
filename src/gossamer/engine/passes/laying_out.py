"""Programs in which features come first, so that reshapes and permutations fall away.

Tokens of features are [tokens, features] in PyTorch. A product over the features of each token is a
convolution of one position once the features are channels, and so are all operators of sequences.
Lowering writes each of them with a permutation before and behind. Here a permutation is put off as
long as what follows can be computed on the value before it just as well; where one undoes another,
nothing is left of both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gossamer.engine.fields import MOST_AXES, Array, Shape, Value, read_by, renamed
from gossamer.engine.network import Program
from gossamer.engine.operator import Operator
from gossamer.engine.ops.binary import Binary
from gossamer.engine.ops.channel_norm import ChannelNorm
from gossamer.engine.ops.concatenate import Concatenate
from gossamer.engine.ops.constant import Constant
from gossamer.engine.ops.layer_norm import LayerNorm
from gossamer.engine.ops.matmul import Matmul
from gossamer.engine.ops.permute import Permute
from gossamer.engine.ops.pointwise import Pointwise, affine, placewise
from gossamer.engine.ops.reshape import Reshape
from gossamer.engine.ops.slice import Slice
from gossamer.engine.passes.rearrangement import Rearrangement, unchanged


def lay_out(program: Program) -> Program:
    """Return a program that computes the same with as few permutations as are found.

    Examples
    --------
    >>> turned = {"a": Permute("x", (1, 0)), "b": Permute("a", (1, 0))}
    >>> laid = lay_out(Program({"x": (3, 4)}, turned, ("b",)))
    >>> dict(laid.operators), laid.outputs
    ({}, ('x',))
    """
    if not any(isinstance(operator, Permute) for operator in program.operators.values()):
        return program
    layout = _Layout(program)
    for name, operator in program.operators.items():
        layout.add(name, operator)
    outputs = tuple(layout.plain(value, value) for value in program.outputs)
    return replace(program, operators=layout.operators, outputs=outputs)


@dataclass(frozen=True)
class _Held:
    """A value of the old program as a rearrangement of one of the new."""

    base: Value
    moved: Rearrangement


class _Layout:
    """The new program as far as it is known."""

    def __init__(self, program: Program) -> None:
        self.operators: dict[Value, Operator] = {}
        self._shapes: dict[Value, Shape] = {}
        self._held: dict[Value, _Held] = {}
        self._there: dict[Operator, Value] = {}
        for value, shape in program.inputs.items():
            self._shapes[value] = shape
            self._held[value] = _Held(value, unchanged(shape))

    def add(self, name: Value, operator: Operator) -> None:
        """Add an operator of the old program that gives a value."""
        kinds: dict[type[Operator], Callable[[Value, Operator], _Held | None]] = {
            Reshape: self._reshape,
            Permute: self._permute,
            Pointwise: self._pointwise,
            Binary: self._binary,
            Matmul: self._matmul,
            LayerNorm: self._layer_norm,
            Slice: self._slice,
            Concatenate: self._concatenate,
            Constant: self._constant,
        }
        found = kinds[type(operator)](name, operator) if type(operator) in kinds else None
        self._held[name] = self._as_it_is(name, operator) if found is None else found

    def plain(self, value: Value, reader: Value) -> Value:
        """Return the name of a value of the old program, with its numbers where they were there."""
        held = self._held[value]
        return self._materialized(held.base, held.moved, reader)

    def _as_it_is(self, name: Value, operator: Operator) -> _Held:
        names = {value: self.plain(value, name) for value in read_by(operator)}
        return self._emit(name, renamed(operator, names))

    def _emit(self, name: Value, operator: Operator) -> _Held:
        self.operators[name] = operator
        self._shapes[name] = operator.infer_shape(self._shapes)
        return _Held(name, unchanged(self._shapes[name]))

    def _moves(self, held: _Held) -> bool:
        return not held.moved.plain

    def _materialized(self, base: Value, moved: Rearrangement, reader: Value) -> Value:
        """Return the name of a rearranged value, of which each permutation is computed once."""
        if not moved.plain:
            atoms, order = moved.atoms, moved.order
            if len(atoms) == 2:  # as images of height 1
                atoms, order = (atoms[0], 1, atoms[1]), (2, 1, 0)
            base = self._step(reader, Reshape(base, atoms))
            base = self._step(reader, Permute(base, order))
        return self._step(reader, Reshape(base, moved.shape))

    def _step(self, reader: Value, operator: Reshape | Permute) -> Value:
        """Return the name of the value of an operator, which is added unless it is there."""
        if isinstance(operator, Reshape) and operator.shape == self._shapes[operator.input]:
            return operator.input
        if operator not in self._there:
            name = f"{reader}.moved{len(self.operators)}"
            self._emit(name, operator)
            self._there[operator] = name
        return self._there[operator]

    def _reshape(self, _: Value, operator: Operator) -> _Held | None:
        assert isinstance(operator, Reshape)
        held = self._held[operator.input]
        moved = held.moved.reshaped(operator.shape)
        return None if moved is None else _Held(held.base, moved)

    def _permute(self, _: Value, operator: Operator) -> _Held | None:
        assert isinstance(operator, Permute)
        held = self._held[operator.input]
        moved = held.moved.permuted(operator.order)
        return None if moved is None else _Held(held.base, moved)

    def _pointwise(self, name: Value, operator: Operator) -> _Held | None:
        assert isinstance(operator, Pointwise)
        epilogue = operator.epilogue
        held = self._held[operator.input]
        if epilogue.residual is not None:
            return self._sum(name, operator, held, self._held[epilogue.residual])
        if not self._moves(held):
            return None
        return self._on_base(name, replace(operator, input=held.base), held.moved)

    def _sum(self, name: Value, operator: Pointwise, left: _Held, right: _Held) -> _Held | None:
        """Return a sum in the layout of one of its two values."""
        pair = self._in_one_layout(name, left, right)
        if pair is None:
            return None
        (first, second), moved = pair
        epilogue = replace(operator.epilogue, residual=second)
        return self._on_base(name, Pointwise(first, epilogue), moved)

    def _binary(self, name: Value, operator: Operator) -> _Held | None:
        """Return a function of two values of one shape in the layout of one of them."""
        assert isinstance(operator, Binary)
        left, right = self._held[operator.left], self._held[operator.right]
        pair = self._in_one_layout(name, left, right)
        if pair is None:
            return None
        (first, second), moved = pair
        return _Held(self._emit(name, Binary(first, second, operator.function)).base, moved)

    def _in_one_layout(
        self, name: Value, left: _Held, right: _Held
    ) -> tuple[tuple[Value, Value], Rearrangement] | None:
        """Return two values as they lie where one of them is not yet moved; None if both lie so."""
        moved = left.moved if self._moves(left) else right.moved
        if moved.plain:
            return None
        base = left.base if self._moves(left) else right.base
        shape = self._shapes[base]
        names = []
        for held in (left, right):
            if (laid := self._constant_within(held, moved, base, name)) is not None:
                names.append(laid)
                continue
            if held.moved.shape != moved.shape:  # one of the two is repeated along an axis
                return None
            found = held.moved.then(moved.inverse(shape))
            if found is None:
                return None
            names.append(self._materialized(held.base, found, name))
        return (names[0], names[1]), moved

    def _constant_within(
        self, held: _Held, moved: Rearrangement, base: Value, name: Value
    ) -> Value | None:
        """Return a constant, repeated along axes of length 1, as it is there before it is moved."""
        constant = self.operators.get(held.base)
        if self._moves(held) or not isinstance(constant, Constant):
            return None
        numbers, shape = constant.numbers.reshape(held.moved.shape), self._shapes[base]
        if numbers.ndim != len(moved.shape):
            return None
        laid = moved.inverse(shape).run(np.broadcast_to(numbers, moved.shape)).reshape(shape)
        found = f"{name}.constant{len(self.operators)}"
        return self._emit(found, Constant(base, np.ascontiguousarray(laid), shape)).base

    def _matmul(self, name: Value, operator: Operator) -> _Held:
        """Return a product that reads transposed matrices where they are."""
        assert isinstance(operator, Matmul)
        last = len(self._held[operator.left].moved.shape) - 1
        order = (*range(last - 1), last, last - 1)
        names, turned = [], [operator.left_transposed, operator.right_transposed]
        for number, value in enumerate((operator.left, operator.right)):
            held = self._held[value]
            back = held.moved.permuted(order) if self._moves(held) else None
            if back is not None and back.plain:
                names.append(self._step(name, Reshape(held.base, back.shape)))
                turned[number] = not turned[number]
            else:
                names.append(self.plain(value, name))
        return self._emit(name, Matmul(names[0], names[1], *turned))

    def _on_base(self, name: Value, operator: Pointwise, moved: Rearrangement) -> _Held | None:
        """Return a function of each number, computed on the base instead."""
        epilogue, shape = operator.epilogue, self._shapes[operator.input]
        if epilogue.scale is None and epilogue.shift is None:
            return _Held(self._emit(name, operator).base, moved)
        if epilogue.stages != (3,):
            return None  # lowering writes one after the other
        scale, shift = (self._moved_back(one, moved, shape) for one in _constants(operator))
        if _by_channel(scale) and _by_channel(shift):
            found = affine(operator.input, _first(scale), _first(shift))
            return _Held(self._emit(name, found).base, moved)
        steps = placewise(operator.input, shape, scale, shift, lambda at: f"{name}.placed{at}")
        for at, step in enumerate(steps[:-1]):
            self._emit(f"{name}.placed{at}", step)
        return _Held(self._emit(name, steps[-1]).base, moved)

    def _moved_back(self, constant: Array, moved: Rearrangement, shape: Shape) -> Array:
        """Return a number for each place of the base from one for each channel behind."""
        channels = constant.reshape(-1, *(1,) * (len(moved.shape) - 1))
        return moved.inverse(shape).run(np.broadcast_to(channels, moved.shape))

    def _layer_norm(self, name: Value, operator: Operator) -> _Held | None:
        assert isinstance(operator, LayerNorm)
        held = self._held[operator.input]
        rank = len(held.moved.shape)
        if operator.axes != 1 or rank == 1:
            return None
        order = (2, 1, 0) if held.moved.shape[1:-1] == (1,) else (rank - 1, *range(rank - 1))
        channels_first = held.moved.permuted(order)
        if channels_first is None:
            return None
        base, moved = held.base, held.moved
        if not channels_first.plain or self._shapes[base][0] != moved.shape[-1]:
            base = self._materialized(base, channels_first, name)
            back = unchanged(channels_first.shape).permuted(np.argsort(order).tolist())
            assert back is not None  # whole axes change places
            moved = back
        normal = ChannelNorm(base, operator.epsilon, True, operator.scale, operator.shift)
        return _Held(self._emit(name, normal).base, moved)

    def _slice(self, name: Value, operator: Operator) -> _Held | None:
        assert isinstance(operator, Slice)
        if not self._moves(self._held[operator.input]):
            return None
        held = self._cut(self._held[operator.input], operator.axis, name)
        found = _base_axis(held.moved, self._shapes[held.base], operator.axis)
        if found is None or (operator.step > 1 and found.inner > 1):
            return None
        start, length = operator.start * found.inner, operator.length * found.inner
        emitted = self._emit(name, Slice(held.base, found.axis, start, length, operator.step))
        return _Held(emitted.base, found.resized(operator.length))

    def _concatenate(self, name: Value, operator: Operator) -> _Held | None:
        assert isinstance(operator, Concatenate)
        held = [self._cut(self._held[value], operator.axis, name) for value in operator.inputs]
        if not any(map(self._moves, held)):
            return None
        if all(self._moves(h) and h.moved.shape[operator.axis] == 1 for h in held):
            return self._stacked(name, operator.axis, held)
        pattern = next(filter(self._moves, held))
        like = _base_axis(pattern.moved, self._shapes[pattern.base], operator.axis)
        held = [self._constant_like(h, like, name) for h in held]
        places = [_base_axis(h.moved, self._shapes[h.base], operator.axis) for h in held]
        first = places[0]
        if first is None or any(p is None or p.kind != first.kind for p in places):
            return None
        length = sum(h.moved.shape[operator.axis] for h in held)
        joined = Concatenate(tuple(h.base for h in held), first.axis)
        return _Held(self._emit(name, joined).base, first.resized(length))

    def _stacked(self, name: Value, axis: int, held: list[_Held]) -> _Held | None:
        """Join along an axis of length 1, which lies in the bases behind the one before it."""
        moved = held[0].moved
        cut = moved.cut_at(moved.shape)
        if axis == 0 or cut is None or any(h.moved != moved for h in held):
            return None
        before = [place for group in cut.groups(moved.shape)[:axis] for place in group]
        if not before or len(cut.atoms) >= MOST_AXES:
            return None
        place = before[-1] + 1
        order = [at + (at >= place) for at in cut.order]
        order.insert(len(before), place)
        atoms = [*cut.atoms[:place], 1, *cut.atoms[place:]]
        if len(atoms) < 3:  # two would be an image of height 1
            return None
        names = tuple(self._step(name, Reshape(h.base, tuple(atoms))) for h in held)
        joined = self._emit(name, Concatenate(names, place)).base
        atoms[place] = len(held)
        shape = (*moved.shape[:axis], len(held), *moved.shape[axis + 1 :])
        return _Held(joined, Rearrangement(tuple(atoms), tuple(order), shape).merged())

    def _cut(self, held: _Held, axis: int, name: Value) -> _Held:
        """Return a rearranged value whose base has an axis where it has one."""
        cut = held.moved.cut_at(held.moved.shape)
        if not self._moves(held) or cut is None or len(cut.atoms) > MOST_AXES:
            return held
        if _base_axis(held.moved, self._shapes[held.base], axis) is not None:
            return held
        atoms = cut.atoms if len(cut.atoms) != 2 else (cut.atoms[0], 1, cut.atoms[1])
        return replace(held, base=self._step(name, Reshape(held.base, atoms)))

    def _constant_like(self, held: _Held, like: "_BaseAxis | None", name: Value) -> _Held:
        """Return a constant that lies as another value does with which it is joined."""
        operator = self.operators.get(held.base)
        if like is None or self._moves(held) or not isinstance(operator, Constant):
            return held
        length = held.moved.shape[like.shape_axis]
        moved = like.resized(length)
        shape = tuple(size or length * like.inner for size in like.outer_shape)
        numbers = moved.inverse(shape).run(operator.numbers.reshape(moved.shape))
        laid = f"{name}.constant{len(self.operators)}"
        self._emit(laid, Constant(operator.input, numbers.reshape(shape), shape))
        return _Held(laid, moved)

    def _constant(self, name: Value, operator: Operator) -> _Held:
        assert isinstance(operator, Constant)  # of whose input nothing is read
        return self._emit(name, replace(operator, input=self._held[operator.input].base))


def _constants(operator: Pointwise) -> tuple[Array, Array]:
    scale, shift = operator.epilogue.scale, operator.epilogue.shift
    assert scale is not None
    assert shift is not None
    return scale, shift


def _by_channel(numbers: Array) -> bool:
    flat = numbers.reshape(len(numbers), -1)
    return bool((flat == flat[:, :1]).all())


def _first(numbers: Array) -> Array:
    return np.ascontiguousarray(numbers.reshape(len(numbers), -1)[:, 0])


@dataclass(frozen=True)
class _BaseAxis:
    """Where an axis of a rearranged value lies in its base: `inner` places for each of its own."""

    cut: Rearrangement
    atom: int
    axis: int
    inner: int
    shape_axis: int
    outer_shape: Shape

    @property
    def kind(self) -> tuple[object, ...]:
        """What is the same in values that can be joined along the axis."""
        atoms, shape = [*self.cut.atoms], [*self.cut.shape]
        atoms[self.atom] = shape[self.shape_axis] = 0
        return (atoms, self.cut.order, shape, self.axis, self.inner, self.outer_shape)

    def resized(self, length: int) -> Rearrangement:
        """Return the rearrangement with another length of the axis."""
        atoms, shape = [*self.cut.atoms], [*self.cut.shape]
        atoms[self.atom] = shape[self.shape_axis] = length
        cut = Rearrangement(tuple(atoms), self.cut.order, tuple(shape))
        return cut.merged()


def _base_axis(moved: Rearrangement, base: Shape, axis: int) -> _BaseAxis | None:
    """Find an axis of a rearranged value at the beginning of an axis of its base."""
    cut = moved.cut_at(moved.shape)
    if cut is None or len(cut.groups(moved.shape)[axis]) != 1:
        return None
    (atom,) = cut.groups(moved.shape)[axis]
    before = math.prod(cut.atoms[:atom])
    for place in range(len(base)):
        through = math.prod(base[: place + 1])
        if math.prod(base[:place]) == before and through % (before * cut.atoms[atom]) == 0:
            inner = through // (before * cut.atoms[atom])
            return _BaseAxis(cut, atom, place, inner, axis, (*base[:place], 0, *base[place + 1 :]))
    return None
