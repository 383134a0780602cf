"""How weights are stored changes neither the weights nor what a network computes."""

import numpy as np
import pytest

from gossamer.compression.storing import (
    layers_in_words,
    stored_as,
    suitable_layouts,
    with_usual_layouts,
)
from gossamer.engine import (
    Convolution,
    Layout,
    Linear,
    Network,
    Pool,
    Pooling,
    pack_weights,
    run_portable,
)


def matrix(density: float, rows: int = 8, columns: int = 18, shared: int = 1) -> np.ndarray:
    generator = np.random.default_rng(0)
    kept = generator.random((-(-rows // shared), columns)) < density
    return generator.standard_normal((rows, columns)) * np.repeat(kept, shared, axis=0)[:rows]


def convolution(weights: np.ndarray, groups: int = 1) -> Convolution:
    return Convolution(0, pack_weights(weights, "dense"), (3, 3), groups=groups)


@pytest.mark.parametrize(
    ("weights", "kinds"),
    [
        (matrix(1.0), ("dense",)),
        (matrix(0.2), ("dense", "csr")),
        (matrix(0.2, shared=4), ("dense", "csr", "block")),
        (matrix(0.3, rows=3, shared=4), ("dense", "csr", "block")),
        (matrix(0.0), ("dense", "csr", "block")),
    ],
)
def test_kinds_that_suit(weights: np.ndarray, kinds: tuple[Layout, ...]) -> None:
    assert suitable_layouts(Linear(0, pack_weights(weights, "dense"))) == kinds


def test_blocks_never_span_groups() -> None:
    assert "block" in suitable_layouts(convolution(matrix(0.2, rows=8, shared=4), groups=2))
    assert "block" not in suitable_layouts(convolution(matrix(0.2, rows=8, shared=2), groups=4))


def test_layers_without_weights_have_no_kind() -> None:
    assert suitable_layouts(Pool(0, Pooling("max", (2, 2), (2, 2)))) == ()


@pytest.mark.parametrize("kind", ["dense", "csr", "block"])
def test_storing_keeps_what_is_computed(kind: Layout) -> None:
    network = Network((2, 5, 5), (convolution(matrix(0.2, shared=4)),), 1)
    inputs = np.random.default_rng(1).standard_normal((3, 2, 5, 5))
    stored = stored_as(network, [kind])
    (layer,) = stored.layers
    assert isinstance(layer, Convolution)
    assert layer.weights.layout == kind
    assert np.allclose(run_portable(stored, inputs), run_portable(network, inputs), atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "kind"),
    [(matrix(0.8), "dense"), (matrix(0.2), "csr"), (matrix(0.2, shared=4), "block")],
)
def test_usual_kinds(weights: np.ndarray, kind: Layout) -> None:
    layer = Linear(0, pack_weights(weights, "dense"))
    (stored,) = with_usual_layouts(Network((18,), (layer,), 1)).layers
    assert isinstance(stored, Linear)
    assert stored.weights.layout == kind


@pytest.mark.parametrize(("kept", "kind"), [(0.6, "csr"), (0.7, "dense")])
def test_convolutions_are_sparse_up_to_more_non_zeros(kept: float, kind: Layout) -> None:
    weights = np.random.default_rng(0).permutation(np.arange(4 * 18) < kept * 4 * 18)
    network = Network((2, 5, 5), (convolution(weights.reshape(4, 18).astype(np.float32)),), 1)
    (stored,) = with_usual_layouts(network).layers
    assert isinstance(stored, Convolution)
    assert stored.weights.layout == kind


def test_words_say_how_many_numbers_are_stored() -> None:
    network = Network((2, 5, 5), (convolution(np.eye(4, 18)),), 1)
    assert layers_in_words(stored_as(network, ["csr"])) == [
        "convolution [4, 18]: csr, 4 of 72 weights"
    ]
