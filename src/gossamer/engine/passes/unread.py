"""Programs that compute only those positions of a sequence that somebody reads.

A classifier of tokens often reads one of them alone, behind many layers of which each computes all.
Where every operator between gives each position from the same position of what it reads, the slice
is taken before them: of the last block of a transformer the keys and values alone are needed of all
tokens.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from gossamer.engine.fields import Array, Shape, Value, read_by, renamed
from gossamer.engine.network import Program
from gossamer.engine.operator import Operator
from gossamer.engine.ops.attention import Attention
from gossamer.engine.ops.binary import Binary
from gossamer.engine.ops.channel_norm import ChannelNorm
from gossamer.engine.ops.convolution import Convolution
from gossamer.engine.ops.function import Function
from gossamer.engine.ops.pointwise import Pointwise
from gossamer.engine.ops.slice import Slice
from gossamer.engine.passes.folding import without_dead

_POSITIONS = 2
"""The axis of positions in [features, 1, positions]."""


class _Part(NamedTuple):
    """Some of the positions of a value."""

    start: int
    length: int
    step: int

    def of(self, value: Value) -> Slice:
        """Return the operator that takes them."""
        return Slice(value, _POSITIONS, *self)

    def rows(self, pairs: Array | None) -> Array | None:
        """Return those queries of an array [heads, queries, keys]."""
        end = self.start + (self.length - 1) * self.step + 1
        return None if pairs is None else pairs[:, self.start : end : self.step]


_Parts = Mapping[Value, _Part | None]
"""What is read of each value: some of its positions, or None for all of them."""


def without_unread(program: Program) -> Program:
    """Return a program with the same results that computes no positions that nobody reads.

    Examples
    --------
    >>> norm = ChannelNorm("x")
    >>> first = Slice("norm", 2, 0, 1)
    >>> program = Program({"x": (3, 1, 8)}, {"norm": norm, "first": first}, ("first",))
    >>> {name: one.name for name, one in without_unread(program).operators.items()}
    {'norm.part0': 'slice', 'norm': 'channel_norm'}
    """
    shapes = program.shapes()
    parts = _read(program, shapes)
    if not any(parts.values()):
        return program
    operators: dict[Value, Operator] = {}
    same: dict[Value, Value] = {}  # slices of what is computed in part
    taken: dict[tuple[Value, _Part], Value] = {}  # of what is needed whole elsewhere
    for name, operator in program.operators.items():
        if isinstance(operator, Slice) and parts.get(operator.input):
            same[name] = same.get(operator.input, operator.input)
            continue
        part = parts[name]
        if part is None:
            operators[name] = renamed(operator, same)
            continue
        names = dict(same)
        for value, needed in _reads(operator, part, shapes):
            if needed is None or parts.get(value) == part:
                continue
            if (value, part) not in taken:
                taken[value, part] = f"{name}.part{len(taken)}"
                operators[taken[value, part]] = part.of(same.get(value, value))
            names[value] = taken[value, part]
        operators[name] = _in_part(operator, part, names, same)
    outputs = tuple(same.get(value, value) for value in program.outputs)
    return without_dead(replace(program, operators=operators, outputs=outputs))


def _read(program: Program, shapes: Mapping[Value, Shape]) -> _Parts:
    """Return what is read of the value of each operator."""
    read: dict[Value, set[_Part | None]] = defaultdict(set)
    for value in program.outputs:
        read[value].add(None)
    parts: dict[Value, _Part | None] = {}
    for name, operator in reversed([*program.operators.items()]):
        (part,) = read[name] if len(read[name]) == 1 else (None,)
        parts[name] = part if _by_position(operator, part, shapes) else None
        for value, needed in _reads(operator, parts[name], shapes):
            read[value].add(needed)
    return parts


def _reads(
    operator: Operator, part: _Part | None, shapes: Mapping[Value, Shape]
) -> Iterator[tuple[Value, _Part | None]]:
    """Yield what an operator reads of each value for some positions of its own."""
    if isinstance(operator, Slice):
        sequence = operator.axis == _POSITIONS and len(shapes[operator.input]) == 3
        own = _Part(operator.start, operator.length, operator.step)
        yield operator.input, own if sequence else None
        return
    if isinstance(operator, Attention):
        yield operator.query, part
        others = (operator.key, operator.value, operator.mask)
        yield from ((value, None) for value in others if value is not None)
        return
    yield from ((value, part) for value in read_by(operator))


def _by_position(operator: Operator, part: _Part | None, shapes: Mapping[Value, Shape]) -> bool:
    """Tell whether some positions of an operator come of the same ones of all that it reads."""
    if part is None:
        return False
    if isinstance(operator, Attention):
        # Pairs of other queries than the first would not grow as the sequence does.
        given = operator.kept is not None or operator.bias is not None
        alike = operator.mask is None or shapes[operator.mask][1] == 1
        return not operator.causal and alike and (part.start == 0 or not given)
    if isinstance(operator, Convolution):
        plain = (operator.kernel, operator.stride, operator.padding) == ((1, 1), (1, 1), (0, 0))
        by_channel = operator.bias is None or operator.bias.ndim == 1
        return plain and by_channel and operator.epilogue.pooling is None
    if isinstance(operator, Binary):
        return shapes[operator.left] == shapes[operator.right]
    return isinstance(operator, ChannelNorm | Function | Pointwise)


def _in_part(
    operator: Operator, part: _Part, names: Mapping[Value, Value], same: Mapping[Value, Value]
) -> Operator:
    """Return what computes some positions, of values by their new names."""
    if not isinstance(operator, Attention):
        return renamed(operator, names)
    # Its keys may be all of the value that its queries are a part of.
    return replace(
        renamed(operator, same),
        query=names.get(operator.query, operator.query),
        kept=part.rows(operator.kept),
        bias=part.rows(operator.bias),
    )
