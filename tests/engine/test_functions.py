"""Functions of each number in the compiled kernels, against NumPy in float64."""

from typing import get_args

import numpy as np
import pytest

from engine_answers import COMPILED
from gossamer.engine import Network, run_portable
from gossamer.engine.native import Engine
from gossamer.engine.ops.function import Function, FunctionName

NAMES = get_args(FunctionName)
ALPHAS = {"power": (2.0, 3.0, -1.0, 2.5), "softplus": (1.0, 0.3), "at-least": (0.5,),
          "at-most": (-0.5,)}  # fmt: skip
HOSTILE = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, 1e-7, -1e-7, 20.5, -20.5, 88.5, -88.5,
           -95.0, 1e-30, -1e-30, 4194303.5, 8388607.5, -8388609.0, 1e10, -1e10, np.inf, -np.inf,
           np.nan]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.parametrize("examples", [1, 19])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_keep_their_digits_and_what_is_no_number(
    name: FunctionName, instruction_set: str, examples: int
) -> None:
    random = np.random.default_rng(0)
    inputs = (4 * random.standard_normal((examples, 3, 21))).astype(np.float32)
    inputs[0].flat[: len(HOSTILE)] = HOSTILE
    for alpha in ALPHAS.get(name, (1.0,)):
        network = Network((3, 21), (Function(0, name, alpha),), 1)
        exact = run_portable(network, inputs.astype(np.float64), np.float64)
        found = Engine(network, instruction_set)(inputs)
        expected = exact.astype(np.float32)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-15, err_msg=str(alpha))


@pytest.mark.parametrize("instruction_set", COMPILED)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_powers_of_e_reach_from_subnormal_numbers_to_infinity(instruction_set: str) -> None:
    inputs = np.linspace(-110, 95, 4001, dtype=np.float32)[None]
    network = Network((4001,), (Function(0, "exp"),), 1)
    expected = np.exp(inputs.astype(np.float64)).astype(np.float32)
    found = Engine(network, instruction_set)(inputs)
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=3e-45)


@pytest.mark.parametrize("instruction_set", COMPILED)
def test_softplus_keeps_its_digits_far_below_zero(instruction_set: str) -> None:
    inputs = np.linspace(-80, 80, 4001, dtype=np.float32)[None]
    network = Network((4001,), (Function(0, "softplus"),), 1)
    expected = np.logaddexp(0, inputs.astype(np.float64))
    found = Engine(network, instruction_set)(inputs)
    np.testing.assert_allclose(found, expected, rtol=4e-7)
