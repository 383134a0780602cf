"""An audit says what it takes to repeat it, and keeps what every attack says of every example."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gossamer.leakage import audit, audit_statistics, statistics
from gossamer.leakage.provenance import arrays_source
from gossamer.records.example_scores import ExampleScores
from gossamer.records.leakage import Leakage, Provenance, Source

PairedMembers = Callable[..., NDArray[np.bool_]]
Given = dict[str, Any]


@pytest.fixture
def given(paired_members: PairedMembers) -> Given:
    members = paired_members(6, 120)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 120)
    logits = generator.normal(size=(6, 120, 3))
    logits[:, np.arange(120), labels] += members
    return {"logits": logits, "labels": labels, "members": members}


def made(leakage: Leakage) -> Provenance:
    assert leakage.provenance is not None
    return leakage.provenance


def test_provenance_is_what_was_asked_for(given: Given) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    found = audit(**given, attacks=["loss", "gap"], seed=7)
    told = found.to_dict()["provenance"]
    assert before <= datetime.fromisoformat(told["date"]) <= datetime.now(UTC)
    assert datetime.fromisoformat(told["date"]).tzinfo == UTC
    assert told["gossamer"] == version("gossamer")
    assert told["libraries"]["numpy"] == np.__version__
    assert (told["seed"], told["models"], told["given"]) == (7, 6, "logits")
    assert (told["attacks"], told["pairs"]) == (["loss", "gap"], False)
    assert told["source"]["name"] == "arrays"
    assert Leakage.model_validate(json.loads(json.dumps(found.to_dict()))) == found


def test_models_that_were_left_out_were_given(given: Given) -> None:
    found = audit(given["logits"][:5], given["labels"], given["members"][:5], attacks=["loss"])
    assert (found.models, made(found).models) == (4, 5)


def test_the_date_does_not_tell_audits_apart_and_all_else_does(given: Given) -> None:
    first, again = (audit(**given, attacks=["loss"]) for _ in range(2))
    later = made(again).model_copy(update={"date": "2031-01-01T00:00:00+00:00"})
    assert first == again.model_copy(update={"provenance": later})
    seeded = made(again).model_copy(update={"seed": 1})
    assert first != again.model_copy(update={"provenance": seeded})


def test_a_file_is_named_with_its_hash(given: Given) -> None:
    file = Source(name="mine.npz", sha256="0" * 64)
    assert made(audit(**given, attacks=["gap"], source=file)).source == file


def test_arrays_are_hashed_by_name_type_shape_and_numbers() -> None:
    array = np.arange(6, dtype="<i2").reshape(2, 3)
    expected = hashlib.sha256(b'["x", "<i2", [2, 3]]\n' + array.tobytes()).hexdigest()
    assert arrays_source("mine", {"x": array, "y": None}).sha256 == expected
    others: list[dict[str, Any]] = [
        {"y": array}, {"x": array.T}, {"x": array.ravel()}, {"x": array + 1},
        {"x": array.astype("<i4")}, {"x": array, "y": array},
    ]  # fmt: skip
    hashes = {arrays_source("mine", other).sha256 for other in others}
    assert len(hashes) == len(others)
    assert expected not in hashes


CHANGES: dict[str, Callable[[Any], Any]] = {
    "logits": lambda logits: 2 * logits,
    "labels": lambda labels: (labels + 1) % 3,
    "members": lambda members: ~members,
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_arrays_have_another_hash(given: Given, name: str) -> None:
    changed = {**given, name: CHANGES[name](given[name])}
    first, other = (made(audit(**each, attacks=["gap"])).source for each in (given, changed))
    assert first != other


def test_statistics_have_a_provenance_if_their_source_is_named(given: Given) -> None:
    found = statistics(given["logits"], given["labels"])
    more = {"labels": given["labels"], "members": given["members"], "attacks": ["gap"]}
    assert audit_statistics(found, **more).provenance is None
    file = Source(name="kept.npz", sha256="1" * 64)
    told = made(audit_statistics(found, **more, source=file))
    assert (told.source, told.given) == (file, "statistics")


def test_scores_are_those_that_the_numbers_were_counted_from(given: Given) -> None:
    kept: list[ExampleScores] = []
    logits, labels, members = given.values()
    found = audit(logits[:5], labels, members[:5], keep_scores=kept.append)
    (scores,) = kept
    assert scores.models == (0, 1, 2, 3)
    np.testing.assert_array_equal(scores.members, members[:4])
    np.testing.assert_array_equal(scores.labels, labels)
    assert tuple(scores.attacks) == tuple(attack.name for attack in found.attacks)
    for attack in found.attacks:
        for target, row, inside in zip(
            attack.per_model, scores.attacks[attack.name], members, strict=False
        ):
            higher = row[inside][:, None] - row[~inside]
            area = ((higher > 0) + 0.5 * (higher == 0)).mean()
            assert target.measures["auc"] == pytest.approx(area, abs=2e-4), attack.name
