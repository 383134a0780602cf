"""How far off the outputs of a network may be in float32, and whether the kernels' are."""

import numpy as np
from numpy.typing import NDArray

from gossamer.engine import Floats, Network, run_portable
from gossamer.engine.native import Engine, available_instruction_sets

COMPILED = tuple(name for name in available_instruction_sets() if name != "numpy")


def allowed_error(
    network: Network,
    inputs: NDArray[np.float32],
    expected: NDArray[np.floating],
    tolerance: float = 1e-5,
) -> float:
    """Return a share of the largest output, and more where rounding does more than that.

    Where sums cancel, any float32 is off by what outputs move by for inputs that are off by some
    units of rounding: forward error is condition times backward error (Higham 2002, "Accuracy and
    Stability of Numerical Algorithms", section 1.6). Inputs have examples first; `expected` is what
    they give in float64.
    """
    finite = np.isfinite(expected)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], inputs.shape)
    moved = run_portable(network, inputs * (1 + 2.0**-20 * signs), dtype=np.float64)
    both = finite & np.isfinite(moved)
    reach = np.abs(moved[both] - expected[both]).max(initial=0.0)
    return float(tolerance * np.abs(expected[finite]).max(initial=0.0) + reach)


def assert_right(network: Network, inputs: Floats, tolerance: float = 1e-5) -> None:
    """Hold one example in the compiled kernels to float64, with any number of threads."""
    expected = run_portable(network, inputs[None], dtype=np.float64)[0]
    finite = np.isfinite(expected)
    allowed = allowed_error(network, inputs[None], expected[None], tolerance)
    for instruction_set in COMPILED:
        engine = Engine(network, instruction_set)
        found = engine(inputs[None])[0]
        np.testing.assert_array_equal(found[~finite], expected[~finite])
        error = np.abs(found[finite] - expected[finite]).max(initial=0.0)
        assert error <= allowed, (instruction_set, error, allowed)
        # Threads share out rows and channels, and add nothing up in another order.
        for threads in (2, 3):
            np.testing.assert_array_equal(engine(inputs[None], threads)[0], found)
