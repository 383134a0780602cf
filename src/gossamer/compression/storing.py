"""How the weights of each layer are stored: dense, sparse, or in blocks of four rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gossamer.engine import (
    BLOCK_ROWS,
    Convolution,
    Floats,
    Layout,
    Network,
    Operator,
    pack_weights,
    unpack_weights,
    weights_of,
)

LAYOUTS: tuple[Layout, ...] = ("dense", "csr", "block")

_MOST_DENSE = 0.9
"""Share of non-zeros above which weights are never stored sparse: the pattern alone costs more."""
_USUALLY_DENSE = 0.5
"""Share of non-zeros from which on a layer is usually faster dense."""
_USUALLY_DENSE_WINDOWS = 0.65
"""The same of a convolution, which reads its weights once for many positions."""
_MOST_FILL = 1.25
"""How many numbers blocks may hold for each non-zero."""
_PRUNED_BELOW = 0.7
"""Share of non-zeros below which a matrix counts as pruned."""


def suitable_layouts(layer: Operator) -> tuple[Layout, ...]:
    """Return how the weights of a layer may be stored; none for a layer without weights.

    Examples
    --------
    >>> from gossamer.engine import Linear
    >>> suitable_layouts(Linear(0, pack_weights(np.eye(8), "csr")))
    ('dense', 'csr')
    >>> suitable_layouts(Linear(0, pack_weights(np.ones((8, 8)), "dense")))
    ('dense',)
    """
    weights = weights_of(layer)
    if weights is None:
        return ()
    matrix = unpack_weights(weights)
    nonzero = np.count_nonzero(matrix)
    if nonzero > _MOST_DENSE * matrix.size:
        return ("dense",)
    groups: int = getattr(layer, "groups", 1)
    return LAYOUTS if suits_blocks(matrix, groups) else LAYOUTS[:2]


def suits_blocks(matrix: Floats, groups: int = 1) -> bool:
    """Tell whether four rows at a time share their pattern, up to a few zeros.

    Examples
    --------
    >>> suits_blocks(np.repeat(np.eye(4, dtype=np.float32), 4, axis=0))
    True
    >>> suits_blocks(np.eye(16, dtype=np.float32))
    False
    """
    if groups > 1 and len(matrix) // groups % BLOCK_ROWS:
        return False  # no block may span two groups
    begin = np.arange(0, len(matrix), BLOCK_ROWS)
    blocks = np.logical_or.reduceat(matrix != 0, begin, axis=0).sum(axis=1)
    held = (blocks * np.minimum(BLOCK_ROWS, len(matrix) - begin)).sum()
    return bool(held <= _MOST_FILL * np.count_nonzero(matrix))


def is_pruned_in_blocks(matrix: Floats, groups: int = 1) -> bool:
    """Tell whether four rows at a time share their pattern, and it leaves out much.

    Columns, and blocks of rows, that are empty throughout do not count: they can be removed.

    Examples
    --------
    >>> is_pruned_in_blocks(np.repeat(np.eye(4, dtype=np.float32), 4, axis=0))
    True
    >>> only_some_units = np.ones((8, 8), np.float32)
    >>> only_some_units[4:, :] = only_some_units[:, 2:] = 0
    >>> is_pruned_in_blocks(only_some_units)
    False
    """
    left = 0  # numbers that are not in such rows and columns
    for group in np.split(matrix, groups):
        begin = np.arange(0, len(group), BLOCK_ROWS)
        rows = np.minimum(BLOCK_ROWS, len(group) - begin)
        alive = np.logical_or.reduceat(group.any(axis=1), begin)
        left += rows[alive].sum() * group.any(axis=0).sum()
    return bool(np.count_nonzero(matrix) < _PRUNED_BELOW * left) and suits_blocks(matrix, groups)


def with_usual_layouts(network: Network) -> Network:
    """Return the network with each layer stored in the way that is usually fastest."""
    return stored_as(network, [_usual_layout(layer) for layer in network.layers])


def _usual_layout(layer: Operator) -> Layout | None:
    suitable, weights = suitable_layouts(layer), weights_of(layer)
    if weights is None:
        return None
    matrix = unpack_weights(weights)
    dense_from = _USUALLY_DENSE_WINDOWS if isinstance(layer, Convolution) else _USUALLY_DENSE
    sparse = np.count_nonzero(matrix) < dense_from * matrix.size
    return suitable[-1] if sparse else "dense"


def stored_as(network: Network, layouts: Sequence[Layout | None]) -> Network:
    """Return the network with the weights of each layer stored in another way; None keeps them."""
    layers = tuple(
        _stored_as(layer, layout) for layer, layout in zip(network.layers, layouts, strict=True)
    )
    return replace(network, layers=layers)


def _stored_as(layer: Operator, layout: Layout | None) -> Operator:
    weights = weights_of(layer)
    if layout is None or weights is None or weights.layout == layout:
        return layer
    changes: dict[str, Any] = {"weights": pack_weights(unpack_weights(weights), layout)}
    return replace(layer, **changes)  # type: ignore[type-var]


def layouts_in_words(network: Network) -> str:
    """Return how many layers are stored how, such as '2 csr, 1 dense'.

    Examples
    --------
    >>> from gossamer.engine import Linear
    >>> layer = Linear(0, pack_weights(np.eye(2), "csr"))
    >>> layouts_in_words(Network((2,), (layer, layer), 2))
    '2 csr'
    """
    counts = Counter(found.layout for layer in network.layers if (found := weights_of(layer)))
    return ", ".join(f"{counts[layout]} {layout}" for layout in LAYOUTS if counts[layout]) or "none"


def layers_in_words(network: Network, modules: Sequence[str] = ()) -> list[str]:
    """Return how each layer with weights is stored, in the order in which they run.

    `modules` names the modules of PyTorch that each layer stands for, where they are known.

    Examples
    --------
    >>> from gossamer.engine import Linear
    >>> layer = Linear(0, pack_weights(np.eye(2), "csr"))
    >>> layers_in_words(Network((2,), (layer,), 1), ["head, relu"])
    ['linear [2, 2]: csr, 2 of 4 weights: head, relu']
    """
    lines = []
    for number, layer in enumerate(network.layers):
        if weights := weights_of(layer):
            names = modules[number] if modules else ""
            shape = f"[{weights.rows}, {weights.columns}]"
            of = f"{weights.stored} of {weights.rows * weights.columns} weights"
            line = f"{layer.name} {shape}: {weights.layout}, {of}"
            lines.append(f"{line}: {names}" if names else line)
    return lines
