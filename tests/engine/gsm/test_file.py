import json
import os
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.engine import (
    Concatenate,
    Convolution,
    Linear,
    Network,
    Signature,
    pack_weights,
    run_portable,
    unpack_weights,
)
from gossamer.engine.gsm import container
from gossamer.engine.gsm.file import read_network, write_network
from gossamer.engine.gsm.header import describe_network


def scattered(rows: int, columns: int, sparsity: float) -> Network:
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((rows, columns))
    matrix[generator.random((rows, columns)) < sparsity] = 0
    return Network((columns,), (Linear(0, pack_weights(matrix, "csr")),), 1)


def test_a_network_read_predicts_what_the_written_one_did(network: Network, tmp_path: Path) -> None:
    metadata = {"classes": ["a", "b", "c", "é"], "accuracy": 0.1, "notes": {"seeds": [1, None]}}
    write_network(tmp_path / "n.gsm", network, metadata)
    found, told, _ = read_network(tmp_path / "n.gsm")
    assert told == metadata
    inputs = np.random.default_rng(1).standard_normal((7, 2, 6, 6))
    np.testing.assert_array_equal(run_portable(found, inputs), run_portable(network, inputs))


@pytest.mark.parametrize(
    ("sparsity", "precision", "most"),
    [
        (0.5, "float32", 0.54), (0.9, "float32", 0.135), (0.99, "float32", 0.017),
        (0.9, "bfloat16", 0.085), (0.0, "float32", 1.04),
    ],
)  # fmt: skip
def test_a_file_is_a_small_part_of_the_dense_network(
    tmp_path: Path, sparsity: float, precision: Any, most: float
) -> None:
    write_network(tmp_path / "n.gsm", scattered(500, 784, sparsity), None, precision)
    assert (tmp_path / "n.gsm").stat().st_size <= most * 4 * 500 * 784


