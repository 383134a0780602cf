"""Everything that is said and done of an attack follows from its one file."""

import csv
import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gossamer.core.errors import InputError
from gossamer.leakage import attacks, audit, statistics
from gossamer.leakage.attacks import (
    ATTACKS,
    HEADLINES,
    Attack,
    Case,
    attack_measures,
    attack_of,
    chosen_attacks,
    has_references,
    usual_attacks,
)
from gossamer.leakage.design import find_design
from gossamer.leakage.threshold_split import find_split
from gossamer.measures import condition_of, counted_examples
from gossamer.records.canonical import key_of
from gossamer.reporting import glossary
from gossamer.reporting.audit_page import write_audit
from gossamer.reporting.columns import column_of
from gossamer.reporting.results import interval_of
from gossamer.studies.joint_measures import JointTask
from gossamer.studies.spec import StudySpec, read_study

PairedMembers = Callable[..., NDArray[np.bool_]]


def outputs(members: NDArray[np.bool_], seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    generator = np.random.default_rng(seed)
    labels = np.asarray(generator.integers(0, 3, members.shape[1]))
    logits = generator.normal(size=(*members.shape, 3))
    logits[:, np.arange(len(labels)), labels] += members
    return logits, labels


# The registry


def test_every_file_of_the_folder_is_in_the_registry() -> None:
    helpers = {"attack", "class_thresholds", "likelihood_ratio"}
    files = {module.name for module in iter_modules(attacks.__path__)} - helpers
    assert files == {name for name in ATTACKS if not name.endswith(("_pooled", "_per_example"))}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_has_all_its_parts(name: str, paired_members: PairedMembers) -> None:
    attack = ATTACKS[name]
    assert attack.name == name
    for text in (attack.label, attack.phrase, attack.source, attack.requirement, attack.unit):
        assert text
        assert not text.endswith(".")
    assert attack.meaning[0].isupper()
    assert attack.meaning.endswith(".")
    assert attack.version >= 1
    assert bool(attack.fewest_references) == attack.mutual
    assert attack.threshold is None or not attack.in_sample
    assert not (attack.usual and (attack.in_sample or attack.versions == 2))
    members = paired_members(8, 60)
    design = find_design(members)
    logits, labels = outputs(members)
    both = statistics(logits, labels), statistics(0.5 * logits, labels)
    case = Case(both[0], labels, design, find_split(design, 0), 0, both[1])
    scores = attack.score(case, None)
    assert scores.shape == members.shape
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(attack.score(case, [5, 2]), scores[[5, 2]])


def test_labels_and_phrases_tell_attacks_apart() -> None:
    for part in ("label", "phrase"):
        assert len({getattr(attack, part) for attack in ATTACKS.values()}) == len(ATTACKS)


def test_what_runs_is_in_the_order_of_publication() -> None:
    years = [int(ATTACKS[name].source[-4:]) for name in usual_attacks()]
    assert years == sorted(years)
    assert years[0] == 2018
    assert set(HEADLINES) <= set(usual_attacks())
    assert [attack.name for attack in ATTACKS.values() if attack.in_sample] == ["best_threshold"]


def test_attacks_that_an_audit_cannot_be_asked_for_are_refused() -> None:
    for name in ("joint", "best_threshold"):
        with pytest.raises(InputError, match=f"no attack is called '{name}'"):
            chosen_attacks([name])


def test_names_of_measures_are_taken_apart() -> None:
    assert attack_of("lira_online_curve_tpr@0.001") is ATTACKS["lira_online"]
    assert attack_of("best_threshold_auc") is ATTACKS["best_threshold"]
    for name in ("best_threshold_tpr@0.01", "best_threshold_attack_accuracy", "lira_tpr@0.01"):
        assert attack_of(name) is None
    names = attack_measures()
    assert len(names) == len(set(names)) == 12 * 8 + 2
    assert all(attack_of(name) for name in names)
    assert {name for name in ATTACKS if has_references(f"{name}_auc")} == {
        name for name, attack in ATTACKS.items() if attack.references != "none"
    }


# An attack that is added


def _confidence_above_others(case: Case, targets: Any) -> NDArray[np.float64]:
    """The target's margin minus the mean of all others."""
    margins = case.statistics.margin.astype(np.float64)
    scores: NDArray[np.float64] = margins - (margins.sum(axis=0) - margins) / (len(margins) - 1)
    return scores if targets is None else scores[list(targets)]


TOY = Attack(
    name="toy",
    label="Toy (margin above the others)",
    phrase="toy attack",
    source="Nobody 2017",
    requirement="the target's output and models trained with and without each example",
    meaning="Accuses what the target is surer of than others.",
    unit="nats",
    references="in and out",
    score=_confidence_above_others,
    fewest_references=1,
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Attack:
    monkeypatch.setitem(ATTACKS, "toy", TOY)
    return TOY


STUDY = """
name = "toy"
title = "Toy"
question = "Does it leak?"
leakage = "paired-halves"

[data]
name = "digits"

[network]
name = "mlp"
hidden = [8]

[scales.quick]
seeds = 6

[[arms]]
name = "dense"
label = "Dense"
role = "baseline"
recipe = [{ step = "train", epochs = 1 }]

[[arms]]
name = "sparse"
label = "Sparse"
recipe = [{ step = "train", epochs = 1 }, { step = "prune", sparsity = 0.5 }]

[[claims]]
name = "toy"
text = "Sparse networks leak less."
compare = "sparse"
against = "dense"
measure = "toy_auc"
says = "lower"
"""


def test_an_added_attack_is_run_tabulated_drawn_and_explained(
    toy: Attack, paired_members: PairedMembers, tmp_path: Path
) -> None:
    members = paired_members(16, 400)
    found = audit(*outputs(members), members)
    result = found.attack("toy")
    assert (result.label, result.source) == (toy.label, toy.source)
    # Its intervals know that targets are each other's references.
    assert result.auc.method.endswith("widened as they are each other's references")
    assert result.auc.value > 0.6
    assert result.rate_at(0.01).tpr.low is not None
    assert len(result.roc) > 10
    text = write_audit(found, tmp_path, "toy").read_text()
    assert text.count(toy.label) >= 2
    assert toy.meaning in text
    lines = list(csv.DictReader((tmp_path / "audit.csv").read_text().splitlines()))
    assert {line["measure"] for line in lines if line["attack"] == "toy"} >= {"auc", "tpr"}
    one = audit(outputs(members)[0][0], outputs(members)[1], members[0])
    assert "toy" in {skipped.attack for skipped in one.skipped}


def studied(folder: Path) -> StudySpec:
    (folder / "toy.toml").write_text(STUDY)
    return read_study(str(folder / "toy.toml"))[0]


def test_an_added_attack_has_measures_columns_and_claims(toy: Attack, tmp_path: Path) -> None:
    measure = "toy_tpr@0.01"
    assert attack_of(measure) is toy
    assert measure in attack_measures()
    assert condition_of(measure) == "leakage"
    assert counted_examples(measure) == "train_examples"
    assert glossary.label(measure) == "TPR at 1% FPR of toy attack"
    column = column_of(measure)
    assert column is not None
    assert column.name == "ATTACK_tpr@0.01"
    # Intervals of the report are wider, as they are of attacks with references.
    plain, wide = (interval_of([0.5, 0.6, 0.7], name) for name in ("loss_auc", "toy_auc"))
    assert plain is not None
    assert wide is not None
    assert wide.half_width == pytest.approx(2 * (plain.half_width or 0))
    assert studied(tmp_path).claims[0].measure == "toy_auc"


def test_a_study_file_cannot_claim_by_an_attack_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'toy_auc', which is no measure"):
        studied(tmp_path)


def attack_key(kind: Any = "leakage") -> str:
    return JointTask(kind, "dense", 0.0, ()).key


@pytest.mark.parametrize("kind", ["leakage", "releases"])
def test_stores_written_before_attacks_had_versions_have_the_same_keys(kind: str) -> None:
    assert attack_key(kind) == key_of({"kind": kind, "version": 3, "records": [], "others": []})


def test_studies_attack_again_where_an_attack_is_added_or_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = [attack_key()]
    for attack in (TOY, dataclasses.replace(TOY, version=2), ATTACKS["loss"]):
        changed = dataclasses.replace(attack, version=2) if attack.name == "loss" else attack
        monkeypatch.setitem(ATTACKS, attack.name, changed)
        keys.append(attack_key())
    assert len(set(keys)) == 4
    assert attack_key("releases") == key_of(
        {"kind": "releases", "version": 3, "records": [], "others": []}
    )


def test_scores_say_where_they_are_from() -> None:
    for attack in ATTACKS.values():
        module = inspect.getmodule(attack.score)
        assert module is not None
        assert module.__name__.startswith("gossamer.leakage.attacks.")
