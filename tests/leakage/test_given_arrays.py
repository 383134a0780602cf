"""What an audit is given, in every form that is easily given by mistake."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gossamer.core.errors import InputError
from gossamer.leakage import audit
from gossamer.leakage.given_arrays import checked_labels, checked_logits, checked_members

EXAMPLES, MODELS = 60, 4
DRAWS = np.random.default_rng(0)
MEMBERS = np.stack([DRAWS.permutation(EXAMPLES) < EXAMPLES // 2 for _ in range(MODELS)])
LABELS = DRAWS.integers(0, 2, EXAMPLES)
LOGITS = DRAWS.normal(size=(MODELS, EXAMPLES, 2))
LOGITS[:, np.arange(EXAMPLES), LABELS] += 2 * MEMBERS
RIGHT = audit(LOGITS, LABELS, MEMBERS, attacks=["gap", "loss", "confidence"])


def audited(**changed: Any) -> Any:
    given = {"logits": LOGITS, "labels": LABELS, "members": MEMBERS, **changed}
    return audit(**given, attacks=["gap", "loss", "confidence"])


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": LABELS[:, None]},
        {"labels": np.eye(2)[LABELS]},
        {"labels": np.tile(LABELS, (MODELS, 1))},
        {"labels": LABELS.astype(bool)},
        {"labels": LABELS.astype(float).tolist()},
        {"members": MEMBERS.astype(np.int8)},
        {"members": MEMBERS.astype(float).tolist()},
        {"members": MEMBERS[:, :, None]},
        {"members": torch.from_numpy(MEMBERS)},
        {"logits": torch.tensor(LOGITS, requires_grad=True), "labels": torch.from_numpy(LABELS)},
        {"logits": np.asfortranarray(LOGITS)},
        {"logits": LOGITS.tolist()},
        {"logits": [torch.tensor(part, requires_grad=True) for part in LOGITS]},
    ],
)
def test_every_form_gives_the_same_audit(changed: dict[str, Any]) -> None:
    found = audited(**changed)
    assert found == RIGHT
    assert found.to_dict()["provenance"]["source"] == RIGHT.to_dict()["provenance"]["source"]


@pytest.mark.parametrize("form", [lambda row: row, lambda row: row[:, None], lambda row: row[None]])
def test_one_row_of_members_is_that_of_every_model(form: Callable[[Any], Any]) -> None:
    expected = np.tile(MEMBERS[0], (MODELS, 1))
    np.testing.assert_array_equal(checked_members(form(MEMBERS[0]), MODELS, EXAMPLES), expected)
    np.testing.assert_array_equal(checked_members(form(MEMBERS[0]), 1, EXAMPLES), expected[:1])


def following(check: Callable[[Any], Any], name: str, values: Any, **names: Any) -> Any:
    """Return what the advice of a refusal, followed to the letter, gives; it is not refused."""
    with pytest.raises(InputError) as caught:
        check(values)
    expression = str(caught.value).partition("pass ")[2].removesuffix(".")
    advised = eval(expression, {"numpy": np, name: values, "x": values, **names})
    return check(advised)


@pytest.mark.parametrize(
    "values",
    [
        MEMBERS.T,
        2 * MEMBERS.astype(int) - 1,
        (2 * MEMBERS.astype(int) - 1).tolist(),
        np.where(MEMBERS, 1.0, -1.0),
        np.where(MEMBERS, "train", "test"),
        np.where(MEMBERS, "train", "test").tolist(),
        np.where(MEMBERS, b"train", b"test"),
    ],
)
def test_advice_about_members_is_right_to_the_letter(values: Any) -> None:
    word = b"train" if np.asarray(values).dtype.kind == "S" else "train"
    found = following(
        lambda given: checked_members(given, MODELS, EXAMPLES), "members", values, word=word
    )
    np.testing.assert_array_equal(found, MEMBERS)


@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist])
def test_positions_of_members_are_told_to_be_flags(form: Callable[[Any], Any]) -> None:
    positions = form(np.flatnonzero(MEMBERS[0]))
    found = following(lambda given: checked_members(given, 1, EXAMPLES), "members", positions)
    np.testing.assert_array_equal(found, MEMBERS[:1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((MODELS, EXAMPLES), bool), "model 0 has 60 members among 60 examples"),
        (np.ones(EXAMPLES), "model 0 has 60 members among 60 examples"),
        (np.full(EXAMPLES, 2), "members: expected true and false, or 1 and 0, and nothing else."),
        (np.full(EXAMPLES, np.nan), "expected true and false"),
        (np.full(EXAMPLES, None), "expected true and false"),
        (MEMBERS[:3], "the shape is (3, 60), expected [4, 60]"),
        (MEMBERS[:, :1], "expected [4, 60]"),
        ([[True], [True, False]], "members: cannot be read as an array (lists of different"),
    ],
)
def test_other_members_are_one_sentence(values: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_members(values, MODELS, EXAMPLES)
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "labels", [np.zeros(EXAMPLES), np.eye(2)[np.zeros(EXAMPLES, int)], [[1]] * EXAMPLES]
)
@pytest.mark.parametrize("classes", [2, None])
def test_labels_of_one_class_are_refused_in_any_form(labels: Any, classes: int | None) -> None:
    with pytest.raises(InputError, match=r"every example is of class [01], expected examples of"):
        checked_labels(labels, EXAMPLES, classes)


def test_a_single_output_is_told_to_be_two() -> None:
    one = np.random.default_rng(0).normal(size=(3, EXAMPLES, 1))
    logits = following(lambda given: checked_logits(given, "logits"), "logits", one)
    np.testing.assert_array_equal(logits[..., 1] - logits[..., 0], one[..., 0])
    shares = 1 / (1 + np.exp(-one))
    rows = following(lambda given: checked_logits(given, "probabilities"), "probabilities", shares)
    np.testing.assert_allclose(np.log(rows[..., 1] / rows[..., 0]), one[..., 0])


def test_labels_that_are_no_columns_of_the_logits_are_noted() -> None:
    assert not any("naming the commonest class" in note for note in RIGHT.notes)
    swapped = audited(labels=1 - LABELS)
    assert any("the labels are not the columns of the logits" in note for note in swapped.notes)


@pytest.mark.parametrize("pairs", [[0, 0, 1, 1], [[7], [7], [2], [2]], torch.tensor([1, 1, 0, 0])])
def test_pairs_are_numbers_in_any_form(pairs: Any) -> None:
    members = np.stack([MEMBERS[0], ~MEMBERS[0], MEMBERS[1], ~MEMBERS[1]])
    assert audited(members=members, pairs=pairs).paired


def test_advice_about_pairs_is_right_to_the_letter() -> None:
    members = np.stack([MEMBERS[0], ~MEMBERS[0], MEMBERS[1], ~MEMBERS[1]])
    with pytest.raises(InputError, match="give each pair a number of its own"):
        audited(members=members, pairs=[0, 0, 0, 0])
    with pytest.raises(InputError, match="leave out models whose mate is missing"):
        audited(members=members[:3], pairs=[0, 0, 1], logits=LOGITS[:3])
    assert audited(members=members[:2], pairs=[0, 0], logits=LOGITS[:2]).paired
    with pytest.raises(
        InputError, match=r"models 0 and 2 were trained on the same .*leave pairs out"
    ):
        audited(members=members[[0, 1, 0, 1]], pairs=[0, 1, 0, 1])
    assert audited(members=members[[0, 1, 0, 1]]).paired


@pytest.mark.parametrize("seed", ["x", 1.5, None])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(InputError, match=r"seed: is .*, expected a whole number"):
        audit(LOGITS, LABELS, MEMBERS, attacks="loss", seed=seed)
    number: Any = np.int64(3)
    found = audit(LOGITS, LABELS, MEMBERS, attacks="loss", seed=number)
    assert found.to_dict()["provenance"]["seed"] == 3
    assert found.to_dict()["provenance"]["attacks"] == ["loss"]


def test_a_model_saved_twice_is_left_out_as_advised() -> None:
    twice = [0, 1, 2, 1]
    with pytest.raises(InputError, match=r"models 1 and 3 have the same margin .* leave one out"):
        audited(logits=LOGITS[twice], members=MEMBERS[twice])
    left = audited(logits=LOGITS[twice[:3]], members=MEMBERS[twice[:3]])
    assert left.models == 3
    expected = [target for target in RIGHT.attack("gap").per_model if target.model < 3]
    assert list(left.attack("gap").per_model) == expected


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("form", [lambda rows: rows, lambda rows: rows.T])
def test_axes_in_another_order_are_told_apart(
    order: tuple[int, ...], form: Callable[[Any], Any]
) -> None:
    """Three classes, so that four models, which members tell, are not taken for them."""
    logits = DRAWS.normal(size=(MODELS, EXAMPLES, 3))
    members = form(MEMBERS)
    turned = np.transpose(logits, order)
    with pytest.raises(InputError, match=r"pass numpy\.transpose") as refused:
        audit(turned, LABELS, members)
    advice = re.search(r"pass (numpy\.transpose\(logits, \([\d, ]+\)\))", str(refused.value))
    assert advice
    followed = eval(advice[1], {"numpy": np, "logits": turned})
    np.testing.assert_array_equal(followed, logits)


def test_the_axes_of_one_model_are_told_apart() -> None:
    logits = DRAWS.normal(size=(EXAMPLES, 3))
    with pytest.raises(InputError, match=r"pass numpy\.transpose\(logits, \(1, 0\)\)"):
        audit(logits.T, LABELS, MEMBERS[0])


@pytest.mark.parametrize(("examples", "told"), [(5, True), (90, True), (100, False)])
def test_too_few_examples_are_said_to_tell_nothing(examples: int, told: bool) -> None:
    members = np.arange(examples) % 2 == 0
    labels = np.arange(examples) // 2 % 2
    logits = np.random.default_rng(0).normal(size=(examples, 2))
    found = audit(logits, labels, members, attacks=["gap", "loss"])
    said = [note for note in found.notes if "too few to tell anything" in note]
    assert len(said) == told
    assert all("narrower than 20 from 97 examples" in note for note in said)
    assert not any("-0.0000" in check.detail for check in found.checks)