def test_writing_replaces_a_file_whole_or_leaves_it(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "n.gsm"
    write_network(path, network, {"name": "first"})
    with pytest.raises(InputError):
        write_network(path, network, {"name": object()})
    assert read_network(path)[1] == {"name": "first"}
    write_network(path, network, {"name": "second"})
    assert read_network(path)[1] == {"name": "second"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["n.gsm"]


def test_what_cannot_be_written_is_said(network: Network, tmp_path: Path) -> None:
    bad = Network((1,), (Linear(0, pack_weights(np.array([[np.nan]]), "csr")),), 1)
    for path, given, metadata, precision, complaint in (
        (tmp_path / "no" / "n.gsm", network, {}, "float32", "no such file or directory"),
        (tmp_path, network, {}, "float32", "cannot be written"),
        (tmp_path / "n.gsm", bad, {}, "float32", "weights.values holds nan"),
        (tmp_path / "n.gsm", network, {1: 2}, "float32", "names must be text"),
        (tmp_path / "n.gsm", network, {}, "float16", "expected float32 or bfloat16"),
    ):
        with pytest.raises(InputError, match=complaint):
            write_network(path, given, metadata, precision)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_said(network: Network, tmp_path: Path) -> None:
    write_network(tmp_path / "n.gsm", network)
    whole = (tmp_path / "n.gsm").read_bytes()
    os.mkfifo(tmp_path / "pipe.gsm")
    for name, content, complaint in (
        ("empty.gsm", b"", "is empty"),
        ("short.gsm", whole[:40], "ends after 40 bytes"),
        ("cut.gsm", whole[:-64], "as it declares"),
        ("more.gsm", whole + b"\n", "as it declares"),
        ("damaged.gsm", whole[:-70] + b"x" + whole[-69:], "its checksum does not match"),
        ("text.gsm", b"hello, world\n" * 10, "is no .gsm file"),
        ("new.gsm", whole[:8] + b"\x03" + whole[9:], "is of version 3"),
        ("none.gsm", None, "is not there"),
        ("pipe.gsm", None, "is no file"),
        ("", None, "is a folder"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_network(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert complaint in str(caught.value)


def test_a_header_with_other_things_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.gsm"
    shapes = {"input_shape": [1], "output_shape": [1]}
    for header in ({}, {"metadata": 3, "network": {}, "writer": "", **shapes}):
        path.write_bytes(container.pack(header, []))
        with pytest.raises(InputError, match="expected input_shape, metadata, network, output_sh"):
            read_network(path)


def with_network(
    network: dict[str, Any], arrays: list[Any], inputs: list[Any], outputs: list[Any]
) -> bytes:
    """Return a file with a right checksum."""
    header = {
        "input_shape": inputs, "metadata": {}, "network": network, "output_shape": outputs,
        "writer": "",
    }  # fmt: skip
    return container.pack(header, arrays)


def hostile(rows: int, columns: int, kind: str, encoding: str, arrays: list[Any]) -> bytes:
    """Return a file of little that declares much; its checksum is right."""
    weights = {
        "layout": kind, "rows": rows, "columns": columns, "encoding": encoding,
        "pattern": list(range(len(arrays) - 1)), "values": len(arrays) - 1,
    }  # fmt: skip
    activation = {"name": "identity", "alpha": 1.0}
    epilogue = dict.fromkeys(("residual", "scale", "shift", "pooling"))
    layer = {
        "type": "linear", "input": 0, "weights": weights, "bias": None,
        "epilogue": {**epilogue, "activation": activation},
    }  # fmt: skip
    network = {"input_shape": [columns], "layers": [layer], "output": 1}
    return with_network(network, arrays, [columns], [rows])


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "encoding", "arrays"),
    [
        (2**15, 2**15, "dense", "full", [("float32", np.zeros((1, 1)))]),
        (2**15, 2**15, "dense", "full", [("float32", np.zeros((2**15, 0)))]),
        (2**15, 2**15, "csr", "bitmap", [("uint8", np.zeros(9)), ("float32", np.zeros(0))]),
        (2**15, 2**15, "dense", "bitmap", [("uint8", np.zeros(9)), ("float32", np.zeros(0))]),
        (
            2**28, 4, "csr", "columns",
            [("uint8", np.zeros(9)), ("uint8", np.zeros(0)), ("float32", np.zeros(0))],
        ),
        (
            9, 2**27, "csr", "columns",
            [("uint32", np.full(9, 2**32 - 1)), ("uint8", np.zeros(0)), ("float32", np.zeros(0))],
        ),
    ],
)  # fmt: skip
def test_a_small_file_that_declares_much_takes_little_memory(
    tmp_path: Path, rows: int, columns: int, kind: str, encoding: str, arrays: list[Any]
) -> None:
    (tmp_path / "n.gsm").write_bytes(hostile(rows, columns, kind, encoding, arrays))
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            read_network(tmp_path / "n.gsm")
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def peak_of_reading(path: Path) -> int:
    tracemalloc.start()
    try:
        with suppress(InputError):
            read_network(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def first_bits(count: int, of: int) -> Any:
    return ("uint8", np.packbits(np.arange(of) < count, bitorder="little"))


def held(count: int) -> Any:
    return ("bfloat16", np.full(count, 0x3F80))


NOTHING = ("float32", np.zeros(0))


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "encoding", "arrays"),
    [
        (2**10, 2**10, "dense", "bitmap", [first_bits(2**15, 2**20), held(2**15)]),
        (2**19, 8, "csr", "bitmap", [first_bits(0, 2**22), NOTHING]),
        (2**16, 8, "csr", "bitmap", [first_bits(2**19, 2**19), held(2**19)]),
        (
            2**19, 1, "csr", "columns",
            [("uint8", np.zeros(2**19)), ("uint8", np.zeros(0)), NOTHING],
        ),
        (2**10, 2**10, "dense", "full", [("bfloat16", np.full((2**10, 2**10), 0x3F80))]),
    ],
)  # fmt: skip
def test_files_at_the_bounds_are_read_within_the_promised_memory(
    tmp_path: Path, rows: int, columns: int, kind: str, encoding: str, arrays: list[Any]
) -> None:
    path = tmp_path / "n.gsm"
    path.write_bytes(hostile(rows, columns, kind, encoding, arrays))
    assert read_network(path)[2] == Signature.of_shapes((columns,), (rows,))
    assert peak_of_reading(path) < 48 * path.stat().st_size


@pytest.mark.parametrize("item", ["[[[[[[[[]]]]]]]]", "[]", "{}", '{"a":1}', '"\U0001d11e"', "1e9"])
def test_headers_of_many_things_are_read_within_the_promised_memory(
    tmp_path: Path, item: str
) -> None:
    path = tmp_path / "n.gsm"
    network = {"input_shape": [1], "layers": [], "output": 0}
    metadata = {"much": [json.loads(item)] * (2**18 // len(item))}
    header = {
        "input_shape": [1], "metadata": metadata, "network": network, "output_shape": [1],
        "writer": "",
    }  # fmt: skip
    path.write_bytes(container.pack(header, []))
    del header, metadata
    assert "much" in read_network(path)[1]
    assert peak_of_reading(path) < 48 * path.stat().st_size


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "arrays", "complaint"),
    [
        (2**23, 1, "csr", [first_bits(0, 2**23), NOTHING], "a bitmap of 1 columns"),
        (2**20, 7, "block", [first_bits(0, 7 * 2**18), NOTHING], "a bitmap of 7 columns"),
        (2**11, 2**12, "dense", [first_bits(0, 2**23), NOTHING], "with 0 values"),
        (2**11, 2**12, "dense", [first_bits(9, 2**23), held(2**18 - 1)], "with 262143 values"),
    ],
)
def test_bitmaps_of_next_to_nothing_are_refused_before_anything_is_made_of_them(
    tmp_path: Path, rows: int, columns: int, kind: str, arrays: list[Any], complaint: str
) -> None:
    path = tmp_path / "n.gsm"
    path.write_bytes(hostile(rows, columns, kind, "bitmap", arrays))
    with pytest.raises(InputError, match=complaint):
        read_network(path)
    assert peak_of_reading(path) < 4 * path.stat().st_size


@pytest.mark.parametrize("kind", ["dense", "csr", "block"])
@pytest.mark.parametrize(("rows", "columns"), [(500, 70), (60, 7), (70, 1), (3, 2000)])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.96, 0.98, 1.0])
def test_whatever_is_written_can_be_read(
    tmp_path: Path, kind: Any, rows: int, columns: int, sparsity: float
) -> None:
    generator = np.random.default_rng(0)
    matrix = np.where(generator.random((rows, columns)) < sparsity, 0, 1.5)
    layer = Linear(0, pack_weights(matrix, kind))
    write_network(tmp_path / "n.gsm", Network((columns,), (layer,), 1))
    found = read_network(tmp_path / "n.gsm")[0].layers[0]
    assert isinstance(found, Linear)
    np.testing.assert_array_equal(unpack_weights(found.weights), matrix)


