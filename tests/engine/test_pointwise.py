import math

import numpy as np

from gossamer.engine.activations import Activation, activate, complementary_error


def test_complementary_error_is_that_of_the_standard_library() -> None:
    x = np.concatenate([np.linspace(-8, 26.5, 40_001), [0.46875, 4.0, -0.46875, -4.0, 0.0, 1e-300]])
    expected = np.array([math.erfc(number) for number in x])
    np.testing.assert_allclose(complementary_error(x), expected, rtol=2e-15)


def test_complementary_error_at_the_ends() -> None:
    found = complementary_error(np.array([np.inf, -np.inf, np.nan, 30.0, -30.0]))
    np.testing.assert_array_equal(found, [0, 2, np.nan, 0, 2])


def test_gelu_keeps_its_digits_where_it_is_small() -> None:
    x = np.linspace(-9, -3, 101)
    expected = [0.5 * v * math.erfc(-v / math.sqrt(2)) for v in x]
    np.testing.assert_allclose(activate(Activation("gelu"), x), expected, rtol=1e-13)


def test_nan_stays_nan() -> None:
    for name in ("relu", "relu6", "leaky-relu", "elu", "gelu", "silu", "hardswish", "tanh"):
        assert np.isnan(activate(Activation(name), np.array([np.nan]))).all()
