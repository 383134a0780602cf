from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.core.errors import InputError
from gossamer.leakage import archive, audit
from gossamer.leakage.archive import Contents, read_archive, read_array, read_contents
from gossamer.leakage.dry_run import DryRun, dry_run


def save(folder: Path, models: int, examples: int = 60, **changes: Any) -> Path:
    draws = np.random.default_rng(models)
    first = draws.random((max(models // 2, 1), examples)) < 0.5
    members = np.stack([first, ~first], axis=1).reshape(-1, examples)[:models]
    arrays: dict[str, Any] = {
        "logits": draws.normal(size=(models, examples, 3)).astype(np.float32),
        "labels": draws.integers(0, 3, examples),
        "members": members,
    }
    path = folder / "mine.npz"
    np.savez(path, **{**arrays, **changes})
    return path


def seen(path: Path) -> DryRun:
    return dry_run(read_contents(path))


@pytest.mark.parametrize("models", [1, 2, 4, 6, 8])
def test_the_attacks_foreseen_are_those_that_the_audit_runs(models: int, tmp_path: Path) -> None:
    path = save(tmp_path, models)
    foreseen = seen(path)
    given = read_archive(path)
    found = audit(given.logits, given.labels, given.members)
    usual = [attack.name for attack in found.attacks if not attack.optimistic]
    assert list(foreseen.possible) == usual
    assert foreseen.skipped == found.skipped
    assert (foreseen.models, foreseen.examples, foreseen.classes) == (models, 60, 3)


def test_references_are_counted_without_the_target_and_its_mate(tmp_path: Path) -> None:
    found = seen(save(tmp_path, 8)).references
    assert found is not None
    assert (found.in_lowest, found.in_highest, found.out_lowest, found.out_highest) == (3, 3, 3, 3)
    assert found.independent


def test_one_model_has_no_references(tmp_path: Path) -> None:
    assert seen(save(tmp_path, 1)).references is None


def test_members_are_counted(tmp_path: Path) -> None:
    members = np.zeros((2, 60), bool)
    members[0, :10] = members[1, :25] = True
    assert seen(save(tmp_path, 2, members=members)).members == (10, 25)


def test_a_model_whose_mate_is_missing_is_foreseen_to_be_left_out(tmp_path: Path) -> None:
    path = save(tmp_path, 8)
    given = read_archive(path)
    odd: dict[str, Any] = {"logits": given.logits.whole()[1:], "members": given.members[1:]}
    found = seen(save(tmp_path, 8, **odd))
    assert (found.models, found.left_out, found.design) == (6, (0,), "paired")
    assert found.references is not None
    assert found.references.independent
    assert seen(save(tmp_path, 8)).left_out == ()


def test_what_is_no_attack_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no attack is called 'lyra'"):
        dry_run(read_contents(save(tmp_path, 2)), ["lyra"])


def test_only_the_attacks_asked_for_are_judged(tmp_path: Path) -> None:
    found = dry_run(read_contents(save(tmp_path, 1)), ["loss", "rmia"])
    assert found.possible == ("loss",)
    assert [skipped.attack for skipped in found.skipped] == ["rmia"]


def test_what_does_not_fit_in_memory_is_refused_before_predictions_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(contents: Contents, name: str) -> Any:
        read.append(name)
        return read_array(contents, name)

    monkeypatch.setattr("gossamer.leakage.dry_run.read_array", noted)
    monkeypatch.setattr(archive, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match="GiB are available; audit fewer models"):
        seen(save(tmp_path, 4, pairs=np.array([0, 0, 1, 1])))
    assert sorted(read) == ["labels", "members"]


BAD: dict[str, dict[str, Any]] = {
    "logits of one dimension": {"logits": np.zeros(60)},
    "text": {"logits": np.full((2, 60, 3), "a")},
    "no examples": {"logits": np.zeros((2, 0, 3))},
    "one example": {"logits": np.zeros((2, 1, 3)), "labels": [0], "members": [[True], [False]]},
    "far apart": {"logits": np.random.default_rng(0).normal(size=(2, 60, 3)) * 1e300},
    "no models": {"logits": np.zeros((0, 60, 3))},
    "not a number": {"logits": np.full((2, 60, 3), np.nan)},
    "infinite": {"logits": np.full((2, 60, 3), np.inf)},
    "the same of every example": {"logits": np.ones((2, 60, 3))},
    "a model twice": {"logits": np.tile(np.random.default_rng(0).normal(size=(60, 3)), (2, 1, 1))},
    "probabilities": {
        "logits": np.tile(np.random.default_rng(0).dirichlet([1] * 3, 60), (2, 1, 1))
    },
    "examples first": {"logits": np.zeros((60, 2, 3))},
    "labels too few": {"labels": np.zeros(59, int)},
    "one-hot": {"labels": np.zeros((60, 3), int)},
    "label out of range": {"labels": np.full(60, 3)},
    "members too few": {"members": np.zeros((2, 59), bool)},
    "all in": {"members": np.ones((2, 60), bool)},
    "all out": {"members": np.zeros((2, 60), bool)},
    "twos": {"members": np.full((2, 60), 2)},
    "pairs of three": {"pairs": np.zeros(3, int)},
    "pairs of one": {"pairs": np.arange(2)},
    "pairs of the same": {"members": np.arange(60) < 30, "pairs": np.zeros(2, int)},
}


@pytest.mark.parametrize("case", BAD)
def test_what_the_audit_refuses_is_foreseen_in_the_same_words(case: str, tmp_path: Path) -> None:
    path = save(tmp_path, 2, **BAD[case])
    given = read_archive(path)
    with pytest.raises(InputError) as audited:
        audit(given.logits, given.labels, given.members, pairs=given.pairs)
    with pytest.raises(InputError) as foreseen:
        seen(path)
    assert str(foreseen.value) == str(audited.value)
