from typing import Any

import numpy as np
import pytest

from gossamer.engine import Network, Shape, Softmax
from gossamer.runtime.prediction_table import classifies, described, probabilities
from gossamer.runtime.predictor import Predictor

LOGITS = np.log(np.array([[1, 3, 4], [2, 2, 4], [8, 1, 1]], np.float32))


def predictor(shape: Shape, **metadata: Any) -> Predictor:
    return Predictor(Network(shape, (), 0), metadata)


def test_classes_are_named_and_counted() -> None:
    lines = list(described(predictor((3,), classes=["cat", "dog", "sea horse"]), LOGITS))
    assert lines == [
        "Example  Probability  Class",
        "      0        50.0%  sea horse",
        "      1        50.0%  sea horse",
        "      2        80.0%  cat",
        "",
        "Examples  Share  Class",
        "       2  66.7%  sea horse",
        "       1  33.3%  cat",
        "       0   0.0%  dog",
    ]


@pytest.mark.parametrize("classes", [None, ["a"], "abc", [[], {}]])
def test_classes_without_names_have_numbers(classes: Any) -> None:
    lines = list(described(predictor((3,), classes=classes), LOGITS))
    assert lines[3] == "      2        80.0%  0"


def test_names_cannot_write_to_the_terminal() -> None:
    names = ["\x1b[31mred", 5, None]
    lines = list(described(predictor((3,), classes=names), LOGITS))
    assert lines[-3:] == [
        "       2  66.7%  ?",
        "       1  33.3%  '\\x1b[31mred'",
        "       0   0.0%  5",
    ]


def test_long_lists_are_cut() -> None:
    outputs = np.eye(30, dtype=np.float32)
    lines = list(described(predictor((30,)), outputs))
    assert "and 20 more examples" in lines
    assert lines[-1] == "and 10 more classes"
    assert "and 1 more example" in list(described(predictor((30,)), outputs[:11]))


def test_other_outputs_are_shown_as_numbers() -> None:
    assert list(described(predictor((1,)), np.array([[0.5], [-12345.678]], np.float32))) == [
        "Example  Output",
        "      0          0.5",
        "      1       -12346",
    ]
    lines = list(described(predictor((2, 2, 2)), np.zeros((1, 2, 2, 2), np.float32)))
    assert lines[1].endswith("  ...")


def test_nothing_is_said_to_be_nothing() -> None:
    assert list(described(predictor((3,)), np.zeros((0, 3), np.float32))) == ["No examples."]


def test_what_gives_one_number_or_images_is_no_classifier() -> None:
    assert classifies(predictor((2,)))
    assert not classifies(predictor((1,)))
    assert not classifies(predictor((2, 1, 1)))


@pytest.mark.parametrize("layers", [(), (Softmax(0),), (Softmax(0, logarithm=True),)])
def test_probabilities_are_the_softmax_however_the_network_ends(layers: Any) -> None:
    network = Network((3,), layers, len(layers))
    outputs = Predictor(network, {})(LOGITS)
    expected = [[0.125, 0.375, 0.5], [0.25, 0.25, 0.5], [0.8, 0.1, 0.1]]
    np.testing.assert_allclose(probabilities(network, outputs), expected, rtol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    outputs = np.array([[1e4, -1e4]], np.float32)
    assert probabilities(Network((2,), (), 0), outputs).tolist() == [[1, 0]]
