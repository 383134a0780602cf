"""The checks of cpp/plan.cpp say of every network what those of gossamer.engine say."""

from dataclasses import replace

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.engine import (
    LONGEST,
    MOST_LAYERS,
    MOST_NUMBERS,
    MOST_WEIGHTS,
    Concatenate,
    Convolution,
    Epilogue,
    Linear,
    Network,
    Operator,
    Pointwise,
    Pool,
    Pooling,
    Reshape,
    Shape,
    Softmax,
    Weights,
    check_network,
    pack_weights,
)
from gossamer.engine import fields as checks
from gossamer.engine import native as engine_module
from gossamer.engine.native import Engine, available_instruction_sets

pytestmark = pytest.mark.skipif(
    available_instruction_sets() == ("numpy",), reason="built without compiled kernels"
)

IMAGE = (2, 6, 5)
CONVOLUTION = Convolution(0, pack_weights(np.ones((4, 18)), "csr"), (3, 3))
PIXEL = Convolution(0, pack_weights(np.ones((1, 1)), "dense"), (1, 1))
POOLING = Pooling("max", (2, 2), (2, 2))


def of(shape: Shape, *layers: Operator) -> Network:
    return Network(shape, layers, len(layers))


def empty(rows: int, columns: int) -> Network:
    starts, none = np.zeros(rows + 1, np.int64), np.zeros(0, np.float32)
    return of((columns,), Linear(0, Weights("csr", rows, columns, none, starts)))


def padded(image: Shape, padding: tuple[int, int]) -> Network:
    return of(image, replace(PIXEL, padding=padding))


SOUND = [
    of(
        IMAGE,
        CONVOLUTION,
        Concatenate((1, 1)),
        Softmax(2),
        Pointwise(3, Epilogue()),
        Reshape(4, (96,)),
    ),
    of(IMAGE, replace(CONVOLUTION, stride=(2, 1), padding=(1, 2), dilation=(1, 2))),
    of(IMAGE, replace(CONVOLUTION, epilogue=Epilogue(pooling=replace(POOLING, ceil=True)))),
    of(IMAGE, Pool(0, Pooling("max", (2, 1), (1, 1), (1, 0), (5, 1)))),
    of((MOST_NUMBERS,)),
    of((1, 2**14, 2**14)),
    empty(2**20 - 1, 2**11),
    padded((1, 1, 1), (LONGEST, 0)),
    padded((1, 2**14 - 2, 2**14 - 2), (1, 1)),
    of(IMAGE, Pool(0, replace(POOLING, stride=(LONGEST, LONGEST)))),
    of((1, 2, MOST_NUMBERS // 4), Pool(0, replace(POOLING, padding=(1, 0)))),
    of((2**14,), Concatenate((0,) * 2**14)),
    of((1,), *(Pointwise(0, Epilogue()) for _ in range(MOST_LAYERS))),
]
BEYOND = [
    of((MOST_NUMBERS + 1,)),
    of((1, 2**14, 2**14 + 1)),
    empty(2**20, 2**11),
    empty(2, 2**31),
    padded((1, 1, 1), (LONGEST + 1, 0)),
    padded((1, 2**14 - 1, 2**14 - 1), (1, 1)),
    of(IMAGE, Pool(0, replace(POOLING, stride=(LONGEST + 1, 1)))),
    of((1, 2, MOST_NUMBERS // 4 + 1), Pool(0, replace(POOLING, padding=(1, 0)))),
    of(IMAGE, Pool(0, Pooling("max", (1, 1), (1, 1), (1, 0)))),
    of(IMAGE, Pool(0, Pooling("max", (3, 1), (1, 1), (2, 0), (2, 1)))),
    of((2**14,), Concatenate((0,) * (2**14 + 1))),
    of((1,), *(Pointwise(0, Epilogue()) for _ in range(MOST_LAYERS + 1))),
    of((1,), Concatenate((0,) * (MOST_LAYERS + 1))),
    # Products of such sizes leave 64 bits, and could come out as anything.
    of((2**26, 1, 1), replace(CONVOLUTION, kernel=(2**20, 2**20))),
    of(IMAGE, replace(CONVOLUTION, dilation=(2**62, 2**62))),
]


def test_the_limits_are_those_of_checks() -> None:
    kernels = engine_module._kernels()
    for name in ("MOST_NUMBERS", "MOST_WEIGHTS", "MOST_LAYERS", "LONGEST"):
        assert getattr(kernels, name) == getattr(checks, name)
    assert MOST_WEIGHTS == 2**31 - 1


@pytest.mark.parametrize("network", SOUND, ids=range(len(SOUND)))
def test_what_is_sound_there_is_so_here_and_has_the_same_shapes(network: Network) -> None:
    shapes = [list(shape) for shape in check_network(network)]
    assert engine_module._plan(network).check() == shapes


@pytest.mark.parametrize("network", BEYOND, ids=range(len(BEYOND)))
def test_what_is_beyond_the_limits_there_is_so_here(network: Network) -> None:
    with pytest.raises(InputError):
        check_network(network)
    with pytest.raises(ValueError, match=r"layer \d+: |input: |network: "):
        engine_module._plan(network).check()


def test_a_value_of_which_only_one_example_fits() -> None:
    """Side by side with others it would leave the 32 bits of the kernels' offsets."""
    network = of(
        (2**25,), Reshape(0, (1, 2**13, 2**12)), Pool(1, Pooling("max", (2, 2), (2**12, 2**11)))
    )
    engine = Engine(network)
    assert engine.instruction_set != "numpy"
    inputs = np.zeros((1, 2**25), np.float32)
    inputs[0, 2**12 * 2**12 + 2**11 + 1] = 3.0
    assert engine(inputs).tolist() == [[[[0.0, 0.0], [0.0, 3.0]]]]


def test_a_value_that_no_kernel_holds_is_left_to_numpy() -> None:
    """Each padding by itself is within the limits; zeros around one image for both are not."""
    tall = replace(PIXEL, padding=(LONGEST, 0))
    network = of((1, 1, 1), replace(PIXEL, padding=(0, LONGEST)), tall)
    with pytest.warns(RuntimeWarning, match="this network runs on NumPy alone"):
        engine = Engine(network)
    assert engine.instruction_set == "numpy"
    found = engine(np.full((1, 1, 1, 1), 2.0, np.float32))
    assert found.shape == (1, 1, 2 * LONGEST + 1, 1)
    assert found.sum() == found[0, 0, LONGEST, 0] == 2.0
