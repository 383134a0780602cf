import json

import pytest
from pydantic import ValidationError

from gossamer.core.errors import InputError
from gossamer.records.leakage import (
    AttackResult,
    Check,
    Estimate,
    Leakage,
    Precision,
    RateAt,
    RatePoint,
    Skipped,
    TargetNumbers,
)

RATE = RateAt(
    fpr=0.001,
    realised_fpr=0.0011,
    tpr=Estimate(value=0.02, low=0.01, high=0.03, method="bootstrap over 8 pairs"),
    curve_tpr=Estimate(value=0.02),
    precision=(Precision(prior=0.5, value=0.95), Precision(prior=0.01, value=None)),
)
ATTACK = AttackResult(
    name="lira_online",
    label="LiRA, online",
    source="Carlini et al. 2022",
    requirement="shadow models",
    balanced_accuracy=Estimate(value=0.55),
    advantage=Estimate(value=0.1),
    auc=Estimate(value=0.6),
    tpr_at=(RATE,),
    roc=(RatePoint(fpr=0.001, tpr=0.02), RatePoint(fpr=1.0, tpr=1.0, low=1.0, high=1.0)),
    per_model=(TargetNumbers(model=0, measures={"auc": 0.6}),),
)
LEAKAGE = Leakage(
    models=2,
    examples=100,
    classes=10,
    paired=True,
    references=None,
    headline="lira_online",
    attacks=(ATTACK,),
    checks=(Check(name="null", passed=True, detail=""),),
    exposed=(),
    skipped=(Skipped(attack="rmia", reason="because there are too few models"),),
    notes=("Few.",),
    sentence="An attacker ...",
)


def test_json_holds_all_of_it() -> None:
    assert Leakage.model_validate_json(json.dumps(LEAKAGE.to_dict())) == LEAKAGE


def test_attacks_and_rates_are_found_by_name() -> None:
    assert LEAKAGE.attack("lira_online").rate_at(0.001) == RATE
    with pytest.raises(InputError, match="was skipped, because there are too few models"):
        LEAKAGE.attack("rmia")
    with pytest.raises(InputError, match="not in this audit, which has lira_online"):
        LEAKAGE.attack("gap")
    with pytest.raises(InputError, match=r"evaluated at FPR \[0.001\], not at 0.01"):
        ATTACK.rate_at(0.01)


def test_one_failed_check_fails_the_audit() -> None:
    assert LEAKAGE.passed
    failed = (*LEAKAGE.checks, Check(name="floor", passed=False, detail=""))
    assert not LEAKAGE.model_copy(update={"checks": failed}).passed


def test_values_are_frozen_and_hold_no_nan() -> None:
    with pytest.raises(ValidationError):
        LEAKAGE.models = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Estimate(value=float("nan"))
