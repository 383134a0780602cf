import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.errors import InputError
from gossamer.kernels.network import Linear, Network
from gossamer.kernels.portable import run_portable
from gossamer.kernels.weights import pack_weights
from gossamer.runtime import container
from gossamer.runtime.file import read_network, write_network


def scattered(rows: int, columns: int, sparsity: float) -> Network:
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((rows, columns))
    matrix[generator.random((rows, columns)) < sparsity] = 0
    return Network((columns,), (Linear(0, pack_weights(matrix, "sparse")),), 1)


def test_a_network_read_predicts_what_the_written_one_did(network: Network, tmp_path: Path) -> None:
    metadata = {"classes": ["a", "b", "c", "é"], "accuracy": 0.1, "notes": {"seeds": [1, None]}}
    write_network(tmp_path / "n.gsm", network, metadata)
    found, told = read_network(tmp_path / "n.gsm")
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
    bad = Network((1,), (Linear(0, pack_weights(np.array([[np.nan]]), "sparse")),), 1)
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
        ("new.gsm", whole[:8] + b"\x02" + whole[9:], "is of version 2"),
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
    for header in ({}, {"metadata": 3, "network": {}, "writer": ""}):
        path.write_bytes(container.pack(header, []))
        with pytest.raises(InputError, match="expected metadata, network, writer"):
            read_network(path)


def hostile(rows: int, columns: int, kind: str, encoding: str, arrays: list[Any]) -> bytes:
    """Return a file of little that declares much; its checksum is right."""
    weights = {
        "kind": kind, "rows": rows, "columns": columns, "encoding": encoding,
        "pattern": list(range(len(arrays) - 1)), "values": len(arrays) - 1,
    }  # fmt: skip
    activation = {"name": "identity", "alpha": 1.0}
    epilogue = dict.fromkeys(("residual", "scale", "shift", "pooling"))
    layer = {
        "type": "linear", "input": 0, "weights": weights, "bias": None,
        "epilogue": {**epilogue, "activation": activation},
    }  # fmt: skip
    network = {"input_shape": [columns], "layers": [layer], "output": 1}
    return container.pack({"metadata": {}, "network": network, "writer": ""}, arrays)


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "encoding", "arrays"),
    [
        (2**15, 2**15, "dense", "full", [("float32", np.zeros((1, 1)))]),
        (2**15, 2**15, "dense", "full", [("float32", np.zeros((2**15, 0)))]),
        (2**15, 2**15, "sparse", "bitmap", [("uint8", np.zeros(9)), ("float32", np.zeros(0))]),
        (2**15, 2**15, "dense", "bitmap", [("uint8", np.zeros(9)), ("float32", np.zeros(0))]),
        (
            2**28, 4, "sparse", "columns",
            [("uint8", np.zeros(9)), ("uint8", np.zeros(0)), ("float32", np.zeros(0))],
        ),
        (
            9, 2**27, "sparse", "columns",
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


def test_reading_takes_a_few_times_the_memory_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "n.gsm"
    write_network(path, scattered(3000, 4000, 0.9))
    tracemalloc.start()
    read_network(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * path.stat().st_size
