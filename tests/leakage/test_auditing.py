import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from gossamer.core.errors import InputError
from gossamer.leakage import audit, audit_statistics, self_tests, statistics
from gossamer.leakage.attacks import ATTACKS, usual_attacks
from gossamer.records.leakage import Leakage

Members = NDArray[np.bool_]
PairedMembers = Callable[..., Members]


def outputs(
    members: Members, gain: float = 1.0, classes: int = 4, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits of models that are surer of what they were trained on, and labels."""
    generator = np.random.default_rng(seed)
    examples = members.shape[1]
    labels = np.asarray(generator.integers(0, classes, examples), dtype=np.int64)
    logits = generator.normal(size=(*members.shape, classes))
    logits[:, np.arange(examples), labels] += gain * members + 2 * generator.normal(size=examples)
    return logits, labels


def test_every_attack_runs_on_eight_pairs(paired_members: PairedMembers) -> None:
    members = paired_members(16, 2000)
    found = audit(*outputs(members), members)
    assert tuple(attack.name for attack in found.attacks) == (*usual_attacks(), "best_threshold")
    assert found.passed, found.checks
    assert {check.name for check in found.checks} == {
        "null", "null, strongest attack", "floor", "rates", "labels", "references",
    }  # fmt: skip
    assert found.paired
    assert found.references is not None
    assert (found.references.in_lowest, found.references.in_highest) == (7, 7)
    assert not found.skipped
    for attack in found.attacks:
        assert attack.auc.value > 0.52, attack.name
        assert attack.auc.low is not None
        mutual = attack.name in (
            "quantile_regression",
            "rmia",
            "base",
            "lira_offline",
            "lira_online",
        )
        widened = ", widened as they are each other's references" if mutual else ""
        assert attack.auc.method == f"bootstrap over 8 pairs{widened}"
        assert len(attack.per_model) == 16
        assert len(attack.roc) <= 200
        rates = [(point.fpr, point.tpr) for point in attack.roc]
        assert rates == sorted(rates)
        assert rates[-1] == (1.0, 1.0)
        assert rates[0][0] == pytest.approx(1 / max((~members).sum(axis=1)))
    # Examples differ in hardness more than membership moves them.
    online = found.attack("lira_online")
    assert online.auc.value > found.attack("loss").auc.value + 0.05
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert Leakage.model_validate(found.to_dict()) == found


def test_means_are_those_of_the_targets(paired_members: PairedMembers) -> None:
    members = paired_members(16, 600)
    found = audit(*outputs(members), members, attacks=["loss"]).attack("loss")
    at = found.rate_at(0.01)
    measures = [target.measures for target in found.per_model]
    assert found.auc.value == pytest.approx(np.mean([m["auc"] for m in measures]))
    assert at.tpr.value == pytest.approx(np.mean([m["tpr@0.01"] for m in measures]))
    assert at.realised_fpr == pytest.approx(np.mean([m["fpr@0.01"] for m in measures]))
    assert at.curve_tpr.value == pytest.approx(np.mean([m["curve_tpr@0.01"] for m in measures]))
    assert found.advantage.value == pytest.approx(2 * found.balanced_accuracy.value - 1)
    prior = {p.prior: p.value for p in at.precision}[0.1]
    expected = 0.1 * at.tpr.value / (0.1 * at.tpr.value + 0.9 * at.realised_fpr)
    assert prior == pytest.approx(expected)


def test_the_gap_attack_is_the_accuracy_gap(paired_members: PairedMembers) -> None:
    members = paired_members(4, 500)
    logits, labels = outputs(members)
    found = audit(logits, labels, members, attacks=["gap"])
    right = logits.argmax(axis=2) == labels
    for target in found.attack("gap").per_model:
        inside = members[target.model]
        rates = [right[target.model, side].mean() for side in (inside, ~inside)]
        assert target.measures["balanced_accuracy"] == pytest.approx((1 + rates[0] - rates[1]) / 2)
        assert target.measures["auc"] == pytest.approx((1 + rates[0] - rates[1]) / 2)


def test_one_model_gets_threshold_attacks_and_reasons() -> None:
    members = np.random.default_rng(0).random(3000) < 0.5
    logits, labels = outputs(members[None])
    found = audit(logits[0], labels, members)
    assert [attack.name for attack in found.attacks] == [
        "gap", "loss", "confidence", "entropy", "modified_entropy", "best_threshold",
    ]  # fmt: skip
    assert {skipped.attack for skipped in found.skipped} == {
        "quantile_regression", "rmia", "base", "lira_offline", "lira_online",
    }  # fmt: skip
    with pytest.raises(InputError, match="because one model was given"):
        found.attack("lira_online")
    assert found.passed, found.checks
    assert found.headline == "loss"
    assert any("other half" in note for note in found.notes)
    loss = found.attack("loss")
    assert loss.rate_at(0.01).tpr.method == (
        "Clopper-Pearson over examples, widened for the threshold's own error"
    )
    assert loss.balanced_accuracy.low is not None
    assert loss.balanced_accuracy.low < loss.balanced_accuracy.value
    assert found.exposed == ()
    assert found.references is None


def test_thresholds_in_sample_are_optimistic_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(self_tests, "PERMUTATIONS", 2)
    # Nothing leaks: only a threshold that saw what it judges finds something.
    fair, optimistic = [], []
    for seed in range(40):
        members = np.random.default_rng(seed).random(200) < 0.5
        logits, labels = outputs(members[None], gain=0.0, seed=seed)
        found = audit(logits, labels, members, attacks=["loss"])
        fair.append(found.attack("loss").balanced_accuracy.value)
        baseline = found.attack("best_threshold")
        assert baseline.optimistic
        assert baseline.tpr_at == ()
        optimistic.append(baseline.balanced_accuracy.value)
    assert np.mean(fair) == pytest.approx(0.5, abs=0.015)
    assert np.mean(optimistic) > 0.53


@pytest.mark.parametrize(("models", "runs"), [(2, False), (4, False), (6, True)])
def test_lira_needs_two_references_a_side(
    paired_members: PairedMembers, models: int, runs: bool
) -> None:
    members = paired_members(models, 400)
    found = audit(*outputs(members), members)
    names = {attack.name for attack in found.attacks}
    assert ("lira_online" in names) == runs
    assert ("rmia" in names) == (models >= 4)
    if models == 4:
        assert found.attack("rmia").auc.low is None
        assert found.attack("loss").auc.low is not None
    assert found.passed, found.checks
    if not runs:
        reason = {skipped.attack: skipped.reason for skipped in found.skipped}["lira_online"]
        assert "2 other models that trained on an example and as many that did not" in reason


def test_models_of_the_same_examples_have_no_references() -> None:
    members = np.random.default_rng(0).random(500) < 0.5
    found = audit(*outputs(np.tile(members, (3, 1))), members)
    assert found.headline == "loss"
    assert all("trained on the same examples" in skipped.reason for skipped in found.skipped)
    assert found.passed, found.checks


def test_shadow_models_drawn_at_random_serve_too() -> None:
    members = np.random.default_rng(0).random((12, 1500)) < 0.5
    found = audit(*outputs(members), members, attacks=["lira_online", "rmia"])
    assert not found.paired
    assert found.passed, found.checks
    assert found.attack("lira_online").auc.value > 0.6
    assert found.attack("lira_online").auc.method.startswith("bootstrap over 12 models, widened")


def test_examples_in_half_of_the_models_each_are_attacked_fairly() -> None:
    members = np.random.default_rng(0).random((8, 3000)).argsort(axis=0) < 4
    nothing = audit(*outputs(members, gain=0.0), members, attacks=["lira_online", "loss"])
    assert nothing.passed, nothing.checks
    assert nothing.attack("lira_online").auc.value == pytest.approx(0.5, abs=0.01)
    assert any("same number of models" in note for note in nothing.notes)


def test_test_examples_that_no_model_saw_may_be_there(paired_members: PairedMembers) -> None:
    members = np.hstack([paired_members(8, 800), np.zeros((8, 200), dtype=bool)])
    found = audit(*outputs(members), members, attacks=["loss", "lira_online"])
    assert found.paired
    assert found.passed, found.checks
    assert any("200 examples that every model or no model" in note for note in found.notes)


def test_gaussian_margins_reach_what_theory_allows() -> None:
    generator = np.random.default_rng(0)
    members = np.arange(40_000) < 20_000
    margins = generator.normal(size=40_000) + members
    labels = np.arange(40_000) // 10_000 % 2
    logits = np.stack([margins, np.zeros(40_000)], axis=1)
    logits[labels == 1] = logits[labels == 1, ::-1]
    found = audit(logits, labels, members, attacks=["loss"]).attack("loss")
    assert found.auc.value == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.005)
    assert found.balanced_accuracy.value == pytest.approx(stats.norm.cdf(0.5), abs=0.005)
    tpr = stats.norm.sf(stats.norm.isf(0.01) - 1)
    assert found.rate_at(0.01).tpr.value == pytest.approx(tpr, abs=0.01)
    assert found.rate_at(0.01).realised_fpr == pytest.approx(0.01, abs=0.002)


def test_probabilities_and_statistics_say_what_logits_say(paired_members: PairedMembers) -> None:
    members = paired_members(6, 300)
    logits, labels = outputs(members)
    first = audit(logits, labels, members, attacks=["lira_online"])
    second = audit(
        special.softmax(logits, axis=2), labels, members, probabilities=True,
        attacks=["lira_online"],
    )  # fmt: skip
    assert second.attacks[0].auc.value == pytest.approx(first.attacks[0].auc.value, abs=1e-4)
    kept = audit_statistics(
        statistics(logits, labels), labels, members, classes=4, attacks=["lira_online"]
    )
    assert kept.model_copy(update={"provenance": first.provenance}) == first


def test_variances_are_pooled_below_64_models(paired_members: PairedMembers) -> None:
    names = ["lira_online", "lira_online_pooled", "lira_online_per_example"]
    for models, twin in ((8, "lira_online_pooled"), (64, "lira_online_per_example")):
        members = paired_members(models, 150)
        found = audit(*outputs(members), members, attacks=names)
        assert found.attack("lira_online").auc == found.attack(twin).auc
        other = next(name for name in names[1:] if name != twin)
        assert found.attack("lira_online").auc != found.attack(other).auc


def test_the_most_exposed_examples_are_found(paired_members: PairedMembers) -> None:
    members = paired_members(8, 500)
    logits, labels = outputs(members, gain=0.2)
    memorised = [3, 77, 400]
    for example in memorised:
        logits[:, example, labels[example]] += 12 * members[:, example] - 6
    found = audit(logits, labels, members, attacks=["gap"]).exposed
    assert sorted(exposed.example for exposed in found[:3]) == memorised
    assert [e.score for e in found] == sorted((e.score for e in found), reverse=True)
    first = found[0]
    right = logits.argmax(axis=2)[:, first.example] == labels[first.example]
    inside = members[:, first.example]
    assert first.label == labels[first.example]
    assert (first.member_models, first.other_models) == (4, 4)
    assert first.member_accuracy == right[inside].mean()
    assert first.other_accuracy == right[~inside].mean()


def test_the_sentence_of_one_attack_has_its_interval(paired_members: PairedMembers) -> None:
    members = paired_members(16, 2500)
    found = audit(*outputs(members, gain=3.0), members, attacks=["gap", "lira_online"])
    tpr = found.attack("lira_online").rate_at(0.001).tpr
    assert tpr.low is not None
    assert tpr.high is not None
    start = (
        "An attacker who may accuse 1 in 1,000 innocents correctly picks out "
        f"{100 * tpr.value:.1f}% of the training examples, "
        f"[{100 * tpr.low:.1f}, {100 * tpr.high:.1f}] (LiRA, online; "
    )
    assert found.sentence.startswith(start)
    assert (found.headline, found.strongest, found.compared) == ("lira_online", "lira_online", 1)


def test_the_sentence_does_not_claim_a_rate_that_was_not_kept() -> None:
    # Thresholds of each class are made for balanced accuracy; their rare rates do not transfer.
    members = np.random.default_rng(0).random((2, 3000)) < 0.5
    given_outputs = outputs(members, gain=3.0, classes=10)
    found = audit(*given_outputs, members, attacks=["modified_entropy"])
    at = found.attacks[0].rate_at(0.001)
    assert at.realised_fpr > 0.002
    assert found.sentence.startswith(
        "An attacker who means to accuse 1 in 1,000 innocents in fact accuses "
        f"{1000 * at.realised_fpr:.2g} in 1,000, and correctly picks out {100 * at.tpr.value:.1f}%"
    )
    usual = audit(*given_outputs, members)
    assert usual.headline == "loss"
    assert usual.attack("loss").rate_at(0.001).realised_fpr <= 0.002
    assert usual.sentence.startswith("An attacker who may accuse 1 in 1,000 innocents correctly")


@pytest.mark.parametrize("missing", [0, 3, 6])
def test_a_model_whose_mate_is_missing_is_left_out_and_named(
    paired_members: PairedMembers, missing: int
) -> None:
    members = paired_members(8, 600)
    logits, labels = outputs(members)
    alone = missing ^ 1
    there = np.delete(np.arange(8), missing)
    found = audit(logits[there], labels, members[there])
    number = int(np.flatnonzero(there == alone)[0])
    assert found.passed, found.checks
    assert found.paired
    assert found.models == 6
    assert found.notes[0].startswith(f"Model {number} has no mate among the others")
    whole = np.delete(np.arange(8), [missing, alone])
    expected = audit(logits[whole], labels, members[whole])
    assert found.sentence == expected.sentence
    for attack, same in zip(found.attacks, expected.attacks, strict=True):
        assert attack.auc == same.auc
        targets = [target.model for target in attack.per_model]
        assert targets == [model for model in range(7) if model != number]


def test_several_models_without_mates_are_named_together(paired_members: PairedMembers) -> None:
    members = paired_members(8, 300)[[0, 1, 2, 3, 4, 6]]
    found = audit(*outputs(members), members, attacks=["rmia"])
    assert found.notes[0].startswith("Models 4 and 5 have no mates among the others")
    assert found.models == 4
    assert found.passed, found.checks


def test_references_that_tell_members_by_their_number_are_not_used(
    paired_members: PairedMembers,
) -> None:
    members = paired_members(8, 800)
    members[[2, 4]] = members[0]
    found = audit(*outputs(members[[0, 1, 2, 4, 6]]), members[[0, 1, 2, 4, 6]])
    assert found.headline == "loss"
    assert found.passed, found.checks
    assert any("tells whether the target was" in one.reason for one in found.skipped)


def test_two_trainings_of_each_split_are_audited_fairly(paired_members: PairedMembers) -> None:
    members = np.repeat(paired_members(8, 800), 2, axis=0)
    found = audit(*outputs(members, gain=2.0), members, attacks=["loss", "lira_online"])
    assert found.passed, found.checks
    assert found.references is not None
    assert (found.references.in_lowest, found.references.in_highest) == (6, 6)
    assert "Student t over 4 splits" in found.attack("lira_online").auc.method


def test_models_of_one_split_are_said_to_count_as_one() -> None:
    members = np.tile(np.random.default_rng(0).random(600) < 0.5, (6, 1))
    found = audit(*outputs(members), members, attacks=["loss"])
    assert any("trained on 1 split of the examples in all" in note for note in found.notes)
    assert found.attack("loss").auc.method == "DeLong over examples"
    assert found.attack("best_threshold").balanced_accuracy.low is None


def test_reasons_count_in_the_singular(paired_members: PairedMembers) -> None:
    two = paired_members(2, 200)
    reasons = {one.attack: one.reason for one in audit(*outputs(two), two).skipped}
    assert reasons["rmia"] == (
        "because it needs 1 other model that trained on an example and as many that did not, "
        "which too few examples have"
    )
    assert reasons["quantile_regression"] == "because it needs 4 pairs of models, and there is 1"


@given(seed=st.integers(0, 10**6), models=st.integers(1, 7), examples=st.integers(4, 9))
@settings(max_examples=40)
def test_tiny_inputs_are_audited_or_refused(seed: int, models: int, examples: int) -> None:
    generator = np.random.default_rng(seed)
    members = generator.random((models, examples)) < 0.5
    if seed % 2:
        members = np.repeat(members, 2, axis=0)[:models]
        members[1::2] ^= True
    counts = members.sum(axis=1)
    given_outputs = outputs(members, classes=2, seed=seed)
    enough = counts.min() >= 2 and counts.max() <= examples - 2
    if enough and len(np.unique(given_outputs[1])) == 1:
        with pytest.raises(InputError, match="every example is of class"):
            audit(*given_outputs, members)
    elif enough:
        found = audit(*given_outputs, members)
        assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()
    else:
        with pytest.raises(InputError, match="at least two members and two others"):
            audit(*given_outputs, members)


def test_the_same_seed_gives_the_same_audit(paired_members: PairedMembers) -> None:
    members = paired_members(16, 200)
    given_outputs = outputs(members)
    assert audit(*given_outputs, members, seed=1) == audit(*given_outputs, members, seed=1)


def test_progress_is_told_to_the_end(paired_members: PairedMembers) -> None:
    members = paired_members(6, 100)
    told: list[tuple[int, int, str]] = []
    audit(*outputs(members), members, progress=lambda *step: told.append(step))
    reading = [what for _, _, what in told if what.startswith("reading")]
    assert reading == [f"reading model {model} of 6" for model in range(1, 7)]
    assert [done for done, _, _ in told] == [0] * 6 + list(range(len(told) - 6))
    assert told[-1][0] == told[-1][1]
    assert told[6][2] == ATTACKS["gap"].label


def case(**changed: Any) -> dict[str, Any]:
    members = np.random.default_rng(0).random((3, 20)) < 0.5
    logits, labels = outputs(members)
    return {"logits": logits, "labels": labels, "members": members, **changed}


@pytest.mark.parametrize(
    ("given_case", "message"),
    [
        (case(labels=np.eye(4, dtype=int)[np.zeros(20, dtype=int)]), "every example is of class 0"),
        (case(labels=np.full(20, 4)), "expected class numbers from 0 to 3"),
        (case(members=np.ones((3, 20), dtype=bool)), "model 0 has 20 members among 20 examples"),
        (case(members=np.zeros(20, dtype=bool)), "model 0 has 0 members"),
        (case(members=np.zeros((2, 20), dtype=bool)), "expected [3, 20] for models and examples"),
        (case(members=np.full((3, 20), 0.5)), "expected true and false, or 1 and 0"),
        (case(members=np.full((3, 20), "yes")), "expected true and false, or 1 and 0"),
        (case(logits=np.zeros((3, 20, 4))), "model 0 says the same of every example"),
        (case(logits=np.full((3, 20, 4), np.nan)), "model 0, example 0 holds NaN"),
        (case(attacks=["lyra"]), "attacks: no attack is called 'lyra', expected some of gap, loss"),
        (case(attacks=[]), "attacks: no attack is named, expected some of gap, loss"),
        (case(pairs=[0, 0, 1]), "leave out models whose mate is missing"),
        (case(pairs=[0, 0, 1]), "each exactly twice"),
        (case(probabilities=True), "probabilities"),
    ],
)
def test_bad_input_gets_one_clear_sentence(given_case: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        audit(**given_case)
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")
