"""Networks for inputs of several lengths: one description, and a plan for each length on demand.

Shapes in the engine are static: kernels are laid out for one length, and are fast for it. A network
that takes sentences of 1 to 512 tokens is therefore kept as the network of the longest, and beside
it what is another at another length: whole numbers in its fields and shapes, each `slope * length +
offset`, and arrays, of which the first `slope * length + offset` numbers along an axis are taken,
as of position embeddings and causal masks.

Which these are is not written down for each operator but found: a model is lowered at several
lengths, and `fitted` compares what came out, field by field. A number must lie on one line through
all lengths, an array be the beginning of the longest, weights and all else be the same; otherwise
the network is refused, as where a flattened sequence enters a linear layer. What was fitted to some
lengths is compared with the model's answers at others by who compresses it.

`at` makes the network of one length. It is compiled when that length is first met, and a few of
these plans are kept (`MOST_KEPT`), each with weights of its own.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from gossamer.core.errors import InputError
from gossamer.engine.native import Engine
from gossamer.engine.network import Network
from gossamer.engine.signature import Lengths, Path, Signature, Varying
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
        self._kept: OrderedDict[int, Plan] = OrderedDict()
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
        length = length_of(lengths, shapes)
        if length == lengths.most:
            return self._longest
        with self._lock:
            if length not in self._kept:
                network, signature = at_length(self.network, self.signature, length)
                self._kept[length] = Plan(network, signature, Engine(network))
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(length)
            return self._kept[length]


def length_of(lengths: Lengths, shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the length of inputs, of which are given the shapes with the batch.

    Raises
    ------
    InputError
        If it is not one that the network takes.
    """
    for one in lengths.varying:
        if one.path[:2] != (1, "inputs") or one.slope == 0:
            continue
        number, axis = int(one.path[2]), int(one.path[4]) + 1
        shape = shapes[number]
        known = axis < len(shape)
        length, rest = divmod(shape[axis] - one.offset, one.slope) if known else (0, 1)
        if rest or not lengths.least <= length <= lengths.most:
            raise InputError(
                f"inputs: shape {list(shape)}, expected {one.at(lengths.least)} to "
                f"{one.at(lengths.most)} along axis {axis}."
            )
        return length
    raise InputError("lengths: no input varies, expected one at least.")


def at_length(network: Network, signature: Signature, length: int) -> tuple[Network, Signature]:
    """Return the network and the signature of a length, from those of the longest.

    Raises
    ------
    InputError
        If what is said to vary is no number or array of them.
    """
    lengths = signature.lengths
    whole: Any = (network, replace(signature, lengths=None))
    for one in () if lengths is None else lengths.varying:
        try:
            whole = _changed(whole, one.path, one, length)
        except (TypeError, LookupError, AttributeError, ValueError) as error:
            where = ".".join(map(str, one.path))
            raise InputError(f"lengths: {where:.120} is nothing that varies.") from error
    return whole  # type: ignore[no-any-return]


def fitted(found: Mapping[int, tuple[Network, Signature]], least: int) -> tuple[Network, Signature]:
    """Return the network of the longest, and a signature that says what varies between them.

    Parameters
    ----------
    found
        Networks, and what they take and give, by several lengths.
    least
        The shortest that is to be taken.

    Raises
    ------
    InputError
        If they differ in anything else, with where.
    """
    lengths = sorted(found)
    network, signature = found[lengths[-1]]
    varying = tuple(_differing((), [found[length] for length in lengths], lengths))
    return network, replace(signature, lengths=Lengths(least, lengths[-1], varying))


def _differing(path: Path, ones: list[Any], lengths: list[int]) -> Iterator[Varying]:
    """Yield what differs between things of one kind, from the shortest to the longest."""
    last = ones[-1]
    if any(type(one) is not type(last) for one in ones):
        raise _refused(path)
    if isinstance(last, Weights):
        if not all(_same_weights(one, last) for one in ones):
            raise _refused(path)
    elif is_dataclass(last):
        for field in fields(last):
            parts = [getattr(one, field.name) for one in ones]
            yield from _differing((*path, field.name), parts, lengths)
    elif isinstance(last, tuple):
        if any(len(one) != len(last) for one in ones):
            raise _refused(path)
        for place, held in enumerate(zip(*ones, strict=True)):
            yield from _differing((*path, place), list(held), lengths)
    elif isinstance(last, np.ndarray):
        yield from _differing_arrays(path, ones, lengths)
    elif type(last) is int:
        if any(one != last for one in ones):
            yield Varying(path, None, *_line(path, ones, lengths))
    elif any(one != last for one in ones):
        raise _refused(path)


def _differing_arrays(path: Path, ones: list[Any], lengths: list[int]) -> Iterator[Varying]:
    last = ones[-1]
    for one in ones:
        beginning = last[tuple(slice(length) for length in one.shape)]
        if one.ndim != last.ndim or not np.array_equal(one, beginning):
            raise _refused(path)
    for axis in range(last.ndim):
        sizes = [one.shape[axis] for one in ones]
        if any(size != sizes[-1] for size in sizes):
            yield Varying(path, axis, *_line(path, sizes, lengths))


def _line(path: Path, numbers: list[int], lengths: list[int]) -> tuple[int, int]:
    slope, rest = divmod(numbers[-1] - numbers[0], lengths[-1] - lengths[0])
    offset = numbers[0] - slope * lengths[0]
    fits = all(slope * at + offset == one for at, one in zip(lengths, numbers, strict=True))
    if rest or not fits:
        raise _refused(path)
    return slope, offset


def _same_weights(one: Weights, other: Weights) -> bool:
    return (one.rows, one.columns, one.layout) == (other.rows, other.columns, other.layout) and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("values", "starts", "indices")
    )


def _refused(path: Path) -> InputError:
    where = ".".join(map(str, path[1:]))
    return InputError(
        f"what the network computes depends on the length in a way that is no line ({where}), as "
        "where a flattened sequence enters a linear layer; compress it for one length"
    )


def _changed(whole: Any, path: Path, one: Varying, length: int) -> Any:
    """Return a thing with one number of it as it is at a length."""
    if not path:
        if one.axis is None:
            if type(whole) is not int:
                raise TypeError
            return one.at(length)
        if not isinstance(whole, np.ndarray) or one.axis >= whole.ndim:
            raise TypeError
        return np.ascontiguousarray(whole[(slice(None),) * one.axis + (slice(one.at(length)),)])
    step, *rest = path
    if isinstance(step, str):
        if isinstance(whole, Weights) or step not in {field.name for field in fields(whole)}:
            raise LookupError
        return replace(whole, **{step: _changed(getattr(whole, step), tuple(rest), one, length)})
    parts = list(whole)
    parts[step] = _changed(parts[step], tuple(rest), one, length)
    return tuple(parts)
