"""Causal networks computed one token at a time, with the keys and values of those before kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.core.arrays import as_array
from gossamer.core.errors import InputError
from gossamer.engine import Network, Signature
from gossamer.engine.decoding import Attended, Segment, Steps, steps_of
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
        How many sequences are computed side by side, all of one length.

    Attributes
    ----------
    max_length : int
        How many tokens each sequence can have.
    length : int
        How many it has been given.
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
        self.length, self.batch = 0, batch
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
        self.length = 0

    def step(self, tokens: ArrayLike) -> Any:
        """Return what the network gives for further tokens, behind those given before.

        Parameters
        ----------
        tokens
            Of each sequence, [batch, tokens], with the features of each token behind where the
            network takes such; whole numbers where it takes these. Of one alone also [tokens].

        Returns
        -------
        NDArray, tuple or dict of these
            As the network gives it for sequences of these tokens: logits [batch, tokens, ...]. What
            it gives of the last token alone stands there for the last.

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
        if not 1 <= count <= self.max_length - self.length:
            raise InputError(
                f"tokens: {count} given, expected 1 to {self.max_length - self.length}, as "
                f"{self.length} of {self.max_length} were given before; call reset(), or make a "
                "decoder of a larger max_length."
            )
        return self._returned(self._together([self._one(one) for one in _each(given, axis)]))

    def _together(self, found: Sequence[Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
        """Return each output for several tokens, of which are given those of each token."""
        return [
            parts[-1] if axis is None else np.concatenate(parts, axis=axis)
            for parts, (_, axis) in zip(zip(*found, strict=True), self._steps.outputs, strict=True)
        ]

    def _returned(self, outputs: Sequence[NDArray[Any]]) -> Any:
        """Return outputs in the container in which the network gives them."""
        returns = self._signature.returns
        if returns == "tensor":
            return outputs[0]
        names = (spec.name for spec in self._signature.outputs)
        return tuple(outputs) if returns == "tuple" else dict(zip(names, outputs, strict=True))

    def _one(self, token: NDArray[Any]) -> list[NDArray[Any]]:
        """Return each output for one token, in the shape that it has for a sequence of one."""
        values: dict[int, NDArray[Any]] = {
            value: np.broadcast_to(number, (self.batch, *number.shape[1:]))
            for value, placed in self._steps.placed.items()
            for number in (placed.at(self.length),)
        }
        values[0] = token
        kept = iter(self._kept)
        for number, part in enumerate(self._steps.parts):
            if isinstance(part, Attended):
                layer = part.layer
                read = (values[int(value)] for value in (layer.query, layer.key, layer.value))
                values[part.gives] = next(kept).attend(self.length, *read)
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
        self.length += 1
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
            for mine, whole in zip(self._together(found), expected, strict=True):
                alike = mine.shape == whole.shape
                error = np.abs(mine - whole).max(initial=0.0) if alike else np.inf
                if not error <= _TOLERANCE * np.abs(whole).max(initial=0.0):
                    raise InputError(
                        f"decoder: for {length} tokens the answers differ from those of the whole "
                        f"sequence by {error:.2g}, so that tokens cannot be computed one at a time."
                    )


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
