"""The numbers by which GELU is computed in registers are those that its script finds."""

import re
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "cpp" / "simd"
SCRIPT = run_path(str(FOLDER / "gelu_pieces.py"))


@pytest.mark.parametrize(
    ("file", "name"), [(file, name) for file, tables in SCRIPT["TABLES"].items() for name in tables]
)
def test_the_numbers_are_those_that_are_fitted(file: str, name: str) -> None:
    text = (FOLDER / file).read_text()
    written = text[text.index(f"constexpr Pieces {name} =") :].partition("};\n")[0]
    found = np.array([float(one) for one in re.findall(r"(-?[\d.]+(?:e-?\d+)?)f", written)])
    table = SCRIPT["TABLES"][file][name]
    wanted = SCRIPT["fitted"](table)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-6, atol=1e-10)
    assert f"pieces_count = {table.pieces}, pieces_degree = {table.degree};" in text
    assert f"pieces_of_one = {1 / table.width:.9g}f;" in text
    z = np.linspace(0, (table.pieces - 1) * table.width, 20_001)
    piece = np.rint(z / table.width).astype(int)
    r = z / table.width - piece
    kept = sum(row[piece] * r**degree for degree, row in enumerate(found.reshape(wanted.shape)))
    error = np.abs(kept / table.share(z) - 1)
    assert error.max() < 3.3e-6
    assert error[z < 4].max() < 7e-7
