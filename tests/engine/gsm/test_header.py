import copy
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.engine import Convolution, Linear, Network, check_network, pack_weights
from gossamer.engine.gsm.bfloat16 import from_bfloat16, to_bfloat16
from gossamer.engine.gsm.header import build_network, describe_network


def assert_same(found: Any, expected: Any) -> None:
    """Compare values field by field, arrays bit by bit."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
    elif is_dataclass(expected):
        for field in fields(expected):
            assert_same(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def test_a_network_comes_back_bit_by_bit(network: Network) -> None:
    header, arrays = describe_network(network)
    assert_same(build_network(json.loads(json.dumps(header)), arrays), network)


def test_each_encoding_is_used(network: Network) -> None:
    header, _ = describe_network(network)
    used = {
        (layer["weights"]["layout"], layer["weights"]["encoding"])
        for layer in header["layers"]
        if "weights" in layer
    }
    assert used == {
        ("csr", "bitmap"), ("block", "bitmap"), ("dense", "bitmap"), ("csr", "columns")
    }  # fmt: skip


@pytest.mark.parametrize(("density", "encoding"), [(1.0, "full"), (0.5, "bitmap"), (0.0, "bitmap")])
def test_dense_weights_leave_zeros_out_where_that_is_smaller(density: float, encoding: str) -> None:
    generator = np.random.default_rng(0)
    matrix = np.where(generator.random((9, 7)) < density, -1.5, 0.0)
    matrix[0, 0] = -0.0
    expected = Network((7,), (Linear(0, pack_weights(matrix, "dense")),), 1)
    header, arrays = describe_network(expected)
    assert header["layers"][0]["weights"]["encoding"] == encoding
    assert_same(build_network(json.loads(json.dumps(header)), arrays), expected)


def test_bfloat16_rounds_the_weights_and_nothing_else(network: Network) -> None:
    header, arrays = describe_network(network, "bfloat16")
    found = build_network(json.loads(json.dumps(header)), arrays)
    for one, other in zip(found.layers, network.layers, strict=True):
        if isinstance(other, Linear | Convolution):
            rounded = from_bfloat16(to_bfloat16(other.weights.values))
            assert_same(one, replace(other, weights=replace(other.weights, values=rounded)))
        else:
            assert_same(one, other)


def test_a_weight_beyond_bfloat16_is_refused() -> None:
    layer = Linear(0, pack_weights(np.array([[3.4028e38]]), "dense"))
    with pytest.raises(InputError, match="beyond the range of bfloat16"):
        describe_network(Network((1,), (layer,), 1), "bfloat16")


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts the last of `path` where the others lead to."""
    *way, last, value = path

    def change(header: dict[str, Any]) -> None:
        place: Any = header
        for key in way:
            place = place[key]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda header: header.pop("output"), "network: has input_shape, layers, expected"),
        (_set("more", 1), "network: has input_shape, layers, more, output"),
        (_set("new\nline", 1), "'new\\nline', output"),
        (_set("layers", {}), "layers must be a list"),
        (_set("layers", 0, 5), "layer 0: is 5, expected an object"),
        (_set("layers", 0, "type", "dropout"), "type is 'dropout', expected one of attention"),
        (_set("layers", 0, "type", []), "type is []"),
        (_set("layers", 0, "type", "pool"), "layer 0: has bias"),
        (_set("layers", 0, "kernel", [3, 2]), "weights have 18 columns, expected 12"),
        (_set("layers", 0, "kernel", [[3], 3]), "kernel is ([3], 3)"),
        (_set("layers", 0, "kernel", "33"), "kernel is '33'"),
        (_set("layers", 0, "bias", 1e3), "bias is 1000.0, expected the number of an array"),
        (_set("layers", 0, "bias", 0), "that nothing else names"),
        (_set("layers", 0, "bias", -1), "bias is -1"),
        (_set("layers", 0, "bias", None), "belongs to no layer"),
        (_set("layers", 0, "epilogue", None), "epilogue is None"),
        (_set("layers", 1, "epilogue", "pooling", 3), "layer 1: epilogue: pooling: has 3"),
        (_set("layers", 2, "pooling", None), "pooling is None, expected Pooling"),
        (_set("layers", 0, "weights", None), "weights: has None"),
        (_set("layers", 0, "weights", "rows", -4), "-4 rows"),
        (_set("layers", 0, "weights", "rows", 2**62), "expected at most 2147483647 weights"),
        (_set("layers", 0, "weights", "columns", 2**30), "expected at most 2147483647 weights"),
        (_set("layers", 0, "weights", "columns", 1.0), "1.0 columns"),
        (_set("layers", 0, "weights", "columns", 9), "bitmap has 9 bytes, expected 5"),
        (_set("layers", 0, "weights", "columns", 7), "a bitmap of 7 columns"),
        (_set("layers", 0, "weights", "layout", "coo"), "layout is 'coo'"),
        (_set("layers", 4, "weights", "layout", "block"), "bitmap has 4 bytes, expected 1"),
        (_set("layers", 4, "weights", "columns", 7), "bitmap of 32 bits, expected 28"),
        (_set("layers", 0, "weights", "encoding", "full"), "is none of layout csr"),
        (_set("layers", 0, "weights", "encoding", ["full"]), "is none of layout csr"),
        (_set("layers", 0, "weights", "encoding", "columns"), "expected 2 arrays"),
        (_set("layers", 0, "weights", "pattern", [1]), "is of type float32, expected uint8"),
        (_set("layers", 0, "weights", "values", 3), "is of type uint8, expected float32 or"),
        (_set("layers", 3, "inputs", 3), "inputs is 3"),
        (_set("layers", 3, "inputs", [[2], 3]), "inputs is [2]"),
        (_set("input_shape", None), "input_shape is None"),
        (_set("input_shape", [2, 6, {}]), "input_shape is (2, 6, {})"),
        (_set("output", 1.0), "output is 1.0"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    network: Network, change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    header, arrays = describe_network(network)
    header = json.loads(json.dumps(header))
    change(header)
    with pytest.raises(InputError) as caught:
        check_network(build_network(copy.deepcopy(header), arrays))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dense_weights_need_a_value_for_each_bit() -> None:
    matrix = np.array([[1.0, 0, 0, 0, 0, 0, 0, 0, 0]])
    header, arrays = describe_network(Network((9,), (Linear(0, pack_weights(matrix, "dense")),), 1))
    bits, values = arrays
    for wrong in (np.array([3, 0]), np.array([0, 0])):
        with pytest.raises(InputError, match="one for each bit that is set"):
            build_network(header, [("uint8", wrong.astype(np.uint8)), values])
    with pytest.raises(InputError, match="expected 9, and then zeros"):
        build_network(header, [("uint8", np.array([1, 2], np.uint8)), values])
    assert bits[1].tolist() == [1, 0]
