import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gossamer.engine.gsm.bfloat16 import from_bfloat16, to_bfloat16

floats = npst.arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32))


@given(floats)
def test_rounding_is_pytorchs(numbers: np.ndarray) -> None:
    expected = torch.tensor(numbers).bfloat16().float().numpy()
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(numbers)), expected)


@given(st.integers(0, 2**16 - 1))
def test_what_is_a_bfloat16_stays_it(bits: int) -> None:
    given = np.array([bits], np.uint16)
    again = to_bfloat16(from_bfloat16(given))
    if np.isnan(from_bfloat16(given))[0]:
        assert np.isnan(from_bfloat16(again))[0]
    else:
        assert again[0] == bits


def test_ties_go_to_even_and_what_is_too_large_overflows() -> None:
    ties = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF], np.uint32).view(np.float32)
    assert to_bfloat16(ties).tolist() == [0x3F80, 0x3F82, 0x3F81, 0x7F80]
