from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gossamer.runtime.predictor as module
from gossamer.core.errors import InputError
from gossamer.engine import Convolution, Linear, Network, Signature, pack_weights, run_portable
from gossamer.engine.gsm import write_network
from gossamer.runtime import Predictor, load


def test_a_loaded_network_predicts(network: Network, tmp_path: Path) -> None:
    write_network(tmp_path / "n.gsm", network, {"name": "mine"})
    predictor = load(tmp_path / "n.gsm")
    inputs = np.random.default_rng(2).standard_normal((9, 2, 6, 6))
    for threads in (None, 1, 3):
        found = predictor(inputs, threads=threads)
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
        np.asfortranarray(inputs),
        inputs.astype(">f8"),
        inputs.astype(np.float16),
        np.repeat(inputs, 2, axis=0)[::2],
        inputs[::-1][::-1],
        inputs.tolist(),
    ):
        np.testing.assert_array_equal(predictor(same), expected)
    np.testing.assert_array_equal(predictor(inputs[::-1]), expected[::-1])
    assert predictor(inputs[:0]).shape == (0, 4)


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2", 1025])
def test_threads_are_a_positive_number(network: Network, threads: Any) -> None:
    with pytest.raises(InputError, match="expected a whole number from 1"):
        Predictor(network, {})(np.zeros((1, 2, 6, 6)), threads=threads)


@pytest.mark.parametrize(
    "inputs", [np.zeros((2, 6, 6)), np.zeros((1, 2, 6, 5)), 3, [["a"]], [[1.0], [1.0, 2.0]]]
)
def test_inputs_of_another_shape_are_refused(network: Network, inputs: Any) -> None:
    with pytest.raises(InputError, match=r"expected \[examples, 2, 6, 6\]"):
        Predictor(network, {})(inputs)


def test_an_example_may_be_a_single_number() -> None:
    network = Network((1,), (Linear(0, pack_weights(np.full((1, 1), 2.0), "dense")),), 1)
    predictor = Predictor(network, {}, Signature.of_shapes((), ()))
    np.testing.assert_array_equal(predictor([1.0, 2.0, 3.0]), np.array([2, 4, 6], np.float32))
    with pytest.raises(InputError, match=r"expected \[examples\]"):
        predictor([[1], [2]])


def test_complex_inputs_are_refused(network: Network) -> None:
    with pytest.raises(InputError, match="of type complex128, expected floating-point numbers"):
        Predictor(network, {})(np.zeros((1, 2, 6, 6), complex))


@pytest.mark.parametrize("value", [1e300, -1e39])
def test_numbers_beyond_float32_are_refused(network: Network, value: float) -> None:
    with pytest.raises(InputError, match=r"beyond 3.403e\+38"):
        Predictor(network, {})(np.full((1, 2, 6, 6), value))


def test_examples_come_and_go_in_the_shapes_of_the_model(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    weights = pack_weights(generator.standard_normal((5, 9)), "dense")
    network = Network((3, 1, 20), (Convolution(0, weights, (1, 3)),), 1)
    write_network(tmp_path / "n.gsm", network, signature=Signature.of_shapes((3, 20), (5, 18)))
    predictor = load(tmp_path / "n.gsm")
    assert (predictor.input_shape, predictor.output_shape) == ((3, 20), (5, 18))
    inputs = generator.standard_normal((7, 3, 20))
    expected = run_portable(network, inputs.reshape(7, 3, 1, 20), np.float64).reshape(7, 5, 18)
    np.testing.assert_allclose(predictor(inputs), expected, rtol=1e-5, atol=1e-5)
    assert predictor(inputs[:0]).shape == (0, 5, 18)
    with pytest.raises(InputError, match=r"expected \[examples, 3, 20\]"):
        predictor(inputs.reshape(7, 3, 1, 20))


def test_an_unsound_network_is_refused() -> None:
    with pytest.raises(InputError, match="input is 1"):
        Predictor(Network((1,), (Linear(1, pack_weights(np.ones((1, 1)), "dense")),), 1), {})


def test_memory_that_runs_out_is_said(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(network, {})

    def exhausted(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(predictor.plans.for_shapes(()).engine, "run", exhausted)
    with pytest.raises(InputError, match="predict fewer at a time"):
        predictor(np.zeros((1, 2, 6, 6)))


def test_as_many_threads_as_cores_are_the_default(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(module, "available_cores", lambda: 5)
    predictor = Predictor(network, {})
    monkeypatch.setattr(module, "available_cores", lambda: pytest.fail("asked at each call"))

    def run(inputs: tuple[np.ndarray, ...], threads: int) -> tuple[np.ndarray, ...]:
        seen.append(threads)
        return (np.zeros((len(inputs[0]), 4), np.float32),)

    monkeypatch.setattr(predictor.plans.for_shapes(()).engine, "run", run)
    predictor(np.zeros((1, 2, 6, 6)))
    predictor(np.zeros((1, 2, 6, 6)), threads=2)
    assert seen == [5, 2]
