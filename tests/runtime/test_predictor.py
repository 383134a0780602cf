from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gossamer.runtime.predictor as module
from gossamer.errors import InputError
from gossamer.kernels.network import Linear, Network
from gossamer.kernels.portable import run_portable
from gossamer.kernels.weights import pack_weights
from gossamer.runtime import Predictor, load, write_network


def test_a_loaded_network_predicts(network: Network, tmp_path: Path) -> None:
    write_network(tmp_path / "n.gsm", network, {"name": "mine"})
    predictor = load(tmp_path / "n.gsm")
    inputs = np.random.default_rng(2).standard_normal((9, 2, 6, 6))
    for threads in (None, 1, 3):
        found = predictor(inputs, threads)
        assert found.dtype == np.float32
        expected = run_portable(network, inputs, np.float64)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert predictor.input_shape == (2, 6, 6)
    assert predictor.output_shape == (4,)
    assert predictor.metadata == {"name": "mine"}
    assert repr(predictor) == "Predictor([2, 6, 6] -> [4], 10 layers)"


def test_inputs_of_any_layout_and_type_give_the_same(network: Network) -> None:
    predictor = Predictor(network, {})
    whole = np.random.default_rng(3).integers(-3, 4, (4, 6, 6, 2)).astype(np.float32)
    inputs = np.ascontiguousarray(whole.transpose(0, 3, 1, 2))
    expected = predictor(inputs)
    for same in (
        whole.transpose(0, 3, 1, 2),
        inputs.astype(np.int8),
        np.asfortranarray(inputs),
        inputs.astype(">f8"),
        inputs.tolist(),
    ):
        np.testing.assert_array_equal(predictor(same), expected)
    assert predictor(inputs[:0]).shape == (0, 4)


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2", 1025])
def test_threads_are_a_positive_number(network: Network, threads: Any) -> None:
    with pytest.raises(InputError, match="expected a whole number from 1"):
        Predictor(network, {})(np.zeros((1, 2, 6, 6)), threads)


@pytest.mark.parametrize("inputs", [np.zeros((2, 6, 6)), np.zeros((1, 2, 6, 5)), 3, [["a"]]])
def test_inputs_of_another_shape_are_refused(network: Network, inputs: Any) -> None:
    with pytest.raises(InputError, match=r"expected \[examples, 2, 6, 6\]"):
        Predictor(network, {})(inputs)


def test_complex_inputs_are_refused(network: Network) -> None:
    with pytest.raises(InputError, match="of type complex128, expected real numbers"):
        Predictor(network, {})(np.zeros((1, 2, 6, 6), complex))


def test_an_unsound_network_is_refused() -> None:
    with pytest.raises(InputError, match="input is 1"):
        Predictor(Network((1,), (Linear(1, pack_weights(np.ones((1, 1)), "dense")),), 1), {})


def test_memory_that_runs_out_is_said(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(network, {})

    def exhausted(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(predictor, "_engine", exhausted)
    with pytest.raises(InputError, match="predict fewer at a time"):
        predictor(np.zeros((1, 2, 6, 6)))


def test_as_many_threads_as_cores_are_the_default(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    predictor = Predictor(network, {})
    monkeypatch.setattr(predictor, "_engine", lambda _, threads: seen.append(threads))
    monkeypatch.setattr(module, "available_cores", lambda: 5)
    predictor(np.zeros((1, 2, 6, 6)))
    predictor(np.zeros((1, 2, 6, 6)), 2)
    assert seen == [5, 2]
