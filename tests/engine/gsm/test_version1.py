"""Files that an earlier gossamer wrote, one of each kind, with what it computed for them."""

from pathlib import Path

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.engine import Engine, available_instruction_sets, run_portable, weights_of
from gossamer.engine.gsm import read_network
from gossamer.engine.gsm.container import pack, unpack, version_of
from gossamer.engine.gsm.version1 import from_version1
from gossamer.runtime import load

FILES = sorted((Path(__file__).parents[1] / "data" / "version1").glob("*.gsm"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_version_1_gives_what_it_gave(path: Path) -> None:
    assert version_of(path.read_bytes()) == 1
    network, metadata, signature = read_network(path)
    assert metadata == {"classes": ["a", "é"], "accuracy": 0.5}
    with np.load(path.with_suffix(".npz")) as archive:
        inputs, expected = archive["inputs"], archive["outputs"]
    examples = inputs.reshape(len(inputs), *network.input_shape)
    shape = signature.outputs[0].shape
    found = run_portable(network, examples, np.float64).reshape(len(inputs), *shape)
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(load(path)(inputs), expected, rtol=1e-4, atol=1e-5)
    for instruction_set in available_instruction_sets():
        given = Engine(network, instruction_set)(examples).reshape(expected.shape)
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_every_layer_and_layout_of_version_1_is_among_them() -> None:
    layers = [layer for path in FILES for layer in read_network(path)[0].layers]
    assert {layer.name for layer in layers} == {
        "linear", "convolution", "pool", "pointwise", "concatenate", "reshape", "softmax"
    }  # fmt: skip
    weights = [found for layer in layers if (found := weights_of(layer)) is not None]
    assert {found.layout for found in weights} == {"dense", "csr", "block"}


def test_the_words_of_one_version_are_not_those_of_the_other(tmp_path: Path) -> None:
    data = next(path for path in FILES if path.stem == "mlp").read_bytes()
    header, arrays = unpack(data)
    (tmp_path / "n.gsm").write_bytes(pack(header, arrays))  # which says that it is of version 2
    with pytest.raises(InputError, match="layer 0: weights: has columns, encoding, kind"):
        read_network(tmp_path / "n.gsm")
    with pytest.raises(InputError, match="weights are of kind 'csr', expected dense, sparse or"):
        from_version1({"layers": [{"weights": {"kind": "csr"}}]})


@pytest.mark.parametrize("network", [None, [], {}, {"layers": 3}, {"layers": [3, {}]}])
def test_what_is_no_network_is_left_to_others_to_refuse(network: object) -> None:
    assert from_version1(network) == network
