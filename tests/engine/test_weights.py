import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gossamer.engine import (
    Layout,
    Linear,
    Network,
    check_network,
    pack_weights,
    unpack_rows,
    unpack_weights,
)

KINDS: tuple[Layout, ...] = ("dense", "csr", "block")
matrices = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=2, max_side=13),
    elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.5, 3e38]),
)


@pytest.mark.parametrize("kind", KINDS)
@given(matrices)
def test_unpacking_undoes_packing(kind: Layout, matrix: np.ndarray) -> None:
    packed = pack_weights(matrix, kind)
    check_network(Network((matrix.shape[1],), (Linear(0, packed),), 1))
    np.testing.assert_array_equal(unpack_weights(packed), matrix)


@pytest.mark.parametrize("kind", KINDS)
@given(matrices, st.data())
def test_some_rows_are_those_of_the_whole(
    kind: Layout, matrix: np.ndarray, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(matrix)))
    stop = data.draw(st.integers(start, len(matrix)))
    packed = pack_weights(matrix, kind)
    np.testing.assert_array_equal(unpack_rows(packed, start, stop), matrix[start:stop])


@given(matrices)
def test_each_kind_stores_no_more_than_it_must(matrix: np.ndarray) -> None:
    assert pack_weights(matrix, "dense").stored == matrix.size
    assert pack_weights(matrix, "csr").stored == np.count_nonzero(matrix)
    padded = np.zeros((-(-len(matrix) // 4) * 4, matrix.shape[1]))
    padded[: len(matrix)] = matrix
    blocks = (padded.reshape(-1, 4, matrix.shape[1]) != 0).any(axis=1).sum()
    assert pack_weights(matrix, "block").stored == 4 * blocks
