"""What of a network varies with the lengths of its inputs, found from networks of several.

It is not written down for each operator: a model is lowered at several lengths, and `fitted`
compares what came out, field by field. A number must lie on one line through all of one length, or
of an axis of a value that comes before it, or of a product of such axes; an array be the beginning
of the longest; places and matrices come about by a rule; weights and all else be the same.
Otherwise the network is refused, as where a flattened sequence enters a linear layer. What was
fitted to some lengths is compared with the model's answers at others by who compresses it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.check import check_network
from gossamer.engine.epilogue import unpooled
from gossamer.engine.fields import Shape, read_by
from gossamer.engine.network import Network
from gossamer.engine.ops.resample import Resample
from gossamer.engine.ops.take import Take
from gossamer.engine.signature import Lengths, Path, Signature, Varying
from gossamer.engine.spans import rows_of, rule_of
from gossamer.engine.weights import Weights


def fitted(
    found: Mapping[Shape, tuple[Network, Signature]], least: Shape
) -> tuple[Network, Signature]:
    """Return the network of the longest, and a signature that says what varies between them.

    Parameters
    ----------
    found
        Networks, and what they take and give, by several lengths; the largest of each length
        belong to one of them.
    least
        The shortest that are to be taken.

    Raises
    ------
    InputError
        If they differ in anything else, with where.
    """
    lengths = sorted(found)
    ones = [found[one] for one in lengths]
    network, signature = ones[-1]
    values: list[list[Shape]] = []
    for other, _ in ones:
        if len(other.layers) != len(network.layers):
            raise _refused((0, "layers"))
        values.append(list(check_network(other)))
    fitting = _Fitting([other for other, _ in ones], lengths, values)
    varying = tuple(fitting.differing((), ones))
    return network, replace(signature, lengths=Lengths(least, lengths[-1], varying))


@dataclass(frozen=True, eq=False)
class _Fitting:
    """Networks, the longest last, and of each the lengths and the shapes of all values."""

    networks: Sequence[Network]
    lengths: Sequence[Shape]
    values: Sequence[Sequence[Shape]]

    def differing(self, path: Path, ones: list[Any]) -> Iterator[Varying]:
        """Yield what differs between things of one kind, from the shortest to the longest."""
        last = ones[-1]
        if any(type(one) is not type(last) for one in ones):
            raise _refused(path)
        if isinstance(last, Weights):
            if not all(_same_weights(one, last) for one in ones):
                raise _refused(path)
        elif isinstance(last, Take | Resample) and (rule := self._ruled(path, ones)):
            yield from rule
        elif is_dataclass(last):
            for field in fields(last):
                parts = [getattr(one, field.name) for one in ones]
                yield from self.differing((*path, field.name), parts)
        elif isinstance(last, tuple):
            if any(len(one) != len(last) for one in ones):
                raise _refused(path)
            for place, held in enumerate(zip(*ones, strict=True)):
                yield from self.differing((*path, place), list(held))
        elif isinstance(last, np.ndarray):
            yield from self._differing_arrays(path, ones)
        elif type(last) is int:
            if any(one != last for one in ones):
                yield self._line(path, None, ones)
        elif any(one != last for one in ones):
            raise _refused(path)

    def _ruled(self, path: Path, ones: list[Any]) -> list[Varying]:
        """Return by which rule places or a matrix come about; nothing if they are the same."""
        last = ones[-1]
        sizes = [shapes[last.input][last.axis] for shapes in self.values]
        rows = [rows_of(one) for one in ones]
        if len({*sizes}) == len({*rows}) == 1 or any(one.axis != last.axis for one in ones):
            return []
        rule = rule_of(ones, sizes)
        if not rule:
            raise _refused(path)
        name = "matrix" if isinstance(last, Resample) else "indices"
        where = (*path, name)
        if len({*rows}) == 1:
            of = ((int(last.input), last.axis),)
            return [Varying(where, None, 0, rows[0], of=of, rule=rule)]
        return [replace(self._line(where, None, rows, by_length=False), rule=rule)]

    def _differing_arrays(self, path: Path, ones: list[Any]) -> Iterator[Varying]:
        last = ones[-1]
        for one in ones:
            beginning = last[tuple(slice(length) for length in one.shape)]
            if one.ndim != last.ndim or not np.array_equal(one, beginning):
                raise _refused(path)
        for axis in range(last.ndim):
            sizes = [one.shape[axis] for one in ones]
            if any(size != sizes[-1] for size in sizes):
                yield self._line(path, axis, sizes)

    def _line(
        self, path: Path, axis: int | None, numbers: list[int], *, by_length: bool = True
    ) -> Varying:
        """Return of what numbers are a line: of a length, or of axes of values."""
        for place in range(len(self.lengths[0])) if by_length else ():
            line = _through([one[place] for one in self.lengths], numbers)
            if line is not None:
                return Varying(path, axis, *line, length=place)
        if path[:2] in ((0, "inputs"), (1, "inputs")):
            raise _refused(path)
        known = self._known(path)
        for plain in (True, False):
            for of in _axes_before(path, self.networks[-1], known):
                sizes = [_product(shapes, of) for shapes in known]
                line = _through(sizes, numbers)
                if line is not None and (line == (1, 0) or not plain):
                    return Varying(path, axis, *line, of=of)
        raise _refused(path)

    def _known(self, path: Path) -> list[list[Shape]]:
        """Return of each network the shapes of the values from which a number may come."""
        if path[:2] != (0, "layers"):
            return [list(shapes) for shapes in self.values]
        number = int(path[2])
        before = len(self.networks[-1].inputs) + number
        found = [list(shapes[:before]) for shapes in self.values]
        if "pooling" in path:
            for network, shapes in zip(self.networks, found, strict=True):
                operator = unpooled(network.layers[number])
                shapes.append(operator.infer_shape(dict(enumerate(shapes))))
        return found


def _axes_before(
    path: Path, network: Network, known: Sequence[Sequence[Shape]]
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Yield axes of values that vary, and products of those that are read, which come first."""
    read = list(network.outputs)
    if path[:2] == (0, "layers"):
        read = [int(value) for value in read_by(network.layers[int(path[2])])]
    elif path[:2] == (1, "outputs"):
        read = [network.outputs[int(path[2])]]
    if "pooling" in path:
        read.insert(0, len(known[0]) - 1)
    others = [value for value in reversed(range(len(known[0]))) if value not in read]
    for value in (*read, *others):
        axes = [(value, axis) for axis in range(len(known[0][value]))]
        varying = [one for one in axes if len({s[value][one[1]] for s in known}) > 1]
        yield from ((one,) for one in varying)
        if value in read:
            yield from combinations(varying, 2)


