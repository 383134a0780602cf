"""Labels that leave points, bars and each other free."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from gossamer.report.label_corners import (
    CORNERS,
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
