"""The sentence of an audit names the strongest attack, and choosing it does not flatter."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from gossamer.core.errors import InputError
from gossamer.leakage import audit, self_tests, statistics
from gossamer.leakage.attacks import ATTACKS
from gossamer.leakage.notes import strongest_of
from gossamer.records.leakage import Estimate, Leakage
from gossamer.reporting.audit_page import drawn_attacks
from gossamer.stats.intervals import mean_interval, mutual_widening

PairedMembers = Callable[..., NDArray[np.bool_]]


@pytest.fixture(autouse=True)
def few_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_tests, "PERMUTATIONS", 20)


def outputs(
    members: NDArray[np.bool_], gain: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    examples = members.shape[1]
    labels = np.asarray(generator.integers(0, 4, examples), dtype=np.int64)
    logits = generator.normal(size=(*members.shape, 4))
    logits[:, np.arange(examples), labels] += gain * members + 2 * generator.normal(size=examples)
    return logits, labels


@cache
def forests() -> Leakage:
    """Eight pairs of random forests on digits, whose confidences are mostly 0 and 1."""
    images, labels = load_digits(return_X_y=True)
    images, labels = images[:1200], labels[:1200]
    generator = np.random.default_rng(0)
    found: list[NDArray[np.float64]] = []
    members: list[NDArray[np.bool_]] = []
    for _ in range(8):
        half = generator.permutation(len(labels)) < len(labels) // 2
        for side in (half, ~half):
            forest = RandomForestClassifier(12, random_state=len(members))
            found.append(forest.fit(images[side], labels[side]).predict_proba(images))
            members.append(side)
    names = ["gap", "loss", "modified_entropy", "rmia", "base", "lira_offline", "lira_online"]
    return audit(np.stack(found), labels, np.stack(members), probabilities=True, attacks=names)


def test_forests_do_not_hide_behind_an_attack_that_breaks_down() -> None:
    found = forests()
    lira, strongest = found.attack("lira_online"), found.attack(found.strongest)
    # LiRA's Gaussians do not fit confidences of 0 and 1: it finds next to nothing, RMIA much.
    assert found.headline == "lira_online"
    assert lira.rate_at(0.001).tpr.value < 0.02
    assert found.strongest in ("rmia", "base")
    assert strongest.rate_at(0.001).tpr.value > 5 * lira.rate_at(0.001).tpr.value
    at = strongest.rate_at(0.001)
    assert at.together is not None
    assert f"{100 * at.tpr.value:.1f}% of the training examples" in found.sentence
    assert f"({strongest.label}, the strongest of 6 attacks, " in found.sentence
    assert "LiRA, online" in found.headline_sentence
    assert found.warnings[0].startswith("Confidences are saturated: ")
    assert [check.name for check in found.checks][:2] == ["null, strongest attack", "null"]
    assert found.passed, found.checks
    drawn = [attack.name for attack in drawn_attacks(found)]
    assert drawn[:2] == [found.strongest, "lira_online"]
    assert {"rmia", "base", "lira_offline", "modified_entropy", "loss"} <= set(drawn)
    assert "gap" not in drawn


def test_the_interval_of_the_strongest_holds_for_all_that_were_compared(
    paired_members: PairedMembers,
) -> None:
    members = paired_members(8, 1500)
    names = ["gap", "loss", "rmia", "base", "lira_offline", "lira_online"]
    found = audit(*outputs(members, 2.0), members, attacks=names)
    assert found.compared == 5
    for name in names[1:]:
        at = found.attack(name).rate_at(0.01)
        assert at.together is not None
        assert at.tpr.low is not None
        assert at.tpr.high is not None
        assert at.together.value == at.tpr.value
        # Bonferroni: Student's reach at 99% instead of 95%, with three degrees of freedom.
        ends = [at.tpr.low, at.tpr.high, at.together.low, at.together.high]
        if all(0 < end < 1 for end in ends if end is not None):
            values = [0.0, 1.0, 2.0, 3.0]
            ratio = math.prod(
                [
                    mean_interval(values, 0.99).half_width or 0,
                    1 / (mean_interval(values, 0.95).half_width or 1),
                ]
            )
            width = (at.together.high or 0) - (at.together.low or 0)
            assert width == pytest.approx(ratio * (at.tpr.high - at.tpr.low))
    assert mutual_widening(4) > 1


def test_one_attack_needs_no_correction(paired_members: PairedMembers) -> None:
    members = paired_members(8, 400)
    found = audit(*outputs(members), members, attacks=["loss"])
    assert found.attack("loss").rate_at(0.001).together is None
    assert found.headline_sentence == ""


def test_attacks_that_accuse_too_many_are_ranked_by_their_curve(
    paired_members: PairedMembers,
) -> None:
    members = paired_members(8, 400)
    loss, base = audit(*outputs(members), members, attacks=["loss", "base"]).attacks[:2]

    def with_rate(result: object, tpr: float, fpr: float, curve: float) -> object:
        at = loss.rate_at(0.001).model_copy(
            update={
                "tpr": Estimate(value=tpr),
                "realised_fpr": fpr,
                "curve_tpr": Estimate(value=curve),
            }
        )
        return result.model_copy(update={"tpr_at": (loss.tpr_at[0], at)})  # type: ignore[attr-defined]

    honest = with_rate(loss, 0.05, 0.001, 0.04)
    for careless, name in ((with_rate(base, 0.4, 0.02, 0.01), "loss"),
                           (with_rate(base, 0.4, 0.02, 0.3), "base")):  # fmt: skip
        assert strongest_of([honest, careless]) == (name, 2)  # type: ignore[list-item]


def test_nothing_is_named_strongest_where_nothing_can_accuse_rarely(
    paired_members: PairedMembers,
) -> None:
    members = paired_members(4, 200)
    found = audit(*outputs(members), members, attacks=["gap"])
    assert (found.strongest, found.compared) == ("gap", 0)
    assert found.sentence.startswith("Accusing whatever is classified correctly")


# Where attacks break down


def test_models_that_learnt_nothing_are_named(paired_members: PairedMembers) -> None:
    members = paired_members(12, 500)
    logits, labels = outputs(members, 3.0)
    logits[[3, 8]] = np.random.default_rng(1).normal(size=(2, *logits.shape[1:]))
    logits[[3, 8], :, 1] += 5.0
    found = audit(logits, labels, members, attacks=["loss", "rmia"])
    assert any(warning.startswith("Models 3 and 8 are right about") for warning in found.warnings)
    assert not any("saturated" in warning for warning in found.warnings)
    assert found.attack("rmia").auc.low is None
    assert "some references learnt nothing" in found.attack("rmia").auc.method
    assert found.attack("loss").auc.low is not None
    sound = audit(*outputs(members, 3.0), members, attacks=["loss", "rmia"])
    assert sound.attack("rmia").auc.low is not None
    assert sound.warnings == ()


def test_few_references_are_a_warning(paired_members: PairedMembers) -> None:
    members = paired_members(6, 300)
    found = audit(*outputs(members, 3.0), members, attacks=["lira_online"])
    assert found.warnings == (
        "2 references a side are few: an attacker with more models finds more.",
    )


# Temperature


def test_temperature_softens_the_probabilities_of_rmia_and_base(
    paired_members: PairedMembers,
) -> None:
    members = paired_members(8, 400)
    logits, labels = outputs(members, 2.0)
    names = ["loss", "base", "rmia"]
    plain = audit(logits, labels, members, attacks=names)
    warm = audit(logits, labels, members, attacks=names, temperature=2.0)
    divided = audit(logits / 2, labels, members, attacks=names)
    for name in ("base", "rmia"):
        assert warm.attack(name).auc == divided.attack(name).auc
        assert warm.attack(name).auc != plain.attack(name).auc
        assert warm.attack(name).label == f"{ATTACKS[name].label}, temperature 2"
    assert warm.attack("loss") == plain.attack("loss").model_copy()
    assert warm.provenance is not None
    assert warm.provenance.temperature == 2.0
    found = statistics(logits, labels, temperature=2.0)
    np.testing.assert_array_equal(found.margin, statistics(logits / 2, labels).margin)


@pytest.mark.parametrize("temperature", [0, -1.0, math.inf, math.nan, "2"])
def test_a_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(InputError, match="expected a positive number such as 2"):
        audit(np.zeros((4, 2)), [0, 1, 0, 1], [1, 1, 0, 0], temperature=temperature)


# Limits


def with_tpr(found: Leakage, low: float | None, high: float | None, fpr: float = 0.001) -> Leakage:
    """Return an audit of one attack whose true-positive rate has a given interval."""
    attack = found.attack("loss")
    at = attack.rate_at(0.001).model_copy(
        update={"tpr": Estimate(value=0.008, low=low, high=high), "realised_fpr": fpr}
    )
    attack = attack.model_copy(update={"tpr_at": (attack.tpr_at[0], at)})
    return found.model_copy(update={"attacks": (attack,), "non_members": 1000, "unlearnt": 0})


@pytest.mark.parametrize(
    ("low", "high", "fpr", "passed", "words"),
    [
        (0.001, 0.0099, 0.001, True, "Passed: more than 1.00% of the training examples at 0.10%"),
        (0.001, 0.0101, 0.001, False, "cannot be excluded: Loss finds 0.80%, [0.10, 1.01]"),
        (0.0101, 0.02, 0.001, False, "FAILED: more than 1.00% of the training examples at 0.10% "
         "FPR are found"),
        (None, None, 0.001, False, "cannot be excluded: Loss finds 0.80%, which has no interval"),
        (0.0101, 0.02, 0.004, False, "cannot be excluded: Loss finds 0.80%, [1.01, 2.00], at "
         "0.40% FPR in fact"),
        (0.001, 0.0099, 0.004, True, "Passed"),
    ],
)  # fmt: skip
def test_a_limit_holds_if_more_can_be_excluded(
    paired_members: PairedMembers,
    low: float | None,
    high: float | None,
    fpr: float,
    passed: bool,
    words: str,
) -> None:
    members = paired_members(8, 300)
    found = with_tpr(audit(*outputs(members), members, attacks=["loss"]), low, high, fpr)
    judged = found.judge(0.01, 0.001)
    assert judged.passed is passed
    assert words in judged.sentence
    assert (judged.attack, judged.high) == ("Loss", high)
    kept = found.model_copy(update={"judgement": judged})
    assert Leakage.model_validate(kept.to_dict()) == kept


def tpr_of_nobody(found: Leakage, name: str) -> Leakage:
    """Return the audit with one attack alone, which surely finds hardly anybody."""
    attack = found.attack(name)
    rates = tuple(
        at.model_copy(update={"tpr": Estimate(value=0, low=0, high=0.001)}) for at in attack.tpr_at
    )
    attack = attack.model_copy(update={"tpr_at": rates})
    return found.model_copy(update={"attacks": (attack,), "non_members": 5000, "unlearnt": 0})


@pytest.mark.parametrize(
    ("name", "passed"), [("loss", True), ("gap", False), ("modified_entropy", False)]
)
def test_what_cannot_accuse_rarely_or_surely_is_not_enough_to_pass(name: str, passed: bool) -> None:
    judged = tpr_of_nobody(forests(), name).judge(0.01)
    assert judged.passed is passed
    assert ("no attack was run whose interval there can be relied on" in judged.sentence) != passed


def test_an_attack_without_an_interval_by_nature_fails_by_what_it_finds() -> None:
    found, harmless = forests(), tpr_of_nobody(forests(), "loss")
    by_class = found.attack("modified_entropy")
    tpr = by_class.rate_at(0.01).tpr
    assert (tpr.low, tpr.high) == (None, None)
    assert "no interval" in tpr.method
    both = harmless.model_copy(update={"attacks": (*harmless.attacks, by_class)})
    assert both.judge(tpr.value + 0.001, 0.01).passed
    judged = both.judge(tpr.value - 0.001, 0.01)
    assert not judged.passed
    assert "Modified entropy, by class finds" in judged.sentence


def test_models_that_learnt_nothing_and_too_few_examples_rule_nothing_out() -> None:
    found = tpr_of_nobody(forests(), "loss")
    assert found.judge(0.01).passed
    collapsed = found.model_copy(update={"unlearnt": 2}).judge(0.01)
    assert not collapsed.passed
    assert "2 of 16 models answer no better than one class" in collapsed.sentence
    few = found.model_copy(update={"non_members": 999}).judge(0.01)
    assert not few.passed
    assert "999 non-members cannot resolve" in few.sentence
    assert found.model_copy(update={"non_members": 999}).judge(0.01, 0.01).passed


def test_a_pass_says_what_the_audit_warns_of() -> None:
    found = tpr_of_nobody(forests(), "loss")
    assert found.warnings
    assert found.warnings[0].rstrip(".") in found.judge(0.01).sentence


def test_every_attack_must_hold_the_limit() -> None:
    found = forests()
    assert not found.judge(0.02).passed
    assert "RMIA" in found.judge(0.02).sentence or "BASE" in found.judge(0.02).sentence
    assert found.judge(0.99, 0.01).passed
    broken = found.checks[0].model_copy(update={"passed": False})
    failed = found.model_copy(update={"checks": (broken,)})
    assert "a self-test failed" in failed.judge(0.99).sentence
    assert not failed.judge(0.99).passed


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ((0.01, 0.005), "at-fpr: is 0.005, expected a rate of the audit: 0.01 or 0.001"),
        ((0.0005, 0.001), "max-tpr: is 0.0005, expected a share from 0.001"),
        ((1.0, 0.001), "max-tpr: is 1, expected a share"),
        ((math.nan, 0.001), "max-tpr: is nan"),
    ],
)
def test_limits_of_which_an_audit_says_nothing_are_refused(
    limit: tuple[float, float], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        forests().judge(*limit)
