import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core.streams import stream, stream_seed


def test_same_seed_purpose_and_counters_give_the_same_numbers() -> None:
    first, again = stream(3, "shuffle", 7, "a"), stream(3, "shuffle", 7, "a")
    assert (first.random(50) == again.random(50)).all()


@pytest.mark.parametrize(
    ("seed", "purpose", "counters"),
    [
        (4, "shuffle", (7,)),
        (3, "dropout", (7,)),
        (3, "shuffle", (8,)),
        (3, "shuffle", ()),
        (3, "shuffle", (7, 0)),
        (3, "shuffle", ("7",)),
    ],
)
def test_whatever_differs_gives_other_numbers(
    seed: int, purpose: str, counters: tuple[int | str, ...]
) -> None:
    differing = stream(seed, purpose, *counters).random(50)
    assert not (differing == stream(3, "shuffle", 7).random(50)).any()


def test_numpy_integers_and_strings_are_the_numbers_they_hold() -> None:
    plain = stream_seed(3, "shuffle", 7, "a")
    assert stream_seed(int(np.int64(3)), "shuffle", int(np.int64(7)), "a") == plain
    assert stream_seed(np.int64(3), np.str_("shuffle"), np.int64(7), np.str_("a")) == plain  # type: ignore[arg-type]


@given(st.integers(0, 2**31), st.integers(0, 10_000))
def test_seeds_fit_63_bits(seed: int, counter: int) -> None:
    assert 0 <= stream_seed(seed, "shuffle", counter) < 2**63


def test_seeds_are_the_ones_that_published_results_come_from() -> None:
    assert stream_seed(0, "shuffle", 1) == GOLDEN_SEED
    assert stream(0, "shuffle", 1).permutation(8).tolist() == GOLDEN_ORDER


GOLDEN_SEED = 587222049740395985
GOLDEN_ORDER = [6, 1, 2, 7, 3, 4, 5, 0]
