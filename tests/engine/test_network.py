import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional

from gossamer.engine import (
    Concatenate,
    Epilogue,
    Linear,
    Pool,
    Pooling,
    Softmax,
    pack_weights,
    read_by,
    window_positions,
)

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)), pairs, pairs, pairs, st.booleans(), st.data()
)
def test_windows_are_counted_as_pytorch_counts_them(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    ceil: bool,
    data: st.DataObject,
) -> None:
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    found = window_positions(size, kernel, stride, (padding[0], padding[1]), dilation, ceil)
    assume(min(found) > 0)
    pooled = functional.max_pool2d(torch.zeros(1, *size), kernel, stride, padding, dilation, ceil)
    assert found == tuple(pooled.shape[1:])


def test_what_a_layer_reads() -> None:
    weights = pack_weights(np.ones((1, 1)), "dense")
    assert read_by(Linear(3, weights)) == (3,)
    assert read_by(Linear(3, weights, epilogue=Epilogue(residual=1))) == (3, 1)
    assert read_by(Concatenate((2, 2, 0))) == (2, 2, 0)
    assert read_by(Softmax(4)) == (4,)
    assert read_by(Pool(5, Pooling("max", (1, 1), (1, 1)))) == (5,)
