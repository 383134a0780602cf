import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import special

from gossamer.core.errors import InputError
from gossamer.leakage import Statistics, statistics
from gossamer.leakage import output_statistics as module

LOGITS = arrays.arrays(np.float64, (4, 5), elements=st.floats(-30, 30))
CLASSES = arrays.arrays(np.int64, 4, elements=st.integers(0, 4))


@given(LOGITS, CLASSES)
def test_statistics_are_their_definitions(
    logits: NDArray[np.float64], labels: NDArray[np.int64]
) -> None:
    found = statistics(logits, labels)
    for row, (scores, label) in enumerate(zip(logits, labels, strict=True)):
        others = np.delete(scores, label)
        p = special.softmax(scores)
        margin = scores[label] - special.logsumexp(others)
        assert found.margin[0, row] == pytest.approx(margin, rel=1e-6, abs=1e-6)
        assert found.lead[0, row] == pytest.approx(scores[label] - others.max(), rel=1e-6)
        assert found.entropy[0, row] == pytest.approx(special.entr(p).sum(), rel=1e-5, abs=1e-9)
        # 1 - p as the sum of the other probabilities.
        rest = np.array([np.delete(p, i).sum() for i in range(5)])
        modified = -rest[label] * np.log(p[label])
        modified -= sum(p[i] * np.log(rest[i]) for i in range(5) if i != label)
        assert found.modified_entropy[0, row] == pytest.approx(modified, rel=1e-5, abs=1e-9)
        log_probability = special.log_softmax(scores)[label]
        assert found.log_probability[0, row] == pytest.approx(log_probability, rel=1e-5, abs=1e-12)


@given(LOGITS, CLASSES)
def test_right_is_what_leads_alone(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    correct = statistics(logits, labels).correct[0]
    highest = logits.max(axis=1)
    alone = (logits == highest[:, None]).sum(axis=1) == 1
    right = (logits[np.arange(4), labels] == highest) & alone
    # Leads below the smallest float32 are lost; none is drawn that is not exactly 0 or larger.
    near = np.abs(statistics(logits, labels).lead[0]) < 1e-30
    assert (correct == right)[~near].all()


@given(LOGITS, CLASSES)
def test_probabilities_say_what_their_logits_say(
    logits: NDArray[np.float64], labels: NDArray[np.int64]
) -> None:
    first = statistics(logits, labels)
    second = statistics(special.softmax(logits, axis=1), labels, probabilities=True)
    np.testing.assert_allclose(first.margin, second.margin, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first.entropy, second.entropy, rtol=1e-5, atol=1e-9)


def test_no_precision_is_lost_next_to_certainty() -> None:
    found = statistics([[1 - 1e-12, 1e-12]], [0], probabilities=True)
    assert found.margin[0, 0] == pytest.approx(np.log(1e12), rel=1e-6)
    assert statistics([[800.0, 0.0, 0.0]], [0]).margin[0, 0] == pytest.approx(800 - np.log(2))
    assert statistics([[800.0, 0.0]], [1]).log_probability[0, 0] == pytest.approx(-800)


@pytest.mark.parametrize("label", [0, 1])
def test_certain_probabilities_have_finite_statistics(label: int) -> None:
    found = statistics([[1.0, 0.0, 0.0]], [label], probabilities=True)
    bound = 149 * np.log(2)
    assert abs(float(found.margin[0, 0])) <= bound + 1e-3
    assert abs(float(found.margin[0, 0])) > bound - np.log(2) - 1e-3


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(2, 50, 4)), generator.integers(0, 4, 50)
    whole = statistics(logits, labels)
    monkeypatch.setattr(module, "_CHUNK", 12)
    parts = statistics(logits, labels)
    for name in ("margin", "lead", "entropy", "modified_entropy"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_memory_is_sixteen_bytes_a_model_and_example() -> None:
    found = statistics(4 * np.eye(3)[None].repeat(5, axis=0), [0, 1, 2])
    arrays_ = (found.margin, found.lead, found.entropy, found.modified_entropy)
    assert sum(array.nbytes for array in arrays_) == 16 * 5 * 3


def test_stacking_and_selecting_keep_rows_and_columns() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 6, 4))
    labels = np.arange(6) % 4
    whole = statistics(logits, labels)
    stacked = Statistics.stack([statistics(part, labels) for part in logits])
    np.testing.assert_array_equal(stacked.margin, whole.margin)
    np.testing.assert_array_equal(whole.select(np.array([4, 1])).entropy, whole.entropy[:, [4, 1]])
    with pytest.raises(InputError, match=r"parts of \[5, 6\] examples"):
        Statistics.stack([whole, whole.select(np.arange(5))])


@pytest.mark.parametrize(
    ("logits", "labels", "probabilities", "message"),
    [
        ([[1.0, np.nan]], [0], False, "logits: model 0, example 0 holds NaN or infinity"),
        ([[0.5, 0.6]], [0], True, "probabilities: model 0, example 0 does not sum to one"),
        ([[1.5, -0.5]], [0], True, "model 0, example 0 holds a negative number"),
        ([[1.0, 0.0]], [[1, 1]], False, "or one-hot rows, each zeros and a single 1"),
        ([[1.0, 0.0]], [2], False, "from 2 to 2, expected class numbers from 0 to 1"),
        ([[1.0, 0.0]], [-1], False, "expected class numbers from 0 to 1"),
        ([[1.0, 0.0]], [0.5], False, "example 0 has 0.5, expected whole numbers"),
        ([[1.0, 0.0]], [0, 1], False, "each of the 1 examples"),
        ([[1.0]], [0], False, "at least two classes"),
        ([1.0, 0.0], [0, 1], False, "the shape is"),
        ([["a", "b"]], [0], False, "expected real numbers"),
        ([[1e300, 0.0]], [0], False, "example 0 has logits more than 1e.38 times the temp"),
        ([[1e308, -1e308]], [0], False, "example 0 has logits more than 1e.38 times the temp"),
    ],
)
def test_bad_input_is_refused(
    logits: object, labels: object, probabilities: bool, message: str
) -> None:
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        statistics(logits, labels, probabilities=probabilities)  # type: ignore[arg-type]


def test_a_wrong_number_is_named_by_model_and_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 6)
    logits = np.zeros((3, 10, 2))
    logits[2, 7, 1] = np.inf
    with pytest.raises(InputError, match="model 2, example 7"):
        statistics(logits, np.zeros(10, dtype=int))
