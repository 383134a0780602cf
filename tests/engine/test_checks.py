from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.engine import (
    LONGEST,
    MOST_LAYERS,
    MOST_NUMBERS,
    MOST_WEIGHTS,
    Activation,
    Concatenate,
    Convolution,
    Epilogue,
    Layout,
    Linear,
    Network,
    Operator,
    Pointwise,
    Pool,
    Pooling,
    Reshape,
    Softmax,
    check_network,
    pack_weights,
)

MATRIX = np.array([[0, 2, 0, 1], [3, 0, 0, 0], [0, 0, 0, 0], [0, 1, 4, 0], [5, 0, 0, 6]])
SPARSE, BLOCK, DENSE = (pack_weights(MATRIX, kind) for kind in ("csr", "block", "dense"))
IMAGE = (2, 5, 5)
CONVOLUTION = Convolution(0, pack_weights(np.ones((4, 18)), "csr"), (3, 3))
POOLING = Pooling("max", (2, 2), (2, 2))


def of(shape: tuple[int, ...], *layers: Operator, outputs: int | None = None) -> Network:
    return Network(shape, layers, len(layers) if outputs is None else outputs)


def weights(**changes: Any) -> Network:
    return of((4,), Linear(0, replace(SPARSE, **changes)))


def block(**changes: Any) -> Network:
    return of((4,), Linear(0, replace(BLOCK, **changes)))


def convolution(**changes: Any) -> Network:
    return of(IMAGE, replace(CONVOLUTION, **changes))


def pooling(**changes: Any) -> Network:
    return of(IMAGE, Pool(0, replace(POOLING, **changes)))


def epilogue(**changes: Any) -> Network:
    return of(IMAGE, replace(CONVOLUTION, epilogue=Epilogue(**changes)))


