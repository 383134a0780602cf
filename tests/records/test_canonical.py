import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.records.canonical import canonical_json, key_of

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.dictionaries(st.text(), LEAVES.filter(lambda v: v not in (math.inf, -math.inf))))
def test_json_gives_back_the_same_value_bit_for_bit(value: dict[str, Any]) -> None:
    again = json.loads(canonical_json(value))
    assert again == value
    assert canonical_json(again) == canonical_json(value)


def test_order_of_fields_does_not_matter_and_order_of_lists_does() -> None:
    assert key_of({"a": {"x": 1, "y": 2}, "b": 3}) == key_of({"b": 3, "a": {"y": 2, "x": 1}})
    assert key_of({"a": [1, 2]}) != key_of({"a": [2, 1]})


def test_neighbouring_floats_have_different_keys() -> None:
    assert key_of({"a": 0.1}) != key_of({"a": math.nextafter(0.1, 1)})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": [{"b": number}]})


def test_a_key_is_64_hexadecimal_digits_pinned() -> None:
    assert key_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
