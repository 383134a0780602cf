"""Attention of one token at a time over the keys and values of those before, which are kept."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gossamer.engine.decoding import Attended
from gossamer.engine.fields import Floats
from gossamer.engine.native import kept_attention_kernel
from gossamer.engine.ops.attention import Attention

Places = Sequence[int]
"""Of each sequence."""


class Kept(Protocol):
    """Keys and values of one attention, of so many sequences."""

    @property
    def bytes(self) -> int:
        """The memory for them."""

    def attend(
        self, places: Places, query: NDArray[Any], key: NDArray[Any], value: NDArray[Any]
    ) -> Floats:
        """Return [sequences, features, 1, 1] for a token of each, whose key and value stay.

        They stay at the place of each sequence; where that is below 0 nothing does, and there are
        zeros. Arrays hold [sequences, features] numbers, in any shape behind the first axis.
        """


def kept_attention(part: Attended, most: int, sequences: int) -> Kept:
    """Return room for the keys and values of so many tokens of each sequence."""
    layer, added = part.layer, _added(part.layer, most)
    kernel = kept_attention_kernel(
        sequences, most, layer.heads, layer.key_heads, part.width, part.depth, layer.scale, added
    )
    if kernel is None:
        return _OnNumpy(part, most, sequences, added)
    return _OnKernels(kernel, (sequences, layer.heads * part.depth, 1, 1))


def _added(layer: Attention, most: int) -> Floats:
    """Return what is added to the scores, [1 or heads, most, most]; of no number if nothing is."""
    given = [array for array in (layer.bias, layer.kept) if array is not None]
    if not given:
        return np.zeros(0, np.float32)
    added = np.zeros((max(map(len, given)), most, most), np.float32)
    if layer.bias is not None:
        added += layer.bias[:, :most, :most]
    if layer.kept is not None:
        added[np.broadcast_to(layer.kept[:, :most, :most] == 0, added.shape)] = -np.inf
    return added


class _OnKernels:
    def __init__(self, kernel: Any, shape: tuple[int, ...]) -> None:
        self._kernel = kernel
        self._shape = shape

    @property
    def bytes(self) -> int:
        return int(self._kernel.bytes)

    def attend(
        self, places: Places, query: NDArray[Any], key: NDArray[Any], value: NDArray[Any]
    ) -> Floats:
        outputs = np.empty(self._shape, np.float32)
        self._kernel.attend(list(places), query, key, value, outputs)
        return outputs


class _OnNumpy:
    def __init__(self, part: Attended, most: int, sequences: int, added: Floats) -> None:
        self._layer, self._added = part.layer, added
        heads = part.layer.key_heads
        self._keys = np.zeros((sequences, heads, most, part.width), np.float32)
        self._values = np.zeros((sequences, heads, most, part.depth), np.float32)

    @property
    def bytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def attend(
        self, places: Places, query: NDArray[Any], key: NDArray[Any], value: NDArray[Any]
    ) -> Floats:
        layer, heads, count = self._layer, self._layer.key_heads, len(query)
        queries = query.reshape(count, heads, layer.heads // heads, -1)
        keys, values = key.reshape(count, heads, -1), value.reshape(count, heads, -1)
        found = np.zeros((count, *queries.shape[1:3], values.shape[2]), np.float32)
        for place in {*places} - {-1}:
            some = np.flatnonzero(np.asarray(places) == place)
            self._keys[some, :, place] = keys[some]
            self._values[some, :, place] = values[some]
            found[some] = self._attended(place, queries[some], some)
        return found.reshape(count, -1, 1, 1)

    def _attended(self, place: int, queries: NDArray[Any], some: NDArray[Any]) -> NDArray[Any]:
        layer = self._layer
        keys, values = self._keys[some, :, : place + 1], self._values[some, :, : place + 1]
        scores = (queries @ keys.swapaxes(2, 3)) * np.float32(layer.scale)
        if self._added.size:
            row = np.broadcast_to(self._added[:, place, : place + 1], (layer.heads, place + 1))
            scores = scores + row.reshape(scores.shape[1:])
        peak = scores.max(axis=-1, keepdims=True)
        powers = np.exp(scores - np.where(np.isneginf(peak), 0, peak))
        total = powers.sum(axis=-1, keepdims=True)
        shares: NDArray[Any] = powers / np.where(total == 0, 1, total)
        return shares @ values
