import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core.errors import InputError
from gossamer.stats.matching import value_at

POINTS = st.lists(
    st.tuples(st.integers(1, 50), st.floats(-10, 10)),
    min_size=1,
    max_size=8,
    unique_by=lambda p: p[0],
)


@given(POINTS, st.floats(0, 60))
def test_value_of_a_rising_curve_lies_on_the_segment_around_the_position(
    points: list[tuple[int, float]], position: float
) -> None:
    points = sorted(points)
    found = value_at(position, [x for x, _ in points], [y for _, y in points])
    below = [point for point in points if point[0] <= position]
    above = [point for point in points if point[0] >= position]
    if not below or not above:
        assert found is None
        return
    (x0, y0), (x1, y1) = max(below), min(above)
    share = (position - x0) / (x1 - x0) if x1 > x0 else 0.0
    assert found == pytest.approx(y0 + share * (y1 - y0), abs=1e-9)


@given(POINTS, st.floats(0, 60))
def test_a_falling_curve_is_the_rising_one_read_backwards(
    points: list[tuple[int, float]], position: float
) -> None:
    rising = sorted(points)
    found, turned = (
        value_at(position, [x for x, _ in one], [y for _, y in one])
        for one in (rising, rising[::-1])
    )
    assert (found is None) == (turned is None)
    assert found is None or found == pytest.approx(turned, abs=1e-9)


@given(POINTS)
def test_points_of_a_rising_curve_are_met_exactly(points: list[tuple[int, float]]) -> None:
    rising = sorted(points)
    for x, y in rising:
        for logarithmic in (False, True):
            found = value_at(
                x, [a for a, _ in rising], [b for _, b in rising], logarithmic=logarithmic
            )
            assert found == pytest.approx(y, abs=1e-12)


def test_only_the_first_passage_counts() -> None:
    accuracy, leakage = [0.80, 0.88, 0.86, 0.90], [0.50, 0.54, 0.60, 0.70]
    assert value_at(0.87, accuracy, leakage) == pytest.approx(0.535)
    assert value_at(0.89, accuracy, leakage) == pytest.approx(0.675)
    assert value_at(0.88, accuracy, leakage) == pytest.approx(0.54)
    assert value_at(0.80, accuracy, leakage) == 0.50


def test_counts_are_interpolated_over_their_logarithm() -> None:
    found = value_at(2_000, [1_000, 8_000], [0.0, 3.0], logarithmic=True)
    assert found == pytest.approx(3 * math.log(2) / math.log(8), rel=1e-12)


def test_of_equal_positions_the_first_counts() -> None:
    assert value_at(0.5, [0.5, 0.5, 1.0], [1.0, 3.0, 9.0]) == 1.0
    assert value_at(0.75, [0.5, 0.5, 1.0], [1.0, 3.0, 9.0]) == 6.0


def test_a_curve_without_points_has_no_value() -> None:
    assert value_at(1.0, [], []) is None


def test_unfit_points_are_refused() -> None:
    with pytest.raises(InputError, match="not 2 for 1"):
        value_at(1.0, [1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="no logarithm"):
        value_at(1.0, [0.0, 2.0], [1.0, 2.0], logarithmic=True)
    assert value_at(1.0, [0.0, 2.0], [1.0, 2.0]) == np.float64(1.5)
