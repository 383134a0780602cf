"""The numbers by which GELU is computed in registers are those that its script finds."""

import re
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "cpp" / "simd"
SCRIPT = run_path(str(FOLDER / "gelu_pieces.py"))


@pytest.mark.parametrize("name", SCRIPT["TABLES"])
def test_the_numbers_are_those_that_are_fitted(name: str) -> None:
    text = (FOLDER / "gelu_pieces.hpp").read_text()
    table = text[text.index(f"constexpr Pieces {name} =") :].partition("};\n")[0]
    found = np.array([float(one) for one in re.findall(r"(-?[\d.]+(?:e-?\d+)?)f", table)])
    wanted = SCRIPT["fitted"](SCRIPT["TABLES"][name])
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-6, atol=1e-10)
    z = np.linspace(0, (SCRIPT["PIECES"] - 1) * SCRIPT["WIDTH"], 20_001)
    piece = np.rint(z / SCRIPT["WIDTH"]).astype(int)
    r = z / SCRIPT["WIDTH"] - piece
    kept = sum(row[piece] * r**degree for degree, row in enumerate(found.reshape(wanted.shape)))
    assert np.abs(kept / SCRIPT["TABLES"][name](z) - 1).max() < 3.3e-6
