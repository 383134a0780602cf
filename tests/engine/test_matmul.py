"""Products of two computed values against NumPy in float64, in every run there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.engine import (
    Doubles,
    Engine,
    Matmul,
    Network,
    Shape,
    available_instruction_sets,
    check_network,
    run_portable_all,
)

Drawn = tuple[Network, tuple[Doubles, ...]]


@st.composite
def products(draw: st.DrawFn) -> Drawn:
    """Return a network of one product of two inputs, and these."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch = draw(st.lists(st.integers(1, 3), max_size=3))
    rows, inner, columns = (draw(st.sampled_from((1, 2, 5, 16, 33, 40))) for _ in range(3))
    transposed = (draw(st.booleans()), draw(st.booleans()))
    shapes: list[Shape] = []
    for matrix, turned in zip(((rows, inner), (inner, columns)), transposed, strict=True):
        before = tuple(draw(st.sampled_from((1, size))) for size in batch)
        shapes.append((*before, *(matrix[::-1] if turned else matrix)))
    count, size = draw(st.sampled_from((0, 1, 3, 17))), draw(st.sampled_from((1e-12, 1.0, 1e12)))
    inputs = tuple(
        (size * random.standard_normal((count, *shape))).astype("f4").astype(float)
        for shape in shapes
    )
    return Network(tuple(shapes), (Matmul(0, 1, *transposed),), 2), inputs


@settings(max_examples=60)
@given(products())
def test_a_product_is_numpys_in_every_run(drawn: Drawn) -> None:
    network, inputs = drawn
    layer = network.layers[0]
    assert isinstance(layer, Matmul)
    left, right = inputs
    left = np.swapaxes(left, -1, -2) if layer.left_transposed else left
    right = np.swapaxes(right, -1, -2) if layer.right_transposed else right
    expected = left @ right
    assert check_network(network)[-1] == expected.shape[1:]
    (found,) = run_portable_all(network, inputs, np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    given = tuple(one.astype(np.float32) for one in inputs)
    largest = (np.abs(left) @ np.abs(right)).max(initial=0.0)
    for name in available_instruction_sets():
        (result,) = Engine(network, name).run(given, threads=2)
        assert np.abs(result - expected).max(initial=0.0) <= 2e-6 * largest


@pytest.mark.parametrize(
    ("shapes", "layer"),
    [
        (((2, 3), (2, 3)), Matmul(0, 1)),
        (((4, 2, 3), (5, 3, 2)), Matmul(0, 1)),
        (((1, 2, 3), (3, 2)), Matmul(0, 1)),
        (((3,), (3,)), Matmul(0, 1)),
        (((2, 3), (3, 2)), Matmul(0, 1, left_transposed=True)),
    ],
)
def test_what_is_no_product_is_refused(shapes: tuple[Shape, ...], layer: Matmul) -> None:
    with pytest.raises(InputError, match=r"layer 0 \(Matmul\): reads shapes"):
        check_network(Network(shapes, (layer,), 2))


def test_not_a_number_stays_within_its_row() -> None:
    left, right = np.ones((1, 4, 6), np.float32), np.ones((1, 6, 40), np.float32)
    left[0, 2, 5] = np.nan
    network = Network(((4, 6), (6, 40)), (Matmul(0, 1),), 2)
    for name in available_instruction_sets():
        (found,) = Engine(network, name).run((left, right))
        assert np.isnan(found).all(axis=2).tolist() == [[False, False, True, False]]
        assert np.isnan(found).any(axis=2).tolist() == [[False, False, True, False]]