def _product(shapes: Sequence[Shape], of: tuple[tuple[int, int], ...]) -> int:
    product = 1
    for value, axis in of:
        product *= shapes[value][axis]
    return product


def _through(sizes: Sequence[int], numbers: Sequence[int]) -> tuple[int, int] | None:
    """Return slope and offset of the line of whole numbers through all, if there is one."""
    other = next((place for place, size in enumerate(sizes) if size != sizes[-1]), None)
    if other is None:
        return None
    slope, rest = divmod(numbers[-1] - numbers[other], sizes[-1] - sizes[other])
    offset = numbers[-1] - slope * sizes[-1]
    fits = all(slope * size + offset == one for size, one in zip(sizes, numbers, strict=True))
    return None if rest or not fits else (slope, offset)


def _same_weights(one: Weights, other: Weights) -> bool:
    return (one.rows, one.columns, one.layout) == (other.rows, other.columns, other.layout) and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("values", "starts", "indices")
    )


def _refused(path: Path) -> InputError:
    where = ".".join(map(str, path[1:]))
    return InputError(
        f"what the network computes depends on the length in a way that is no line ({where}), as "
        "where a flattened sequence or image enters a linear layer; compress it for one length, or "
        "for multiples of one, such as 16 * torch.export.Dim(...)"
    )
