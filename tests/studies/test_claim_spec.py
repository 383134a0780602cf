from typing import Any

import pytest

from gossamer.studies.claim_spec import ClaimSpec


@pytest.mark.parametrize(
    ("says", "measure", "margin"),
    [
        ("higher", "test_accuracy", 0.005),
        ("not-lower", "validation_accuracy", 0.005),
        ("lower", "lira_online_auc", 0.01),
        ("on-par", "lira_online_auc", 0.02),
    ],
)
def test_margins_that_matter_are_those_of_the_design(
    says: Any, measure: str, margin: float
) -> None:
    claim = ClaimSpec(name="a", text="", says=says, compare="x", against="y", measure=measure)
    assert claim.resolved().margin == margin
    assert claim.model_copy(update={"margin": 0.3}).resolved().margin == 0.3


def test_what_is_no_fraction_has_the_margin_that_is_given() -> None:
    given: dict[str, Any] = {"name": "a", "text": "", "compare": "x", "against": "y"}
    claim = ClaimSpec(**given, says="lower", measure="bytes_compressed")
    assert claim.lacks_margin
    assert not claim.model_copy(update={"margin": 0.0}).lacks_margin
    assert not ClaimSpec(**given, says="lower").lacks_margin