def test_values_out_of_proportion_are_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "n.gsm"
    weights = pack_weights(np.ones((1, 1)), "csr")
    padded = Network((1, 1, 1), (Convolution(0, weights, (1, 1), padding=(7000, 7000)),), 1)
    with pytest.raises(InputError, match="its values hold"):
        write_network(path, padded)
    doubled = Network((2**10,), tuple(Concatenate((n, n)) for n in range(18)), 18)
    description, arrays = describe_network(doubled)
    path.write_bytes(with_network(description, arrays, [2**10], [2**28]))
    with pytest.raises(InputError, match="its values hold 536869888 numbers"):
        read_network(path)
    assert peak_of_reading(path) < 2**21


@pytest.mark.parametrize(
    ("inputs", "outputs", "complaint"),
    [
        ([3, 2], [700], "input_shape is (3, 2), expected a shape of 72 numbers"),
        ([2, 36], [5], "output_shape is (5,), expected a shape of 4 numbers"),
        ([72.0], [4], "input_shape is (72.0,)"),
        ([-72, -1], [4], "input_shape is (-72, -1)"),
        ([True, 72], [4], "input_shape is (True, 72)"),
        ([[72]], [4], "input_shape is ([72],)"),
        (72, [4], "input_shape is 72"),
        (None, [4], "input_shape is None"),
        ([72], [1] * 8 + [4], "of at most 8 lengths"),
        ([72, 2**62, 2**62], [4], "expected a shape of 72"),
    ],
)
def test_shapes_of_examples_fit_the_network(
    network: Network, tmp_path: Path, inputs: Any, outputs: Any, complaint: str
) -> None:
    path = tmp_path / "n.gsm"
    description, arrays = describe_network(network)
    path.write_bytes(with_network(description, arrays, inputs, outputs))
    with pytest.raises(InputError) as caught:
        read_network(path)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shapes_of_examples_come_back(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "n.gsm"
    write_network(path, network)
    assert read_network(path)[2] == Signature.of_shapes((2, 6, 6), (4,))
    write_network(path, network, signature=Signature.of_shapes((72,), (2, 1, 2)))
    assert read_network(path)[2] == Signature.of_shapes((72,), (2, 1, 2))
    with pytest.raises(InputError, match="output_shape"):
        write_network(path, network, signature=Signature.of_shapes((72,), (5,)))


def test_reading_takes_a_few_times_the_memory_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "n.gsm"
    write_network(path, scattered(3000, 4000, 0.9))
    tracemalloc.start()
    read_network(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * path.stat().st_size
