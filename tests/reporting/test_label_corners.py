"""Labels that leave points, bars and each other free."""

from itertools import combinations
from math import cos, radians, sin

from hypothesis import given
from hypothesis import strategies as st

from gossamer.reporting.label_corners import (
    CORNERS,
    FARTHER,
    Box,
    Corner,
    label_box,
    label_corners,
    line_boxes,
    point_box,
)

PLACES = st.lists(st.tuples(st.floats(0, 400), st.floats(0, 300)), max_size=8)


def hidden(
    places: list[tuple[float, float]], texts: list[str], corners: list[Corner], covered: list[Box]
) -> float:
    """Return how much area labels share with each other and with what they should leave free."""
    labels = [
        label_box(*place, text, corner)
        for place, text, corner in zip(places, texts, corners, strict=True)
    ]
    among = sum(one.shared(other) for one, other in combinations(labels, 2))
    return among + sum(label.shared(box) for label in labels for box in covered)


def test_where_there_is_room_labels_stand_at_the_upper_right() -> None:
    places = [(20.0, 20.0), (120.0, 20.0), (220.0, 200.0)]
    corners = label_corners(places, ["30%"] * 3, [point_box(*place) for place in places])
    assert corners == [CORNERS[0]] * 3


def test_labels_of_neighbours_do_not_lie_on_each_other() -> None:
    places = [(100.0, 100.0), (104.0, 98.0), (99.0, 103.0), (103.0, 104.0)]
    covered = [point_box(*place) for place in places]
    assert hidden(places, ["30%"] * 4, [CORNERS[0]] * 4, covered) > 300
    assert hidden(places, ["30%"] * 4, label_corners(places, ["30%"] * 4, covered), covered) == 0


def test_a_label_makes_way_for_a_line() -> None:
    rising = line_boxes((50, 50), (90, 40))
    (corner,) = label_corners([(50.0, 50.0)], ["95%"], rising)
    assert corner == CORNERS[1]
    box = label_box(50, 50, "95%", corner)
    assert not any(box.shared(one) for one in rising)


@given(PLACES)
def test_never_worse_than_all_at_the_upper_right(places: list[tuple[float, float]]) -> None:
    texts = [f"{number}%" for number in range(len(places))]
    covered = [point_box(*place) for place in places]
    before = hidden(places, texts, [CORNERS[0]] * len(places), covered)
    found = label_corners(places, texts, covered)
    assert hidden(places, texts, found, covered) <= before + 1e-6


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7)), unique=True, max_size=12))
def test_labels_of_points_that_stand_apart_hide_nothing(cells: list[tuple[int, int]]) -> None:
    places = [(60.0 * column, 50.0 * row) for column, row in cells]
    covered = [point_box(*place) for place in places]
    corners = label_corners(places, ["97.5%"] * len(places), covered)
    assert hidden(places, ["97.5%"] * len(places), corners, covered) == 0
    assert not set(corners) & set(FARTHER)


@given(st.integers(0, 359))
def test_a_label_leaves_a_line_through_its_point_free(degrees: int) -> None:
    across, down = 60 * cos(radians(degrees)), 60 * sin(radians(degrees))
    line = line_boxes((100 - across, 100 - down), (100 + across, 100 + down))
    (corner,) = label_corners([(100.0, 100.0)], ["50%"], line)
    assert hidden([(100.0, 100.0)], ["50%"], [corner], line) == 0


def test_a_label_goes_farther_where_its_point_is_surrounded() -> None:
    walls = [Box(60, 88, 140, 92), Box(60, 108, 140, 112), Box(80, 80, 92, 120)]
    walls += [Box(108, 80, 120, 120), Box(60, 78, 140, 90)]
    (corner,) = label_corners([(100.0, 100.0)], ["50%"], walls)
    assert corner in FARTHER