def values(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


SOUND = [
    (of((4,), Linear(0, DENSE, values(1, 2, 3, 4, 5))), [(4,), (5,)]),
    (weights(), [(4,), (5,)]),
    (block(), [(4,), (5,)]),
    (convolution(stride=(2, 1), padding=(1, 0)), [IMAGE, (4, 3, 3)]),
    (convolution(bias=np.zeros((4, 3, 3), np.float32)), [IMAGE, (4, 3, 3)]),
    (epilogue(pooling=POOLING, scale=values(1, 1, 1, 1)), [IMAGE, (4, 1, 1)]),
    (pooling(ceil=True), [IMAGE, (2, 3, 3)]),
    (of(IMAGE, Pool(0, Pooling("max", (6, 6), (2, 2), ceil=True))), [IMAGE, (2, 1, 1)]),
    (of(IMAGE, Concatenate((0, 0))), [IMAGE, (4, 5, 5)]),
    (of(IMAGE, Reshape(0, (50,)), Softmax(1)), [IMAGE, (50,), (50,)]),
    (of(IMAGE, Pointwise(0, Epilogue(residual=0))), [IMAGE, IMAGE]),
    (of((3,)), [(3,)]),
]

WRONG = [
    (of(()), "input_shape is ()"),
    (of((1,) * 6), "expected one to 5 lengths"),
    (of((0,)), "input_shape is (0,)"),
    (of((True,)), "input_shape is (True,)"),
    (of((MOST_NUMBERS, 2, 2)), "at most 268435456 numbers"),
    (of((4,), outputs=1), "output is 1"),
    (of((4,), outputs=-1), "output is -1"),
    (Network((4,), [], 0), "layers must be a tuple"),  # type: ignore[arg-type]
    (Network((4,), ("relu",), 0), "is no layer"),  # type: ignore[arg-type]
    (of((4,), Linear(1, SPARSE)), "layer 0 (Linear): input is 1"),
    (of((4,), Linear(-1, SPARSE)), "input is -1"),
    (of((2, 2, 1), Linear(0, SPARSE)), "put a Reshape before it"),
    (of((3,), Linear(0, SPARSE)), "4 columns, expected 3"),
    (of((4,), Linear(0, SPARSE, values(1))), "bias is float32 [1], expected float32 [5]"),
    (of((4,), Linear(0, SPARSE, np.zeros(5))), "bias is float64 [5]"),
    (of((4,), Linear(0, SPARSE, values(1, 2, np.nan, 4, 5))), "bias holds nan at position 2"),
    (weights(layout="coo"), "layout 'coo'"),
    (weights(rows=0), "have 0 rows"),
    (weights(rows=2**31), "rows of 4 columns"),
    (weights(rows=4), "weights.starts is int64 [6], expected int64 [5]"),
    (weights(starts=SPARSE.starts.astype(np.int32)), "weights.starts is int32"),
    (weights(starts=SPARSE.starts + 1), "begin with 0"),
    (weights(starts=np.array([0, 2, 1, 3, 5, 7])), "never descend"),
    (weights(starts=np.array([0, 2, 3, 3, 5, 6])), "weights.indices is int32 [7], expected"),
    (weights(indices=SPARSE.indices + 1), "go from 1 to 4, expected columns from 0 to 3"),
    (weights(indices=SPARSE.indices - 1), "go from -1 to 2"),
    (weights(indices=np.array([3, 1, 0, 1, 2, 0, 3], np.int32)), "ascend within each row"),
    (weights(indices=np.array([1, 1, 0, 1, 2, 0, 3], np.int32)), "ascend within each row"),
    (weights(values=SPARSE.values[1:]), "weights.values is float32 [6]"),
    (weights(values=SPARSE.values * np.inf), "weights.values holds inf at position 0"),
    (of((4,), Linear(0, replace(DENSE, values=DENSE.values.T))), "float32 [4, 5], expected"),
    (of((4,), Linear(0, replace(DENSE, starts=np.zeros(1, np.int64)))), "weights.starts"),
    (block(values=BLOCK.values + 1), "must be 0 in the rows beyond the last"),
    (block(rows=9), "weights.starts is int64 [3], expected int64 [4]"),
    (of((4,), CONVOLUTION), "expected [channels, height, width]"),
    (convolution(weights=None), "weights is None, expected Weights"),
    (of((4,), Linear(0, None)), "weights is None"),  # type: ignore[arg-type]
    (convolution(kernel=(3,)), "kernel is (3,)"),
    (convolution(kernel=[3, 3]), "kernel is [3, 3]"),
    (convolution(kernel=(3, 2)), "18 columns, expected 12"),
    (convolution(stride=(0, 1)), "stride is (0, 1)"),
    (convolution(padding=(-1, 0)), "padding is (-1, 0)"),
    (convolution(padding=(1.0, 0)), "padding is (1.0, 0)"),
    (convolution(padding=(2**16, 2**16)), "the padded input has shape"),
    (convolution(dilation=(1, 2**62)), "dilation is"),
    (convolution(dilation=(1, 3)), "reaches over 7 pixels along the width, expected at most 5"),
    (convolution(groups=0), "groups is 0"),
    (convolution(groups=3), "groups is 3, expected a divisor of the 2"),
    (
        convolution(groups=2, weights=pack_weights(np.ones((3, 9)), "csr")),
        "3 rows, expected a multiple of groups, 2",
    ),
    (
        convolution(groups=2, weights=pack_weights(np.ones((4, 9)), "block")),
        "2 rows a group, expected a multiple of 4",
    ),
    (convolution(bias=np.zeros((4, 3, 2), np.float32)), "bias is float32 [4, 3, 2]"),
    (epilogue(residual=0), "residual has shape [2, 5, 5], expected [4, 3, 3]"),
    (epilogue(residual=1), "residual is 1"),
    (epilogue(scale=values(1)), "scale is float32 [1], expected float32 [4]"),
    (epilogue(shift=values(1, 2, 3, np.inf)), "shift holds inf"),
    (epilogue(activation=Activation("swish")), "activation name is 'swish'"),  # type: ignore[arg-type]
    (epilogue(activation=Activation("elu", np.nan)), "alpha is nan"),
    (epilogue(activation=Activation("elu", 10**400)), "alpha is 1000"),
    (epilogue(activation=None), "activation is None"),
    (epilogue(pooling=replace(POOLING, kernel=(4, 4))), "reaches over 4 pixels"),
    (of((4,), Linear(0, SPARSE, None, Epilogue(pooling=POOLING))), "pooling of a value of shape"),
    (of((4,), Pointwise(0, Epilogue(pooling=POOLING))), "pooling"),
    (of(IMAGE, Pointwise(0, Epilogue(pooling=POOLING))), "expected a Pool of its own"),
    (of(IMAGE, Pool(0, None)), "pooling is None"),  # type: ignore[arg-type]
    (pooling(kind="median"), "pooling kind is 'median'"),
    (pooling(padding=(2, 0)), "at most half of the kernel"),
    (pooling(kind="average", dilation=(2, 2)), "dilation is for max only"),
    (pooling(ceil=1), "pooling ceil is 1, expected bool"),
    (pooling(kernel=(6, 6)), "reaches over 6 pixels"),
    (of((4,), Concatenate(())), "expected one value or more"),
    (of(IMAGE, Reshape(0, (2, 25, 1)), Concatenate((0, 1))), "differ along axis 0 only"),
    (of((2**27,), *(Concatenate((i, i)) for i in range(2))), "layer 1 (Concatenate) has shape"),
    (of(IMAGE, Reshape(0, (49,))), "holds 49 numbers, expected 50"),
    (of((4,), Softmax(0, 1)), "logarithm is 1"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("network", "shapes"), SOUND)
def test_sound_networks_have_shapes(network: Network, shapes: list[tuple[int, ...]]) -> None:
    assert check_network(network) == tuple(shapes)


@pytest.mark.parametrize(("network", "complaint"), WRONG, ids=[text for _, text in WRONG])
def test_what_is_wrong_is_said_in_one_sentence(network: Network, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        check_network(network)
    text = str(caught.value)
    assert complaint in text
    assert text.startswith(("layer ", "network: "))
    assert text.endswith(".")
    assert len(text) < 300


@pytest.mark.parametrize("kind", ["csr", "block"])
def test_empty_weights_are_sound(kind: Layout) -> None:
    packed = pack_weights(np.zeros((3, 4)), kind)
    assert packed.stored == 0
    assert check_network(of((4,), Linear(0, packed))) == ((4,), (3,))


def test_the_page_on_the_file_states_these_limits() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gsm-format.md").read_text()
    words = " ".join(page.split())
    assert MOST_NUMBERS == 2**28
    assert "of at most 2^28 numbers, the zeros of a padding included" in words
    assert "at most 2^28 rows" in words
    assert MOST_WEIGHTS == 2**31 - 1
    assert "a matrix [rows, columns] of at most 2^31 - 1 numbers, zeros included" in words
    assert f"at most {MOST_LAYERS:,} layers" in words
    assert f"along the height and along the width, each at most {LONGEST:,}" in words
