"""The reader in docs/gsm-format.md, which shares no code with the package, reads its files."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.engine import Convolution, Linear, Network, Signature, unpack_weights
from gossamer.engine.gsm.bfloat16 import from_bfloat16, to_bfloat16
from gossamer.engine.gsm.file import write_network

PAGE = Path(__file__).parents[3] / "docs" / "gsm-format.md"


@pytest.fixture(scope="module")
def reader() -> dict[str, Any]:
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code is not None
    found: dict[str, Any] = {}
    exec(code.group(1), found)
    return found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_reader_on_the_page_reads_a_file(
    reader: dict[str, Any], network: Network, tmp_path: Path, precision: Any
) -> None:
    signature = Signature.of_shapes((2, 36), (2, 2))
    write_network(tmp_path / "n.gsm", network, {"name": "é"}, precision, signature)
    found, header = reader["read"](tmp_path / "n.gsm")
    assert header["metadata"] == {"name": "é"}
    assert (header["input_shape"], header["output_shape"]) == ([2, 36], [2, 2])
    assert found["input_shape"] == [2, 6, 6]
    assert found["output"] == 10
    compared = 0
    for layer, expected in zip(found["layers"], network.layers, strict=True):
        assert layer["type"] == type(expected).__name__.lower()
        if isinstance(expected, Linear | Convolution):
            matrix = unpack_weights(expected.weights)
            if precision == "bfloat16":
                matrix = from_bfloat16(to_bfloat16(matrix))
            np.testing.assert_array_equal(layer["weights"], matrix)
            compared += 1
            if expected.bias is not None:
                np.testing.assert_array_equal(layer["bias"], expected.bias)
    assert compared == 5
    scale = network.layers[1].epilogue.scale  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found["layers"][1]["epilogue"]["scale"], scale)
