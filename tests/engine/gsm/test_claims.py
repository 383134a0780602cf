import tracemalloc

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.engine import (
    Concatenate,
    Convolution,
    Epilogue,
    Network,
    Operator,
    Pool,
    Pooling,
    Shape,
    check_network,
    pack_weights,
    run_portable,
)
from gossamer.engine.gsm.claims import MOST_EXPANSION, SMALL_VALUES, check_values, numbers_held

MIXED = pack_weights(np.ones((6, 2)), "dense")


def convolution(padding: int, stride: int = 1, pooling: Pooling | None = None) -> Convolution:
    epilogue = Epilogue(pooling=pooling)
    pair = (padding, padding)
    return Convolution(0, MIXED, (1, 1), (stride, stride), pair, epilogue=epilogue)


@pytest.mark.parametrize(
    "layers",
    [
        (convolution(padding=300),),
        (convolution(padding=300, stride=500),),
        (convolution(padding=200, pooling=Pooling("max", (9, 9), (300, 300), (4, 4))),),
        (Pool(0, Pooling("average", (400, 400), (400, 400), (200, 200))),),
        (Concatenate((0,) * 20), Concatenate((1,) * 20)),
    ],
)
def test_running_takes_no_more_than_the_numbers_counted(layers: tuple[Operator, ...]) -> None:
    network = Network((2, 16, 16), layers, len(layers))
    counted = numbers_held(network, check_network(network))
    tracemalloc.start()
    run_portable(network, np.ones((1, 2, 16, 16), np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 4 * counted + 2**17


def test_numbers_are_those_of_values_padding_and_sums_before_pooling() -> None:
    pooling = Pooling("max", (2, 2), (2, 2), (1, 1))
    network = Network((2, 4, 4), (convolution(padding=1, pooling=pooling),), 1)
    shapes = check_network(network)
    assert shapes == ((2, 4, 4), (6, 4, 4))
    padded, sums, padded_sums = 2 * 6 * 6, 6 * 6 * 6, 6 * 8 * 8
    assert numbers_held(network, shapes) == 32 + padded + sums + padded_sums + 96


def test_the_bound_grows_with_the_example_and_with_what_is_stored() -> None:
    def check(length: int, copies: int, stored: int) -> None:
        network = Network((length,), (Concatenate((0,) * copies),), 1)
        check_values(network, [(length,), (length * copies,)], stored)

    check(1, SMALL_VALUES + MOST_EXPANSION - 1, stored=0)
    with pytest.raises(InputError, match="its values hold"):
        check(1, SMALL_VALUES + MOST_EXPANSION, stored=0)
    check(1, SMALL_VALUES + 2 * MOST_EXPANSION - 1, stored=4)
    check(2, SMALL_VALUES // 2 + MOST_EXPANSION - 1, stored=0)


@pytest.mark.parametrize(
    ("shape", "depth"),
    [((1, 1, 16_000), 12), ((1, 28, 28), 50), ((3, 224, 224), 20)],
)
def test_wide_and_deep_networks_stay_in_proportion(shape: Shape, depth: int) -> None:
    """Hundreds of channels at full size, and hardly any weights: more than what networks do."""
    each = pack_weights(np.ones((512, 1)), "csr")
    first = Convolution(0, pack_weights(np.ones((512, shape[0])), "dense"), (1, 1))
    deeper = [Convolution(n, each, (1, 1), groups=512) for n in range(1, depth)]
    network = Network(shape, (first, *deeper), depth)
    check_values(network, check_network(network), stored=4 * 512 * depth)
