"""Causal networks computed one token at a time, with the keys and values of those before kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.core.arrays import as_array
from gossamer.core.errors import InputError
from gossamer.engine import Network, Signature
from gossamer.engine.decoding import Attended, Placed, Segment, Steps, steps_of
from gossamer.engine.indices import Indices
from gossamer.engine.kept import kept_attention
from gossamer.engine.lengths import at_lengths
from gossamer.engine.native import Engine

_CHECKED = 4
"""So many prefixes are compared with the whole sequence when a decoder is made, from the shortest
that the network takes on, and one that is longer by as many."""
_TOLERANCE = 1e-4
"""Largest difference that rounding explains, over the largest output."""


class Decoder:
    """A causal network that is given sequences token by token.

    Of the tokens before, it keeps the keys and values of each attention, so that a token costs what
    one costs. Memory for them is taken when it is made, and never more. Its answers are compared
    with those of the whole network then, for every prefix of a few random tokens.

    Parameters
    ----------
    network, signature
        A network that takes sequences of several lengths, as `gossamer.compress` with
        `dynamic_shapes` makes it.
    max_length
        How many tokens it can be given; by default as many as the network takes.
    threads
        How many the engine may use.
    batch
        How many sequences are computed side by side.

    Attributes
    ----------
    max_length : int
        How many tokens each sequence can have.
    lengths : list of int
        How many each has been given, without those that were masked.
    length : int
        The largest of these.
    batch : int
        How many sequences there are.
    cache_bytes : int
        The memory for keys and values: 4 bytes for each feature of both, of every token.

    Raises
    ------
    InputError
        If an operator mixes tokens that is no causal attention, the network takes sequences of one
        length only or further inputs, or its answers differ.
    """

    def __init__(
        self,
        network: Network,
        signature: Signature,
        max_length: int | None = None,
        threads: int = 1,
        batch: int = 1,
    ) -> None:
        self._steps: Steps = steps_of(network, signature)
        assert signature.lengths is not None
        least, most = signature.lengths.least[0], signature.lengths.most[0]
        self.max_length = most if max_length is None else max_length
        if type(self.max_length) is not int or not least <= self.max_length <= most:
            raise InputError(
                f"max_length is {max_length!r}, expected a whole number from {least} to {most}, as "
                "the network takes sequences of so many tokens."
            )
        if type(batch) is not int or batch < 1:
            raise InputError(f"batch is {batch!r}, expected a whole number from 1 on.")
        self.lengths, self.batch = [0] * batch, batch
        self._threads = threads
        self._signature = at_lengths(network, signature, (1,))[1]
        self._engines = {
            number: Engine(part.network)
            for number, part in enumerate(self._steps.parts)
            if isinstance(part, Segment)
        }
        self._kept = [
            kept_attention(part, self.max_length, batch)
            for part in self._steps.parts
            if isinstance(part, Attended)
        ]
        self.cache_bytes = sum(kept.bytes for kept in self._kept)
        self._check(network, signature)
        self.reset()

    def reset(self) -> None:
        """Forget all tokens."""
        self.lengths = [0] * self.batch

    @property
    def length(self) -> int:
        """How many tokens the longest sequence has been given."""
        return max(self.lengths)

    def step(self, tokens: ArrayLike, mask: ArrayLike | None = None) -> Any:
        """Return what the network gives for further tokens, behind those given before.

        Parameters
        ----------
        tokens
            Of each sequence, [batch, tokens], with the features of each token behind where the
            network takes such; whole numbers where it takes these. Of one alone also [tokens].
        mask
            Which tokens count, [batch, tokens], 1 or true where they do; all if left out. Others
            fill up prompts of several lengths, on either side or in between, or stand for sequences
            that have ended: each sequence is computed as if they were not there.

        Returns
        -------
        NDArray, tuple or dict of these
            As the network gives it for sequences of these tokens: logits [batch, tokens, ...]. What
            it gives of the last token alone stands there for the last. Zeros for what is masked.

        Raises
        ------
        InputError
            If they do not fit the network, or are more than are left up to `max_length`.
        """
        spec, axis = self._signature.inputs[0], self._steps.axis
        given = as_array("tokens", tokens, "expected numbers")
        given = given[None] if given.ndim == len(spec.shape) and self.batch == 1 else given
        count = given.shape[axis] if given.ndim > axis else 0
        wanted = (self.batch, *spec.shape[: axis - 1], count, *spec.shape[axis:])
        if given.shape != wanted:
            named = ", ".join("tokens" if at == axis else str(n) for at, n in enumerate(wanted))
            raise InputError(f"tokens: shape {list(given.shape)}, expected [{named}].")
        if given.dtype.kind not in ("fiu" if spec.type == "float32" else "iu"):
            raise InputError(f"tokens: of type {given.dtype}, expected {spec.type}.")
        counted = self._counted(mask, count)
        if mask is not None and given.dtype.kind in "iu":  # what does not count may be no word
            there = np.expand_dims(counted, tuple(i for i in range(1, given.ndim) if i != axis))
            given = np.where(there, given, 0)
        if not count or (counted.sum(1) + self.lengths).max() > self.max_length:
            raise InputError(
                f"tokens: {count} given, expected 1 to {self.max_length - self.length}, as "
                f"{self.length} of {self.max_length} were given before; call reset(), or make a "
                "decoder of a larger max_length."
            )
        each, before = zip(_each(given, axis), counted.T, strict=True), self.lengths
        try:
            found = [self._one(one, some) for one, some in each]
        except BaseException:
            self.lengths = before  # what came before the one that fails is not kept
            raise
        return self._returned(self._together(found, counted))

    def _counted(self, mask: ArrayLike | None, count: int) -> NDArray[np.bool_]:
        """Return which of so many tokens count, [batch, tokens]."""
        if mask is None:
            return np.ones((self.batch, count), np.bool_)
        given = as_array("mask", mask, "expected truth values")
        given = given[None] if given.ndim == 1 and self.batch == 1 else given
        if given.shape != (self.batch, count) or not np.isin(given, (0, 1)).all():
            raise InputError(
                f"mask: {given.dtype} of shape {list(given.shape)}, expected 0 and 1, or truth "
                f"values, [{self.batch}, {count}], for as many tokens."
            )
        return given.astype(np.bool_)

    def _together(
        self, found: Sequence[Sequence[NDArray[Any]]], counted: NDArray[np.bool_]
    ) -> list[NDArray[Any]]:
        """Return each output for several tokens, of which are given those of each token."""
        outputs = []
        for parts, (_, axis) in zip(zip(*found, strict=True), self._steps.outputs, strict=True):
            if counted.all():
                outputs.append(parts[-1] if axis is None else np.concatenate(parts, axis=axis))
                continue
            last = np.zeros_like(parts[0])
            each = []
            for part, some in zip(parts, counted.T, strict=True):
                there = some.reshape(-1, *(1,) * (part.ndim - 1))
                each.append(np.where(there, part, np.zeros_like(part)))
                last = np.where(there, part, last)
            outputs.append(last if axis is None else np.concatenate(each, axis=axis))
        return outputs

    def _returned(self, outputs: Sequence[NDArray[Any]]) -> Any:
        """Return outputs in the container in which the network gives them."""
        returns = self._signature.returns
        if returns == "tensor":
            return outputs[0]
        names = (spec.name for spec in self._signature.outputs)
        return tuple(outputs) if returns == "tuple" else dict(zip(names, outputs, strict=True))

    def _one(
        self, token: NDArray[Any], counted: NDArray[np.bool_] | None = None
    ) -> list[NDArray[Any]]:
        """Return each output for a token of each sequence, in the shape for a sequence of one."""
        some = np.ones(self.batch, np.bool_) if counted is None else counted
        places = [at if one else -1 for at, one in zip(self.lengths, some, strict=True)]
        values: dict[int, NDArray[Any]] = {
            value: _placed(placed, places) for value, placed in self._steps.placed.items()
        }
        values[0] = token
        kept = iter(self._kept)
        for number, part in enumerate(self._steps.parts):
            if isinstance(part, Attended):
                layer = part.layer
                read = (values[int(value)] for value in (layer.query, layer.key, layer.value))
                values[part.gives] = next(kept).attend(places, *read)
                continue
            given = tuple(
                values[value].reshape(self.batch, *shape)
                for value, shape in zip(part.reads, part.network.inputs, strict=True)
            )
            engine = self._engines[number]
            if part.reads and 0 in part.reads:
                found = engine.run(given, self._threads)
            else:
                arrays = tuple(np.ascontiguousarray(one, np.float32) for one in given)
                found = engine.compute(arrays, self._threads)
            values.update(zip(part.gives, found, strict=True))
        self.lengths = [at + int(one) for at, one in zip(self.lengths, some, strict=True)]
        return self._signature.typed(tuple(values[value] for value, _ in self._steps.outputs))

    def _check(self, network: Network, signature: Signature) -> None:
        """Compare answers with those of the whole network for every prefix of random tokens.

        Raises
        ------
        InputError
            If they differ by more than rounding.
        """
        assert signature.lengths is not None
        least = signature.lengths.least[0]
        most = min(least - 1 + 2 * _CHECKED, self.max_length)
        sequence = _random_tokens(network, signature, self._steps.axis, (self.batch, most))
        found: list[list[NDArray[Any]]] = []
        for length, token in enumerate(_each(sequence, self._steps.axis), start=1):
            found.append(self._one(token))
            if length < least or least + _CHECKED <= length < most:
                continue
            one, as_model = at_lengths(network, signature, (length,))
            given = np.take(sequence, range(length), self._steps.axis)
            given = given.reshape(self.batch, *one.inputs[0])
            expected = as_model.typed(Engine(one).run((given,), self._threads))
            whole_batch = np.ones((self.batch, length), np.bool_)
            for mine, whole in zip(self._together(found, whole_batch), expected, strict=True):
                alike = mine.shape == whole.shape
                error = np.abs(mine - whole).max(initial=0.0) if alike else np.inf
                if not error <= _TOLERANCE * np.abs(whole).max(initial=0.0):
                    raise InputError(
                        f"decoder: for {length} tokens the answers differ from those of the whole "
                        f"sequence by {error:.2g}, so that tokens cannot be computed one at a time."
                    )


def _placed(placed: Placed, places: Sequence[int]) -> NDArray[Any]:
    """Return what the tokens at some places have, one of each sequence."""
    known = {place: placed.at(max(place, 0)) for place in {*places}}
    if len(known) == 1:
        (number,) = known.values()
        return np.broadcast_to(number, (len(places), *number.shape[1:]))
    return np.concatenate([known[place] for place in places])


def _each(sequence: NDArray[Any], axis: int) -> list[NDArray[Any]]:
    """Return the tokens of a sequence, each as a sequence of its own."""
    return [np.take(sequence, [at], axis) for at in range(sequence.shape[axis])]


def _random_tokens(
    network: Network, signature: Signature, axis: int, sizes: tuple[int, int]
) -> NDArray[Any]:
    """Return so many sequences, of so many tokens, that a network takes."""
    spec, random = signature.inputs[0], np.random.default_rng(0)
    shape = (sizes[0], *spec.shape[: axis - 1], sizes[1], *spec.shape[axis:])
    if spec.type == "float32":
        return random.standard_normal(shape).astype(np.float32)
    return random.integers(0, Indices(network).rows.get(0, 2), shape)
