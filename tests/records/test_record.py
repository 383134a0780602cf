import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gossamer.records.record import Environment, Epoch, Layer, Phase, Record

ENVIRONMENT = Environment(
    gossamer="0.1.0",
    python="3.11",
    torch="2.13.0",
    libraries={"numpy": "2.1"},
    processor="one",
    machine="Linux x86_64",
    threads=1,
    device="cpu",
    revision=None,
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(), FINITE), st.dictionaries(st.text(), FINITE), FINITE)
def test_a_record_comes_back_from_json_bit_for_bit(
    measures: dict[str, float], identity: dict[str, Any], accuracy: float
) -> None:
    record = Record(
        key="k",
        identity=identity,
        phases=("p",),
        measures=measures,
        per_class={"test": (accuracy, 0.1)},
        layers=(Layer(name="w", shape=(2, 3), prunable=True, weights=6, nonzero=5, effective=4),),
        seconds=0.1,
        environment=ENVIRONMENT,
    )
    again = Record.model_validate_json(record.model_dump_json())
    assert again == record
    assert repr(again) == repr(record)  # tells -0.0 from 0.0


@given(FINITE, FINITE)
def test_a_phase_comes_back_from_json_bit_for_bit(loss: float, rate: float) -> None:
    epoch = Epoch(epoch=1, rate=rate, train_loss=loss, train_accuracy=0.5, validation_loss=loss)
    phase = Phase(
        key="k",
        parent="p",
        step={"step": "train"},
        precision="float32",
        optimizer_steps=3,
        examples=9,
        seconds=loss,
        stopped=None,
        history=(epoch,),
        environment=ENVIRONMENT,
    )
    assert repr(Phase.model_validate_json(phase.model_dump_json())) == repr(phase)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_json_would_lose_is_refused(number: float) -> None:
    with pytest.raises(ValidationError, match="validation_loss"):
        Epoch(epoch=1, rate=0.1, train_loss=0.1, train_accuracy=0.5, validation_loss=number)


def test_records_are_frozen_and_refuse_unknown_fields() -> None:
    epoch = Epoch(epoch=1, rate=0.1, train_loss=0.1, train_accuracy=0.5)
    with pytest.raises(ValidationError, match="frozen"):
        epoch.rate = 0.2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="colour"):
        Epoch.model_validate({**epoch.model_dump(), "colour": "red"})


def test_records_that_start_alike_share_what_says_so() -> None:
    first, second = (
        Record.model_validate_json(
            Record(
                key=f"k{level}",
                identity={"origin": {"seed": 3}, "steps": [{"epochs": 1}, {"sparsity": level}]},
                phases=(),
                measures={},
                per_class={},
                layers=(),
                seconds=0.1,
                environment=ENVIRONMENT,
            ).model_dump_json()
        )
        for level in (0.5, 0.9)
    )
    assert first.identity["origin"] is second.identity["origin"]
    assert first.identity["steps"][0] is second.identity["steps"][0]
    assert [one.identity["steps"][1]["sparsity"] for one in (first, second)] == [0.5, 0.9]
    assert first.environment is second.environment
